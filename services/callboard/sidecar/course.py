"""When a stream's pipeline runs: on demand or always, again after a failure, and how soon. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

BACK_OFF_MIN_S, BACK_OFF_MAX_S = 0.5, 10.0
"""Before a pipeline that failed is started again; doubled each time."""
STEADY_S = 10.0
"""A pipeline that ran so long begins with the shortest again."""
LINGER_S = 15.0
"""A stream on demand goes on so long without a lease: somebody may come back."""
FRAMELESS_S = 3.0
"""A stream that should play and has no frame for so long is not ready, nor is one of whose tracks
one has none."""
STALLED_S = 10.0
"""One that has no frame of any track is started anew after so long. A track that is missed beside
others is told, not started anew: that would take the others away, and seldom bring it."""


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
        self._tracks: Mapping[str, float] = {}
        """When each track last brought a frame, or had none to bring; before `started`: never."""
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

    def frame(self, at: float, tracks: Mapping[str, float] | None = None) -> None:
        """When the newest frame came; before `started`: none did yet. And when each of the tracks
        last brought one, or had none to bring."""
        self._tracks = tracks or {}
        if self._started_at is not None and at > self._started_at and at != self._frame_at:
            self._frame_at = self._awaited_since = at
            self.reason = ""

    def stopped(self) -> None:
        """It was ended because nobody wants it, or to begin anew at once."""
        self._ended()
        self._not_before = float("-inf")
        self._back_off_s = BACK_OFF_MIN_S

    def failed(self, reason: str, now: float) -> None:
        """It has ended by itself, or did not start."""
        steady = self._started_at is not None and now - self._started_at >= STEADY_S
        if steady and self._frame_at is not None:
            self._back_off_s = BACK_OFF_MIN_S
        self._ended()
        self.failures += 1
        self.reason = reason
        self._not_before = now + self._back_off_s
        self._back_off_s = min(2 * self._back_off_s, BACK_OFF_MAX_S)

    def problem(self, now: float) -> str | None:
        """Why it is not ready; None if it is, or need not be. May be asked by any thread."""
        since, started_at, tracks = self._awaited_since, self._started_at, self._tracks
        if since is None:
            return None
        if now - since >= FRAMELESS_S:
            return f"no frame for {now - since:.0f} s" + (f": {self.reason}" if self.reason else "")
        if started_at is None:
            return None
        for id in _missing(tracks, started_at, now, FRAMELESS_S):
            for_s = "yet" if tracks[id] <= started_at else f"for {now - tracks[id]:.0f} s"
            return f"no frame of track {id} {for_s}"
        return None

    def missing(self, now: float, for_s: float = FRAMELESS_S) -> tuple[str, ...]:
        """The tracks that have brought nothing for so long."""
        started_at = self._started_at
        return () if started_at is None else _missing(self._tracks, started_at, now, for_s)

    def _ended(self) -> None:
        self._started_at = self._frame_at = None
        self._tracks = {}

    def _wanted(self, leases: int, now: float) -> bool:
        if leases or not self._on_demand:
            self._wanted_at = now
            return True
        return self._wanted_at is not None and now - self._wanted_at < self._linger_s


def _missing(
    tracks: Mapping[str, float], started_at: float, now: float, for_s: float
) -> tuple[str, ...]:
    return tuple(id for id, at in tracks.items() if now - max(at, started_at) >= for_s)
