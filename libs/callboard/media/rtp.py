"""RTP's header, and counters that wrap around. Pure. Source: RFC 3550, 5.1 and A.1; RFC 5761."""

from __future__ import annotations

import struct
from typing import NamedTuple

HEADER_BYTES = 12
VERSION = 2
CSRCS_MAX = 15

_HEADER = struct.Struct("!BBHII")
_EXTENSION = struct.Struct("!HH")
_PLAIN = VERSION << 6
_PADDED, _EXTENDED, _CSRC_COUNT = 0x20, 0x10, 0x0F
_RTCP_TYPES = range(192, 224)


class BadPacket(ValueError):
    """Bytes that are no packet of RTP; the text says why."""


class Extension(NamedTuple):
    """A header extension (RFC 3550, 5.3.1)."""

    profile: int
    """16 bits: 0xBEDE for one-byte elements (RFC 8285)."""
    data: bytes
    """Whole words of four bytes."""


class RtpPacket(NamedTuple):
    """One packet, its padding taken off."""

    payload_type: int
    """7 bits."""
    marker: bool
    sequence: int
    """16 bits."""
    timestamp: int
    """32 bits, in units of the clock rate."""
    ssrc: int
    """32 bits."""
    payload: bytes
    csrcs: tuple[int, ...] = ()
    extension: Extension | None = None


def parse(data: bytes) -> RtpPacket:
    """Read a packet. A padding-only packet has an empty payload. Raises BadPacket."""
    length = len(data)
    if length < HEADER_BYTES:
        raise BadPacket(f"{length} bytes are no packet of RTP: a header has {HEADER_BYTES}")
    first, second, sequence, timestamp, ssrc = _HEADER.unpack_from(data)
    if first == _PLAIN:
        return RtpPacket(second & 0x7F, second > 0x7F, sequence, timestamp, ssrc, data[12:])
    if first >> 6 != VERSION:
        raise BadPacket(f"RTP of version {first >> 6}")
    csrcs, extension, begin, end = _rest_of_header(data, first)
    payload = data[begin:end]
    marker = second > 0x7F
    return RtpPacket(second & 0x7F, marker, sequence, timestamp, ssrc, payload, csrcs, extension)


def _rest_of_header(data: bytes, first: int) -> tuple[tuple[int, ...], Extension | None, int, int]:
    """CSRCs, extension, and from where to where the payload goes."""
    count = first & _CSRC_COUNT
    begin, end = HEADER_BYTES + 4 * count, len(data)
    if begin > end:
        raise BadPacket(f"the header ends within {count} CSRCs")
    csrcs = struct.unpack_from(f"!{count}I", data, HEADER_BYTES)
    extension = None
    if first & _EXTENDED:
        if begin + 4 > end:
            raise BadPacket("the header ends within the extension's length")
        profile, words = _EXTENSION.unpack_from(data, begin)
        begin += 4 + 4 * words
        if begin > end:
            raise BadPacket(f"the header ends within an extension of {words} words")
        extension = Extension(profile, data[begin - 4 * words : begin])
    if first & _PADDED:
        padding = data[-1]
        if padding == 0 or begin + padding > end:
            raise BadPacket(f"{padding} bytes of padding in a packet that has {end - begin}")
        end -= padding
    return csrcs, extension, begin, end


def build(packet: RtpPacket, *, padding: int = 0) -> bytes:
    """The bytes of a packet, with `padding` bytes (0 to 255) behind its payload. Raises ValueError
    for what no header can say."""
    extension, csrcs = packet.extension, packet.csrcs
    if not 0 <= packet.payload_type < 1 << 7:
        raise ValueError(f"payload type {packet.payload_type} is not a 7-bit number")
    if len(csrcs) > CSRCS_MAX:
        raise ValueError(f"{len(csrcs)} CSRCs: at most {CSRCS_MAX}")
    if not 0 <= padding < 1 << 8:
        raise ValueError(f"{padding} bytes of padding: at most 255")
    first = _PLAIN | len(csrcs) | (_PADDED if padding else 0) | (_EXTENDED if extension else 0)
    second = packet.payload_type | (0x80 if packet.marker else 0)
    try:
        parts = [
            _HEADER.pack(first, second, packet.sequence, packet.timestamp, packet.ssrc),
            struct.pack(f"!{len(csrcs)}I", *csrcs),
        ]
        if extension is not None:
            words, odd = divmod(len(extension.data), 4)
            if odd:
                raise ValueError(f"an extension of {len(extension.data)} bytes: not whole words")
            parts += [_EXTENSION.pack(extension.profile, words), extension.data]
    except struct.error as problem:
        raise ValueError(f"a field is too large for its place: {problem}") from problem
    parts.append(packet.payload)
    if padding:
        parts.append(bytes(padding - 1) + bytes((padding,)))
    return b"".join(parts)


def is_rtcp(data: bytes) -> bool:
    """Whether a packet that came on a port of both is RTCP (RFC 5761, 4)."""
    return len(data) >= 2 and data[0] >> 6 == VERSION and data[1] in _RTCP_TYPES


def distance(value: int, origin: int, bits: int) -> int:
    """How far `value` is ahead of `origin` in a counter of so many bits: negative if it is behind;
    what is half the way round counts as behind."""
    ahead = (value - origin) & ((1 << bits) - 1)
    return ahead - (1 << bits) if ahead >> (bits - 1) else ahead


def near(value: int, expected: int, bits: int) -> int:
    """The integer nearest `expected` that wraps to `value`."""
    return expected + distance(value, expected, bits)


class Unwrapper:
    """Extends a counter that wraps around, such as a timestamp of 32 bits: each value becomes the
    unwrapped one nearest to the one before."""

    def __init__(self, bits: int) -> None:
        self.bits = bits
        self.last: int | None = None
        """The last value, unwrapped."""

    def unwrap(self, value: int) -> int:
        """Return `value` unwrapped, and go on from there. The first one stays as it is."""
        last = self.last
        self.last = value if last is None else near(value, last, self.bits)
        return self.last
