"""Where a body ends (RFC 9112, section 6), without touching its bytes. Pure.

A relay must know when a request or an answer is over, to use both connections again. It passes
chunks on as they come, so this only looks; what two readers could understand differently is
refused.
"""

from __future__ import annotations

import re
from typing import Protocol

CHUNK_LINE_BYTES_MAX = 1024
"""Of a chunk's size with its extensions."""
TRAILER_BYTES_MAX = 16 * 1024
_HEX = frozenset(b"0123456789abcdefABCDEF")
_WHOLE = re.compile(rb"([0-9A-Fa-f]{1,15})\r\n")
_TRAILER = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\0-\x08\x0a-\x1f\x7f]*\r\n")


class BadBody(ValueError):
    """A body that does not keep to its framing; the connection cannot go on."""


class Body(Protocol):
    """Finds the end of one body."""

    @property
    def done(self) -> bool:
        """Whether the end was seen."""

    def take(self, data: bytes) -> int:
        """How many of the next bytes belong to the body. Raises BadBody."""


class Nothing:
    """No body."""

    done = True

    def take(self, data: bytes) -> int:
        """None of them."""
        return 0


class Length:
    """A body of a known number of bytes."""

    def __init__(self, length: int) -> None:
        self._left = length

    @property
    def done(self) -> bool:
        """Whether all bytes were seen."""
        return self._left == 0

    def take(self, data: bytes) -> int:
        """As many as are left."""
        taken = min(self._left, len(data))
        self._left -= taken
        return taken


class UntilClose:
    """A body that ends with its connection."""

    done = False

    def take(self, data: bytes) -> int:
        """All of them."""
        return len(data)


class Chunked:
    """A body in chunks: sizes are followed, extensions and trailers pass."""

    def __init__(self) -> None:
        self._left = 0
        """Bytes of the chunk's data, its line end included."""
        self._line = bytearray()
        self._trailer = 0
        """Bytes of the trailer so far; it begins after the chunk of size 0."""
        self._in_trailer = False
        self.done = False

    def take(self, data: bytes) -> int:
        """Bytes up to the end of the trailer. Raises BadBody."""
        position = 0
        if not (self._left or self._line or self._in_trailer):
            whole = _WHOLE.match(data)  # an event of a stream is one chunk, and comes as one piece
            size = int(whole[1], 16) if whole is not None else 0
            if size and whole and len(data) == whole.end() + size + 2 and data.endswith(b"\r\n"):
                return len(data)
        while position < len(data) and not self.done:
            if self._left:
                position = self._skip_data(data, position)
            else:
                position = self._take_line(data, position)
        return position

    def _skip_data(self, data: bytes, position: int) -> int:
        """Through a chunk's data and the CR LF behind it."""
        step = min(self._left, len(data) - position)
        # of the last two bytes those that are here must be the line end
        for back in range(2, 0, -1):
            at = position + self._left - back
            if position <= at < position + step and data[at] != b"\r\n"[2 - back]:
                raise BadBody("a chunk is longer than its size")
        self._left -= step
        return position + step

    def _take_line(self, data: bytes, position: int) -> int:
        end = data.find(b"\n", position)
        stop = len(data) if end < 0 else end + 1
        self._line += data[position:stop]
        limit = TRAILER_BYTES_MAX if self._in_trailer else CHUNK_LINE_BYTES_MAX
        if len(self._line) + self._trailer > limit:
            raise BadBody("a chunk's size or the trailer is too long")
        if end < 0:
            return stop
        line = bytes(self._line)
        self._line.clear()
        if not line.endswith(b"\r\n") or b"\r" in line[:-2]:
            raise BadBody("a line of the chunked coding does not end with CR LF")
        if self._in_trailer:
            self._trailer += len(line)
            self.done = line == b"\r\n"
            if not self.done and not _TRAILER.fullmatch(line):
                raise BadBody("malformed trailer field")
        else:
            self._begin(line[:-2])
        return stop

    def _begin(self, line: bytes) -> None:
        size = line.partition(b";")[0]
        if not 0 < len(size) <= 15 or not _HEX.issuperset(size):
            raise BadBody("malformed chunk size")
        length = int(size, 16)
        if length:
            self._left = length + 2
        else:
            self._in_trailer = True
