"""Which media events are told, and when: viewer counts joined, keyframes thinned out. Pure.

One event is one JSON object, on the topic /media/streams/NAME:

    {"event": "up", "stream": "test-pattern", "at": "2026-11-26T14:00:00.000Z", …}

| event | when | further fields |
|---|---|---|
| up, down | a stream comes or goes | title; reason |
| viewers | their number changed, at most once a second | viewers |
| keyframe | one came, at most once in 5 s | keyframes: since the stream came up |
| bitrate | every 10 s, while it is up | bits_per_second |
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote

TOPIC = "/media/streams/"
VIEWERS_INTERVAL_S = 1.0
KEYFRAME_INTERVAL_S = 5.0
BITRATE_INTERVAL_S = 10.0

NEVER = float("-inf")


@dataclass(frozen=True, slots=True)
class Reading:
    """What a stream is at one moment; counts only grow while it is up."""

    name: str
    title: str
    online: bool
    viewers: int
    keyframes: int
    octets: int
    """Received, of RTP."""
    reason: str = ""
    """Why it is not online."""


@dataclass(frozen=True, slots=True)
class MediaEvent:
    """One event."""

    topic: str
    data: str
    """JSON."""


@dataclass(slots=True)
class _Told:
    """What was told of one stream."""

    online: bool = False
    viewers: int = 0
    viewers_at: float = NEVER
    keyframes: int = 0
    """When it came up: those before do not count."""
    keyframes_told: int = 0
    keyframe_at: float = NEVER
    octets: int = 0
    bitrate_at: float = 0.0
    seen: bool = True


class MediaEvents:
    """Makes events of what is read from the streams, a few times a second."""

    def __init__(self) -> None:
        self._told: dict[str, _Told] = {}

    def take(self, readings: Iterable[Reading], now: float, wall: float) -> list[MediaEvent]:
        """The events since the last call. `now` is monotonic, `wall` seconds since 1970; a stream
        that is not among the readings any more has gone."""
        events: list[MediaEvent] = []
        for told in self._told.values():
            told.seen = False
        for reading in readings:
            told = self._told.setdefault(reading.name, _Told())
            told.seen = True
            events += [
                event_of(reading.name, kind, wall, **fields)
                for kind, fields in self._changes(told, reading, now)
            ]
        for name, told in list(self._told.items()):
            if not told.seen:
                del self._told[name]
                if told.online:
                    events.append(event_of(name, "down", wall, reason="the stream has gone"))
        return events

    def _changes(
        self, told: _Told, reading: Reading, now: float
    ) -> Iterator[tuple[str, dict[str, object]]]:
        if reading.online != told.online:
            told.online = reading.online
            if reading.online:
                told.keyframes = told.keyframes_told = reading.keyframes
                told.keyframe_at = NEVER
                told.octets, told.bitrate_at = reading.octets, now
                yield "up", {"title": reading.title}
            else:
                yield "down", {"reason": reading.reason}
        if reading.viewers != told.viewers and now >= told.viewers_at + VIEWERS_INTERVAL_S:
            told.viewers, told.viewers_at = reading.viewers, now
            yield "viewers", {"viewers": reading.viewers}
        if not reading.online:
            return
        if reading.keyframes < told.keyframes_told:  # another source's, which counts from 0
            told.keyframes = told.keyframes_told = 0
        newer = reading.keyframes > told.keyframes_told
        if newer and now >= told.keyframe_at + KEYFRAME_INTERVAL_S:
            told.keyframes_told, told.keyframe_at = reading.keyframes, now
            yield "keyframe", {"keyframes": reading.keyframes - told.keyframes}
        span_s = now - told.bitrate_at
        if span_s >= BITRATE_INTERVAL_S:
            bits = 8 * max(0, reading.octets - told.octets)
            told.octets, told.bitrate_at = reading.octets, now
            yield "bitrate", {"bits_per_second": round(bits / span_s)}


def event_of(stream: str, kind: str, wall: float, **fields: object) -> MediaEvent:
    """One event of a stream; its name is percent-encoded in the topic."""
    moment = datetime.fromtimestamp(wall, UTC)
    at = moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
    data = {"event": kind, "stream": stream, "at": at, **fields}
    return MediaEvent(TOPIC + quote(stream, safe=""), json.dumps(data, separators=(",", ":")))
