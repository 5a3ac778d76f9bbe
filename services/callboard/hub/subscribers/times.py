"""When readers are looked at: heartbeats, ends of life and of tokens, readers that stand still.

Each reader is in one of as many buckets as a heartbeat has seconds; one bucket has its turn each
second. Who asked for `?beat` has a timer of its own.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from callboard.hub.subscribers.limits import Times
from callboard.serve.fanout import FanOut
from callboard.serve.timerwheel import TimerWheel

if TYPE_CHECKING:
    from callboard.hub.subscribers.reader import Reader

log = logging.getLogger(__name__)

BYE_S = 30.0
"""`hub.bye` comes so long before the end of a token, or earlier."""


class Rounds:
    """See the module."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        wheel: TimerWheel,
        times: Times,
        now: Callable[[], float],
        rng: random.Random,
    ) -> None:
        """`now` is wall time: tokens end by it."""
        self._loop = loop
        self._wheel = wheel
        self._times = times
        self._now = now
        self._rng = rng
        self._turns = FanOut(loop)
        self._buckets: list[set[Reader]] = [set() for _ in range(max(1, int(times.heartbeat_s)))]
        self._next = 0
        self._stalled: set[Reader] = set()
        self._stopped = False
        wheel.add(1.0, self._second)

    def stop(self) -> None:
        """No more rounds."""
        self._stopped = True

    def add(self, reader: Reader) -> None:
        """A reader begins."""
        now = self._loop.time()
        life_s = self._times.life_s * self._rng.uniform(0.8, 1.2)
        reader.ends_at = now + life_s if life_s > 0 else float("inf")
        # the bucket served last: its first heartbeat is a whole one away
        reader.bucket = (self._next - 1) % len(self._buckets)
        self._buckets[reader.bucket].add(reader)
        if reader.subscription.beat_s > 0:
            self._beat_later(reader)
        expires_at = reader.subscription.rights.expires_at
        if expires_at is not None and expires_at - self._now() < reader.ends_at - now + 1.0:
            self._watch_token(reader, expires_at - self._now())

    def discard(self, reader: Reader) -> None:
        """A reader has ended."""
        self._buckets[reader.bucket].discard(reader)
        self._stalled.discard(reader)
        for timer in reader.timers:
            self._wheel.cancel(timer)
        reader.timers = []

    # ------------------------------------------------------------------ standing still

    def stalls(self, reader: Reader) -> None:
        """A reader's connection is full: see whether its client takes anything."""
        reader.moved_at = self._loop.time()
        reader.progress = self._progress(reader)
        self._stalled.add(reader)

    def moves(self, reader: Reader) -> None:
        """Its connection takes bytes again."""
        self._stalled.discard(reader)

    def _look_at_stalled(self, reader: Reader, now: float) -> None:
        if reader not in self._stalled:
            return
        progress = self._progress(reader)
        if progress > reader.progress:
            reader.progress, reader.moved_at = progress, now
        elif now - reader.moved_at >= self._times.stall_s:
            waiting = reader.connection.waiting_bytes()
            told = {"client": reader.subscription.client, "waiting_bytes": waiting}
            log.info("reader cut: it stands still", extra=told)
            reader.cut("stalled")

    @staticmethod
    def _progress(reader: Reader) -> int:
        """Grows while the client's system takes anything: a slow reader moves in the kernel long
        before our own buffer does."""
        taken = reader.connection.acknowledged_bytes()
        return -reader.connection.waiting_bytes() if taken is None else taken

    # ------------------------------------------------------------------ rounds

    def _second(self) -> None:
        if self._stopped:
            return
        self._wheel.add(1.0, self._second)
        now = self._loop.time()
        for reader in self._buckets[self._next]:
            self._turns.post(partial(self._visit, reader, now))
        self._next = (self._next + 1) % len(self._buckets)
        for reader in self._stalled:
            self._turns.post(partial(self._look_at_stalled, reader, now))

    def _visit(self, reader: Reader, now: float) -> None:
        if reader.ends_at <= now:
            reader.say_good_bye("life", 0.0)
        elif reader.subscription.beat_s <= 0:
            reader.keep_alive()

    def _beat_later(self, reader: Reader) -> None:
        timers = reader.timers

        def beat() -> None:
            timers.remove(timer)
            if reader.timers is timers:
                reader.beat()
                self._beat_later(reader)

        timer = self._wheel.add(reader.subscription.beat_s, beat)
        timers.append(timer)

    def _watch_token(self, reader: Reader, left_s: float) -> None:
        warned_s = max(0.0, left_s - BYE_S - self._rng.uniform(0.0, 10.0))
        warn = self._wheel.add(
            warned_s, lambda: reader.say_good_bye("token", max(0.001, left_s - warned_s))
        )
        end = self._wheel.add(max(0.0, left_s), lambda: reader.say_good_bye("token", 0.0))
        reader.timers += [warn, end]
