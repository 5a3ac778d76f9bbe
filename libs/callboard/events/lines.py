"""The events of a stream of JSON lines (`application/x-ndjson`): a hub's other format. Pure.

A line is an object: `type`, `data`, and where they are known `id`, `topics`, `time` (milliseconds
since 1970). Empty lines keep the connection alive.
"""

from __future__ import annotations

import json
import re

from callboard.events.parser import EVENT_BYTES_MAX, Event, EventTooLong

_SURROGATE = re.compile("[\ud800-\udfff]")


class BadLine(ValueError):
    """A line that is no event."""


class LineParser:
    """One connection's stream, like `Parser`. A line that has not ended is no event."""

    def __init__(self, last_event_id: str = "", *, event_bytes_max: int = EVENT_BYTES_MAX) -> None:
        """`last_event_id` is where an earlier connection stood."""
        self.last_event_id = last_event_id
        self.retry_ms: None = None
        """The format tells none; the hub's own events do, in their data."""
        self._bytes_max = event_bytes_max
        self._line = bytearray()
        self._problem: ValueError | None = None

    def feed(self, chunk: bytes) -> list[Event]:
        """Take the next bytes; the events that they complete. Raises EventTooLong, BadLine; with
        events in hand it answers them, and raises at the next call."""
        events: list[Event] = []
        lines = chunk.split(b"\n") if self._problem is None else [b""]
        rest = lines.pop()
        try:
            for line in lines:
                whole = bytes(self._line) + line
                self._line.clear()
                self._limit(len(whole))
                if whole.strip():
                    events.append(self._event(whole))
            self._line += rest
            self._limit(len(self._line))
        except ValueError as problem:
            self._problem = problem
        if self._problem is not None and not events:
            raise self._problem
        return events

    def _limit(self, size: int) -> None:
        if size > self._bytes_max:
            raise EventTooLong(f"an event is longer than {self._bytes_max} bytes")

    def _event(self, line: bytes) -> Event:
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError) as problem:
            raise BadLine(f"a line of the stream is no JSON: {problem}") from problem
        data = _text(fields.get("data")) if isinstance(fields, dict) else None
        if data is None:
            raise BadLine("a line of the stream is no event")
        id, topics, time = _text(fields.get("id")), fields.get("topics"), fields.get("time")
        if not isinstance(topics, list):
            topics = []
        if id is not None:
            self.last_event_id = id
        return Event(
            data=data,
            type=_text(fields.get("type")) or "message",
            id=self.last_event_id,
            id_given=id is not None,
            topics=tuple(topic for topic in map(_text, topics) if topic is not None),
            time_ms=time if isinstance(time, int) else None,
        )


def _text(value: object) -> str | None:
    """A text that can be encoded again: JSON's escapes may be halves of a surrogate pair."""
    return value if isinstance(value, str) and not _SURROGATE.search(value) else None
