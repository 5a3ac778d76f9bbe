"""AV1: OBU elements are spread over more packets, cut where need be. Source: RTP Payload Format For
AV1 (AOM), 4.4."""

from __future__ import annotations

from callboard.gateway.stream.keyframes.av1 import CONTINUED, CONTINUES, FIRST, aggregation

_COUNT_MAX = 3
"""Elements up to which the last one needs no length (W)."""
_LENGTH_BYTES = 2
"""Of an element's length: a limit below 16 KiB needs no more."""


def split(payload: bytes, limit: int) -> list[bytes] | None:
    """See the package. `limit` is below 16 KiB."""
    parts = aggregation(payload)
    if parts is None:
        return None
    packets = _spread(parts.elements, limit - 1)
    made = []
    for index, (elements, goes_on) in enumerate(packets):
        header = 0
        if index == 0:
            header |= parts.header & (CONTINUES | FIRST)
        elif packets[index - 1][1]:
            header |= CONTINUES
        if goes_on or (index == len(packets) - 1 and parts.header & CONTINUED):
            header |= CONTINUED
        made.append(_packet(header, elements))
    return made


def _spread(elements: list[bytes], room_max: int) -> list[tuple[list[bytes], bool]]:
    """For each packet: its elements, and whether the last one goes on in the next."""
    packets: list[tuple[list[bytes], bool]] = []
    group: list[bytes] = []
    room = room_max
    for element in elements:
        rest = element
        while len(rest) + _LENGTH_BYTES > room:
            cut = room - _LENGTH_BYTES
            if cut > 0:
                packets.append(([*group, rest[:cut]], True))
                rest = rest[cut:]
            else:
                packets.append((group, False))
            group, room = [], room_max
        group.append(rest)
        room -= len(rest) + _LENGTH_BYTES
    packets.append((group, False))
    return packets


def _packet(header: int, elements: list[bytes]) -> bytes:
    count = len(elements) if len(elements) <= _COUNT_MAX else 0
    parts = [bytes((header | count << 4,))]
    for index, element in enumerate(elements, 1):
        if index != count:
            parts.append(_leb128(len(element)))
        parts.append(element)
    return b"".join(parts)


def _leb128(value: int) -> bytes:
    if value < 0x80:
        return bytes((value,))
    return bytes((value & 0x7F | 0x80, value >> 7))
