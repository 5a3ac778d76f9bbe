"""A disk that completes writes in order, late, and loses un-synced ones when the power goes.

What is on it is a state object of the caller's; a write is a change to that object. A crash keeps
some prefix of what was not yet completed: the platter may be ahead of what was reported, never
behind.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from tests.harness.simulation.schedule import Schedule

State = TypeVar("State")
Change = Callable[[State], None]
Done = Callable[[], None]


class WritesInOrder(Protocol[State]):
    """What a simulated member needs of its disk."""

    state: State

    @property
    def busy(self) -> bool:
        """True while a write is not completed."""

    def write(self, change: Change[State], done: Done) -> None:
        """Make `change` durable, after all earlier ones; then call `done`."""

    def crash(self) -> None:
        """The power goes."""


class Platter(Generic[State]):
    """The part all disks share: writes wait in order, and a crash keeps some prefix of them."""

    def __init__(self, rng: random.Random, state: State) -> None:
        self.state = state
        """What is durable."""
        self._rng = rng
        self._waiting: deque[tuple[Change[State], Done]] = deque()

    @property
    def busy(self) -> bool:
        """True while a write is not completed."""
        return bool(self._waiting)

    def write(self, change: Change[State], done: Done) -> None:
        """Make `change` durable, after all earlier ones; then call `done`."""
        self._waiting.append((change, done))

    def complete_one(self) -> None:
        """The oldest write is durable."""
        change, done = self._waiting.popleft()
        change(self.state)
        done()

    def crash(self) -> None:
        """The power goes: some of what was under way made it, in order, unreported."""
        for change, _ in list(self._waiting)[: self._rng.randrange(len(self._waiting) + 1)]:
            change(self.state)
        self._waiting.clear()


class Disk(Platter[State]):
    """A disk under a schedule: one sync at a time, of all that waited when it began."""

    def __init__(
        self,
        schedule: Schedule,
        rng: random.Random,
        state: State,
        latency_s: tuple[float, float] = (0.0001, 0.001),
    ) -> None:
        super().__init__(rng, state)
        self.latency_s = latency_s
        self._schedule = schedule
        self._syncing = False
        self._stalled_until = 0.0
        self._epoch = 0

    def write(self, change: Change[State], done: Done) -> None:
        """Make `change` durable with the next sync; then call `done`."""
        super().write(change, done)
        self._sync()

    def _sync(self) -> None:
        if self._syncing or not self._waiting:
            return
        self._syncing = True
        delay = self._rng.uniform(*self.latency_s)
        delay += max(0.0, self._stalled_until - self._schedule.now)
        epoch, count = self._epoch, len(self._waiting)
        self._schedule.after(delay, lambda: self._complete(epoch, count))

    def _complete(self, epoch: int, count: int) -> None:
        for _ in range(count):
            if epoch != self._epoch:
                return  # the power went, also while the ones before were being told
            self.complete_one()
        self._syncing = False
        self._sync()

    def stall(self, seconds: float) -> None:
        """No sync that begins within `seconds` ends before they are over."""
        self._stalled_until = self._schedule.now + seconds

    def crash(self) -> None:
        """The power goes."""
        super().crash()
        self._epoch += 1
        self._syncing = False
