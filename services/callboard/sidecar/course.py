"""When a stream's pipeline runs: on demand or always, again after a failure, and how soon. Pure."""

from __future__ import annotations

from enum import Enum

BACK_OFF_MIN_S, BACK_OFF_MAX_S = 0.5, 10.0
"""Before a pipeline that failed is started again; doubled each time."""
STEADY_S = 10.0
"""A pipeline that ran so long begins with the shortest again."""
LINGER_S = 15.0
"""A stream on demand goes on so long without a lease: somebody may come back."""
FRAMELESS_S = 3.0
"""A stream that should play and has no frame for so long is not ready."""
STALLED_S = 10.0
"""And is started anew after so long."""


class Action(Enum):
    """What is to be done now."""

    WAIT = "wait"
    START = "start"
    STOP = "stop"
    RESTART = "restart"


class Course:
    """One stream's. `now` is in seconds and never goes back."""

    def __init__(self, *, on_demand: bool, linger_s: float = LINGER_S) -> None:
        self._on_demand = on_demand
        self._linger_s = linger_s
        self._wanted_at: float | None = None
        """When somebody last wanted it."""
        self._started_at: float | None = None
        self._frame_at: float | None = None
        self._awaited_since: float | None = None
        """Since when it should play without a frame having come."""
        self._back_off_s = BACK_OFF_MIN_S
        self._not_before = float("-inf")
        self.failures = 0
        self.reason = ""
        """Why it failed last; "" once a frame has come again."""

    @property
    def runs(self) -> bool:
        """Whether a pipeline is there."""
        return self._started_at is not None

    def action(self, leases: int, now: float) -> Action:
        """What is to be done, with so many leases held."""
        if not self._wanted(leases, now):
            self._awaited_since = None
            return Action.STOP if self.runs else Action.WAIT
        if self._awaited_since is None:
            self._awaited_since = now
        if self._started_at is None:
            return Action.START if now >= self._not_before else Action.WAIT
        last = max(self._started_at, self._frame_at or self._started_at)
        return Action.RESTART if now - last >= STALLED_S else Action.WAIT

    def started(self, now: float) -> None:
        """A pipeline runs."""
        self._started_at = now

    def frame(self, at: float) -> None:
        """When the newest frame came; before `started`: none did yet."""
        if self._started_at is not None and at > self._started_at and at != self._frame_at:
            self._frame_at = self._awaited_since = at
            self.reason = ""

    def stopped(self) -> None:
        """It was ended because nobody wants it."""
        self._started_at = self._frame_at = None
        self._not_before = float("-inf")
        self._back_off_s = BACK_OFF_MIN_S

    def failed(self, reason: str, now: float) -> None:
        """It has ended by itself, or did not start."""
        steady = self._started_at is not None and now - self._started_at >= STEADY_S
        if steady and self._frame_at is not None:
            self._back_off_s = BACK_OFF_MIN_S
        self._started_at = self._frame_at = None
        self.failures += 1
        self.reason = reason
        self._not_before = now + self._back_off_s
        self._back_off_s = min(2 * self._back_off_s, BACK_OFF_MAX_S)

    def problem(self, now: float) -> str | None:
        """Why it is not ready; None if it is, or need not be."""
        since = self._awaited_since
        if since is None or now - since < FRAMELESS_S:
            return None
        return f"no frame for {now - since:.0f} s" + (f": {self.reason}" if self.reason else "")

    def _wanted(self, leases: int, now: float) -> bool:
        if leases or not self._on_demand:
            self._wanted_at = now
            return True
        return self._wanted_at is not None and now - self._wanted_at < self._linger_s
