"""What a source says of itself by RTCP: sender reports and good-byes. Pure. Source: RFC 3550, 6.4.1
and 6.6."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

SENDER_REPORT, GOODBYE = 200, 203

_HEADER = struct.Struct("!BBH")
_SENDER = struct.Struct("!IQI")
_VERSION = 2
_COUNT = 0x1F


class SenderReport(NamedTuple):
    """When the source's clock was where."""

    ssrc: int
    ntp_time: int
    """64 bits, 32.32 fixed point, since 1900."""
    timestamp: int
    """32 bits."""


class Goodbye(NamedTuple):
    """Sources that send no more."""

    ssrcs: tuple[int, ...]


def read(data: bytes) -> Iterator[SenderReport | Goodbye]:
    """What a compound packet says, as far as it is well-formed; other parts are passed over."""
    at = 0
    while at + _HEADER.size <= len(data):
        first, kind, words = _HEADER.unpack_from(data, at)
        begin, at = at + _HEADER.size, at + 4 + 4 * words
        if first >> 6 != _VERSION or at > len(data):
            return
        if kind == SENDER_REPORT and at - begin >= _SENDER.size:
            yield SenderReport(*_SENDER.unpack_from(data, begin))
        elif kind == GOODBYE and at - begin >= 4 * (first & _COUNT):
            yield Goodbye(struct.unpack_from(f"!{first & _COUNT}I", data, begin))
