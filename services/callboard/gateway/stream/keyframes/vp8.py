"""VP8's payload descriptor and frame tag. Source: RFC 7741, 4.2 and 4.3."""

from __future__ import annotations

EXTENDED, START, PARTITION = 0x80, 0x10, 0x07
_PICTURE_ID, _TL0_INDEX, _TID_KEY_INDEX = 0x80, 0x40, 0x30
_LONG_PICTURE_ID = 0x80
_INTER_FRAME = 0x01


def descriptor_bytes(payload: bytes) -> int:
    """The descriptor's length; 0 if it is not whole."""
    if not payload:
        return 0
    if not payload[0] & EXTENDED:
        return 1
    if len(payload) < 2:
        return 0
    flags, end = payload[1], 2
    if flags & _PICTURE_ID:
        if len(payload) <= end:
            return 0
        end += 2 if payload[end] & _LONG_PICTURE_ID else 1
    end += bool(flags & _TL0_INDEX) + bool(flags & _TID_KEY_INDEX)
    return end if len(payload) >= end else 0


def begins_keyframe(payload: bytes) -> bool:
    """Whether a keyframe begins here: the first packet of the first partition, and the frame tag's
    lowest bit says so."""
    if not payload or payload[0] & (START | PARTITION) != START:
        return False
    end = descriptor_bytes(payload)
    return 0 < end < len(payload) and not payload[end] & _INTER_FRAME
