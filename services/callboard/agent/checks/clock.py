"""The clock on which time limits of checks run: the event loop's, or one that tests move.

Only TTLs, intervals and critical-too-long limits use it; network time-outs stay on real time.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable
from typing import Protocol


class TimerHandle(Protocol):
    """What `call_at` gives back."""

    def cancel(self) -> None: ...


class Clock(Protocol):
    """Seconds that only grow, and a call when they reach a point."""

    def now(self) -> float: ...

    def call_at(self, when: float, callback: Callable[[], None]) -> TimerHandle: ...


class LoopClock:
    """The running event loop's monotonic clock."""

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def call_at(self, when: float, callback: Callable[[], None]) -> TimerHandle:
        return asyncio.get_running_loop().call_at(when, callback)


class _Timer:
    __slots__ = ("callback", "cancelled")

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class MovableClock:
    """A clock that goes with the event loop's, and jumps when told: `advance(3600)`.

    Timers within the jump fire in order, each seeing the time at which it was due.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._offset = 0.0
        self._pinned: float | None = None
        self._heap: list[tuple[float, int, _Timer]] = []
        self._sequence = itertools.count()
        self._wake: asyncio.TimerHandle | None = None

    def now(self) -> float:
        """Seconds; within a timer's callback, the time at which it was due."""
        return self._loop.time() + self._offset if self._pinned is None else self._pinned

    def call_at(self, when: float, callback: Callable[[], None]) -> TimerHandle:
        """Call back once `when` is reached, by waiting or by `advance`."""
        timer = _Timer(callback)
        heapq.heappush(self._heap, (when, next(self._sequence), timer))
        self._arm()
        return timer

    def advance(self, seconds: float) -> None:
        """Jump ahead; everything that falls due meanwhile is called before this returns."""
        if seconds < 0:
            raise ValueError("a clock does not go back")
        self._run_due(self.now() + seconds)
        self._offset += seconds
        self._arm()

    def _run_due(self, until: float) -> None:
        while self._heap and self._heap[0][0] <= until:
            when, _, timer = heapq.heappop(self._heap)
            if timer.cancelled:
                continue
            self._pinned = when
            try:
                timer.callback()
            finally:
                self._pinned = None

    def _arm(self) -> None:
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
        while self._heap and self._heap[0][2].cancelled:
            heapq.heappop(self._heap)
        if self._heap:
            due = self._heap[0][0] - self._offset
            self._wake = self._loop.call_at(due, self._due)

    def _due(self) -> None:
        self._run_due(self.now())
        self._arm()
