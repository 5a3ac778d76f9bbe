"""What sender reports tell viewers: which timestamp is which moment (RFC 3550, 6.4.1). Pure.

Lip-sync needs the tracks' reports to be of one clock: the source's own if it has told it of all its
tracks, else the time of arrival.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from callboard.gateway.stream.track import Track

NTP_EPOCH_S = 2_208_988_800
"""From 1900 to 1970."""
_FRACTION = 1 << 32


@dataclass(frozen=True, slots=True)
class ReportClock:
    """What a report tells of a track."""

    ntp: int
    """64 bits."""
    timestamp: int
    """The track's own, not wrapped."""


def report_clocks(tracks: Sequence[Track], now: float, wall: float) -> list[ReportClock | None]:
    """One for each track; None for a track of which nothing has come. `wall` is seconds since
    1970, `now` the clock of `Track.take`."""
    told = [track.clock() for track in tracks]
    known = [clock for clock in told if clock is not None]
    if not known or len(known) < len(told):
        return [_by_arrival(track, now, wall) for track in tracks]
    # the moment of what came last: it goes on with the media, so that no two reports are the same
    moment = max(
        clock.ntp_time + ntp_span(track.newest_timestamp - clock.timestamp, track.format.clock_rate)
        for track, clock in zip(tracks, known, strict=True)
    )
    return [
        ReportClock(
            moment % (1 << 64),
            clock.timestamp + _ticks(moment - clock.ntp_time, track.format.clock_rate),
        )
        for track, clock in zip(tracks, known, strict=True)
    ]


def _by_arrival(track: Track, now: float, wall: float) -> ReportClock | None:
    seen = track.presence.last_seen
    if seen is None:
        return None
    return ReportClock(ntp_of(wall - (now - seen)), track.newest_timestamp)


def _ticks(ntp_span: int, clock_rate: int) -> int:
    return ntp_span * clock_rate // _FRACTION


def ntp_span(ticks: int, clock_rate: int) -> int:
    """A span of a clock in units of NTP timestamps, 2⁻³² s."""
    return ticks * _FRACTION // clock_rate


def ntp_of(wall: float) -> int:
    """Seconds since 1970 as an NTP timestamp of 64 bits (RFC 3550, 4)."""
    return round((wall + NTP_EPOCH_S) * _FRACTION) % (1 << 64)
