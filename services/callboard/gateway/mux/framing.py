"""Packets on a connection (RFC 4571, 2): each behind its length, 16 bits."""

from __future__ import annotations

from collections.abc import Iterator

FRAME_BYTES_MAX = 2048
"""Of one packet; what browsers send fits an Ethernet frame."""
HEAD_BYTES = 2
_BUFFER_BYTES = 4 * (FRAME_BYTES_MAX + HEAD_BYTES)


class FrameError(Exception):
    """The other side does not speak RFC 4571, or sends longer packets than we take."""


def framed(packet: bytes) -> bytes:
    """A packet as it goes over the connection."""
    return len(packet).to_bytes(HEAD_BYTES, "big") + packet


class Deframer:
    """Takes a connection's bytes apart, in a buffer of fixed size.

    Write into `room()`, tell `wrote(count)`, take `packets()` to the end; and again.
    """

    def __init__(self) -> None:
        self._buffer = bytearray(_BUFFER_BYTES)
        self._filled = 0

    def room(self) -> memoryview:
        """Where the next bytes go; never empty once all packets were taken."""
        return memoryview(self._buffer)[self._filled :]

    def wrote(self, count: int) -> None:
        """So many bytes came."""
        self._filled += count

    def packets(self) -> Iterator[bytes]:
        """The whole packets that are there; empty ones (they keep a connection open) are left out.
        Raises FrameError for a length over FRAME_BYTES_MAX."""
        at = 0
        buffer = self._buffer
        while self._filled - at >= HEAD_BYTES:
            length = buffer[at] << 8 | buffer[at + 1]
            if length > FRAME_BYTES_MAX:
                raise FrameError(f"a frame of {length} bytes: {FRAME_BYTES_MAX} at most")
            end = at + HEAD_BYTES + length
            if end > self._filled:
                break
            if length:
                yield bytes(buffer[at + HEAD_BYTES : end])
            at = end
        rest = self._filled - at
        buffer[:rest] = buffer[at : self._filled]
        self._filled = rest
