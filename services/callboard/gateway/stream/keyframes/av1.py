"""AV1's aggregation header and OBU elements. Source: RTP Payload Format For AV1 (AOM), 4.4 and 4.5;
AV1 bitstream, 4.10.5, 5.3 and 5.9.2."""

from __future__ import annotations

from typing import NamedTuple

CONTINUES, CONTINUED, FIRST = 0x80, 0x40, 0x08
"""Z: the first element goes on from the packet before; Y: the last one goes on in the next; N: a
coded video sequence begins."""
SEQUENCE_HEADER, FRAME_HEADER, FRAME = 1, 3, 6
_HAS_EXTENSION, _HAS_SIZE = 0x04, 0x02
_SHOW_EXISTING, _FRAME_TYPE = 0x80, 0x60
_LEB128_BYTES_MAX = 8


class Aggregation(NamedTuple):
    """A payload's parts."""

    header: int
    elements: list[bytes]
    """OBUs, or fragments of them."""


def leb128(payload: bytes, at: int) -> tuple[int, int]:
    """A length that is written in 7-bit groups, and where it ends. Raises ValueError."""
    value = 0
    for index in range(_LEB128_BYTES_MAX):
        if at + index >= len(payload):
            break
        value |= (payload[at + index] & 0x7F) << 7 * index
        if not payload[at + index] & 0x80:
            return value, at + index + 1
    raise ValueError("a length that does not end")


def aggregation(payload: bytes) -> Aggregation | None:
    """The elements of a payload; None if it is malformed."""
    if len(payload) < 2:
        return None
    count, at = payload[0] >> 4 & 0x03, 1
    elements: list[bytes] = []
    try:
        while at < len(payload):
            end = len(payload)
            if len(elements) + 1 != count:
                size, at = leb128(payload, at)
                end = at + size
            if end > len(payload):
                return None
            elements.append(payload[at:end])
            at = end
    except ValueError:
        return None
    if count and len(elements) != count:
        return None
    return Aggregation(payload[0], elements)


def begins_keyframe(payload: bytes) -> bool:
    """Whether a coded video sequence begins here: the N bit says so, or there is a sequence header
    and no frame but a key frame."""
    if len(payload) < 2 or payload[0] & CONTINUES:
        return False
    if payload[0] & FIRST:
        return True
    parts = aggregation(payload)
    if parts is None:
        return False
    has_header = False
    for obu in parts.elements:
        kind = obu[0] >> 3 & 0x0F if obu else 0
        if kind == SEQUENCE_HEADER:
            has_header = True
        elif kind in (FRAME, FRAME_HEADER):
            return has_header and _is_key_frame(obu)
    return has_header


def _is_key_frame(obu: bytes) -> bool:
    """Whether a frame header says so; what is too short to tell is none."""
    at = 2 if obu[0] & _HAS_EXTENSION else 1
    if obu[0] & _HAS_SIZE:
        try:
            _, at = leb128(obu, at)
        except ValueError:
            return False
    return at < len(obu) and not obu[at] & (_SHOW_EXISTING | _FRAME_TYPE)
