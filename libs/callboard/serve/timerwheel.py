"""One timer for every wait of a server: deadlines are put into slots of a few milliseconds.

A loop timer for each of 10,000 parked requests would cost a heap operation for each start and
cancel; here both are a set operation, and an idle wheel never wakes the process. Deadlines are
rounded up to the slot, so a timer never fires early and at most one slot late.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections import deque
from collections.abc import Callable

log = logging.getLogger(__name__)

BATCH = 512
"""Callbacks per turn of the event loop, when very many are due at once."""


class Timer:
    """One pending callback; keep it to cancel it."""

    __slots__ = ("callback", "slot")

    def __init__(self, slot: int, callback: Callable[[], None]) -> None:
        self.slot = slot
        self.callback: Callable[[], None] | None = callback


class TimerWheel:
    """Calls back once after a delay, on the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, slot_s: float = 0.01) -> None:
        self._loop = loop
        self._slot_s = slot_s
        self._slots: dict[int, set[Timer]] = {}
        self._order: list[int] = []
        self._handle: asyncio.TimerHandle | None = None
        self._armed = 0
        self._due: deque[Timer] = deque()

    def __len__(self) -> int:
        """Pending timers (for tests and metrics; walks the slots)."""
        return sum(map(len, self._slots.values())) + len(self._due)

    def add(self, delay_s: float, callback: Callable[[], None]) -> Timer:
        """Call `callback` in `delay_s` seconds or up to one slot later."""
        slot = int((self._loop.time() + max(0.0, delay_s)) / self._slot_s) + 1
        timer = Timer(slot, callback)
        members = self._slots.get(slot)
        if members is None:
            self._slots[slot] = {timer}
            heapq.heappush(self._order, slot)
            if self._handle is None or slot < self._armed:
                self._arm(slot)
        else:
            members.add(timer)
        return timer

    def cancel(self, timer: Timer) -> None:
        """Forget a timer; harmless if it has fired or was cancelled."""
        timer.callback = None
        members = self._slots.get(timer.slot)
        if members is not None:
            members.discard(timer)

    def close(self) -> None:
        """Forget all timers."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self._slots.clear()
        self._order.clear()
        self._due.clear()

    def _arm(self, slot: int) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._armed = slot
        self._handle = self._loop.call_at(slot * self._slot_s, self._turn)

    def _turn(self) -> None:
        self._handle = None
        now = int(self._loop.time() / self._slot_s + 1e-6)
        while self._order and self._order[0] <= max(now, self._armed):
            self._due.extend(self._slots.pop(heapq.heappop(self._order), ()))
        self._fire()
        while self._order and not self._slots.get(self._order[0]):
            self._slots.pop(heapq.heappop(self._order), None)
        if self._order and (self._handle is None or self._order[0] < self._armed):
            self._arm(self._order[0])

    def _fire(self) -> None:
        for _ in range(min(BATCH, len(self._due))):
            timer = self._due.popleft()
            callback, timer.callback = timer.callback, None
            if callback is None:
                continue
            try:
                callback()
            except Exception:
                log.exception("timer callback failed")
        if self._due:
            self._loop.call_soon(self._fire)
