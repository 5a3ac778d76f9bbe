"""VP9's payload descriptor and frame header. Source: RFC 9628, 4.2; VP9 bitstream, 6.2."""

from __future__ import annotations

from typing import NamedTuple

PICTURE_ID, INTER, LAYERS, FLEXIBLE, START, END, STRUCTURE = (
    0x80,
    0x40,
    0x20,
    0x10,
    0x08,
    0x04,
    0x02,
)
_LONG_PICTURE_ID = 0x80
_SPATIAL_LAYER = 0x0E
_MORE_REFERENCES = 0x01
_REFERENCES_MAX = 3
_FRAME_MARKER = 2


class Descriptor(NamedTuple):
    """Where the parts of a descriptor end."""

    structure: int
    """Where the scalability structure begins: the last part of the descriptor."""
    end: int
    spatial_layer: int


def descriptor(payload: bytes) -> Descriptor | None:
    """Read the descriptor; None if it is not whole."""
    try:
        return _descriptor(payload)
    except IndexError:
        return None


def _descriptor(payload: bytes) -> Descriptor | None:
    flags, end, layer = payload[0], 1, 0
    if flags & PICTURE_ID:
        end += 2 if payload[end] & _LONG_PICTURE_ID else 1
    if flags & LAYERS:
        layer = (payload[end] & _SPATIAL_LAYER) >> 1
        end += 1 if flags & FLEXIBLE else 2
    if flags & FLEXIBLE and flags & INTER:
        for _ in range(_REFERENCES_MAX):
            end += 1
            if not payload[end - 1] & _MORE_REFERENCES:
                break
        else:
            return None
    structure = end
    if flags & STRUCTURE:
        end += _structure_bytes(payload, end)
    return Descriptor(structure, end, layer) if len(payload) >= end else None


def _structure_bytes(payload: bytes, begin: int) -> int:
    """N_S, Y, G; the layers' sizes; the pictures of a group with their references."""
    first, end = payload[begin], begin + 1
    if first & 0x10:
        end += 4 * ((first >> 5) + 1)
    if first & 0x08:
        pictures = payload[end]
        end += 1
        for _ in range(pictures):
            end += 1 + ((payload[end] >> 2) & 0x03)
    return end - begin


def begins_keyframe(payload: bytes) -> bool:
    """Whether a keyframe begins here: the first packet of a frame of the lowest spatial layer that
    is predicted from nothing, and its header says that it is no intra-only frame."""
    if not payload or payload[0] & (START | INTER) != START:
        return False
    parts = descriptor(payload)
    if parts is None or parts.spatial_layer or parts.end >= len(payload):
        return False
    header = payload[parts.end]
    if header >> 6 != _FRAME_MARKER:
        return False
    if (header >> 4) & 0x03 == 0x03:  # profile 3 has a reserved bit more
        return not header & 0x06
    return not header & 0x0C  # neither show_existing_frame nor frame_type
