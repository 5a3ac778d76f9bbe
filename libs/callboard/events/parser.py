"""Server-sent events from bytes, cut anywhere. Pure.

Source: WHATWG HTML, 9.2.5 and 9.2.6. Lines end with CRLF, LF or CR there and with nothing else, so
bytes are cut at those alone, and each line is decoded by itself: no UTF-8 sequence holds one.
"""

from __future__ import annotations

from dataclasses import dataclass

BOM = b"\xef\xbb\xbf"
EVENT_BYTES_MAX = 16 << 20
"""Longest event taken, unless one says otherwise: a catalog's value may be megabytes."""
RETRY_MS_MAX = (1 << 63) - 1

_CR = 0x0D
_LF = 0x0A


class EventTooLong(ValueError):
    """An event is longer than the parser takes; nothing after it can be read."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event as it was dispatched."""

    data: str
    """Its data lines, joined by LF."""
    type: str = "message"
    id: str = ""
    """The last id at that time: its own, or an earlier event's."""
    retry_ms: int | None = None
    """The reconnection time that came with it."""
    id_given: bool = False
    """Whether the id is its own."""
    topics: tuple[str, ...] = ()
    """What it was published to; of streams of JSON lines alone, server-sent events do not tell."""
    time_ms: int | None = None
    """When: wall time since 1970; of streams of JSON lines alone."""


class Parser:
    """One connection's stream. What is not ended by a blank line is never dispatched."""

    def __init__(self, last_event_id: str = "", *, event_bytes_max: int = EVENT_BYTES_MAX) -> None:
        """`last_event_id` is where an earlier connection stood."""
        self.last_event_id = last_event_id
        """Of the last block that ended, whether it had data or not: where to resume."""
        self.retry_ms: int | None = None
        """The reconnection time that the server asked for last."""
        self._bytes_max = event_bytes_max
        self._begun = b""
        """The first bytes, while they may still become a byte order mark."""
        self._beginning = True
        self._after_cr = False
        self._line = bytearray()
        """The line that has not ended."""
        self._too_long = False
        self._id = last_event_id
        self._id_given = False
        self._type = ""
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._event_retry_ms: int | None = None

    def feed(self, chunk: bytes) -> list[Event]:
        """Take the next bytes; the events that they complete.

        Raises EventTooLong; with events in hand it answers them, and raises at the next call.
        """
        if self._too_long:
            raise EventTooLong(f"an event is longer than {self._bytes_max} bytes")
        events: list[Event] = []
        for line in self._lines(chunk):
            if self._data_bytes + len(line) > self._bytes_max:
                self._too_long = True
                break
            if line:
                self._field(line)
            else:
                self._blank(events)
        if self._data_bytes + len(self._line) > self._bytes_max:
            self._too_long = True
        if self._too_long and not events:
            return self.feed(b"")
        return events

    def _lines(self, chunk: bytes) -> list[bytes]:
        """The lines that a chunk ends, without their ends."""
        if self._beginning:
            chunk = self._begun + chunk
            if len(chunk) < len(BOM) and BOM.startswith(chunk):
                self._begun = chunk
                return []
            self._beginning, self._begun = False, b""
            chunk = chunk.removeprefix(BOM)
        if not chunk:
            return []
        if self._after_cr and chunk[0] == _LF:
            chunk = chunk[1:]
            self._after_cr = False
            if not chunk:
                return []
        self._after_cr = chunk[-1] == _CR
        if b"\r" in chunk:
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        lines = chunk.split(b"\n")
        rest = lines.pop()
        if lines and self._line:
            lines[0] = bytes(self._line) + lines[0]
            self._line.clear()
        self._line += rest
        return lines

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if value[:1] == b" ":
            value = value[1:]
        if name == b"data":
            self._data.append(value)
            self._data_bytes += len(value) + 1
        elif name == b"id":
            if b"\0" not in value:
                self._id = value.decode("utf-8", "replace")
                self._id_given = True
        elif name == b"event":
            self._type = value.decode("utf-8", "replace")
        elif name == b"retry" and value.isdigit():
            # so many digits that they are no time are not turned into a number at all
            digits = value.lstrip(b"0") or b"0"
            self.retry_ms = min(int(digits), RETRY_MS_MAX) if len(digits) < 20 else RETRY_MS_MAX
            self._event_retry_ms = self.retry_ms

    def _blank(self, events: list[Event]) -> None:
        """The end of a block: commit its id; dispatch it, if it has data."""
        self.last_event_id = self._id
        if self._data:
            events.append(
                Event(
                    b"\n".join(self._data).decode("utf-8", "replace"),
                    self._type or "message",
                    self._id,
                    self._event_retry_ms,
                    self._id_given,
                )
            )
            self._data = []
            self._data_bytes = 0
        self._type = ""
        self._id_given = False
        self._event_retry_ms = None
