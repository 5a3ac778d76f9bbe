"""A track's timestamps: the source's go on as ours, whatever it does to its clock. Pure."""

from __future__ import annotations

from typing import NamedTuple

from callboard.media.rtp import distance, near

BACK_MAX_S = 1.0
"""Frames out of order (B-frames) go back by less."""
AHEAD_MAX_S = 10.0
"""A step that is longer than this, and than the time that went by, is a clock set anew."""

_BITS = 32


class Clock(NamedTuple):
    """A moment, as a sender report tells it."""

    ntp_time: int
    """64 bits: seconds since 1900 in 32.32 fixed point (RFC 3550, 4)."""
    timestamp: int
    """In the track's timestamps, never wrapped."""


class Timeline:
    """Which timestamp a packet of the source gets."""

    def __init__(self, clock_rate: int) -> None:
        self.newest = 0
        """Ours, the highest so far."""
        self.clock: Clock | None = None
        """What the source's last report said; None: none that still holds."""
        self._clock_rate = clock_rate
        self._back_max = round(BACK_MAX_S * clock_rate)
        self._ahead_max = round(AHEAD_MAX_S * clock_rate)
        self._source = 0
        """The source's, of the last packet in order; never wrapped."""
        self._shift = 0
        """Ours less the source's."""
        self._heard_at: float | None = None

    def begin(self, timestamp: int, now: float) -> int:
        """The source's clock begins, anew perhaps; ours goes on by the time that went by."""
        if self._heard_at is not None:
            elapsed = round((now - self._heard_at) * self._clock_rate)
            self.newest += max(1, elapsed)
        self._source = timestamp
        self._shift = self.newest - timestamp
        self._heard_at = now
        self.clock = None
        return self.newest

    def take(self, timestamp: int, now: float) -> int | None:
        """Ours, for the next packet in order; None if the source's clock was set anew: `begin`."""
        step = distance(timestamp, self._source & 0xFFFFFFFF, _BITS)
        if step > self._ahead_max or step < -self._back_max:
            if step < 0 or self._heard_at is None:
                return None
            if step - (now - self._heard_at) * self._clock_rate > self._ahead_max:
                return None
        self._heard_at = now
        self._source += step
        ours = self._source + self._shift
        self.newest = max(self.newest, ours)
        return ours

    def take_late(self, timestamp: int) -> int | None:
        """Ours, for a packet that is behind; None if it is of another clock."""
        ours = self.at(timestamp)
        return ours if abs(ours - self.newest) <= self._ahead_max else None

    def at(self, timestamp: int) -> int:
        """Ours, for a timestamp of the source near the newest one."""
        return near(timestamp, self._source, _BITS) + self._shift

    def report(self, ntp_time: int, timestamp: int) -> None:
        """The source says what time it was at a timestamp of its own."""
        self.clock = Clock(ntp_time, self.at(timestamp))
