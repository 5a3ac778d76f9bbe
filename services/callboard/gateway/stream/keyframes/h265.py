"""H.265's NAL units in RTP: random access pictures and parameter sets. Source: RFC 7798, 4.4.

Decoding order numbers (DONL, DOND) are absent: WebRTC has sprop-max-don-diff = 0.
"""

from __future__ import annotations

from collections.abc import Sequence

VPS, SPS, PPS = 32, 33, 34
AP, FU, PACI = 48, 49, 50
PARAMETER_SETS = (VPS, SPS, PPS)
"""What a decoder needs before a keyframe, in this order."""
FU_START, FU_END, FU_TYPE = 0x80, 0x40, 0x3F
HEADER_BYTES = 2
_RANDOM_ACCESS = range(16, 24)
"""BLA, IDR, CRA and two that are reserved (H.265, 7.4.2.2)."""

NOTHING: tuple[bool, Sequence[tuple[int, bytes]]] = (False, ())


def unit_type(payload: bytes) -> int:
    """Of the NAL unit that begins so."""
    return payload[0] >> 1 & 0x3F


def units(payload: bytes) -> list[bytes] | None:
    """The NAL units of an aggregation packet; None if it is malformed."""
    found, at = [], HEADER_BYTES
    while at < len(payload):
        end = at + 2 + int.from_bytes(payload[at : at + 2], "big")
        if at + 2 + HEADER_BYTES > end or end > len(payload):
            return None
        found.append(payload[at + 2 : end])
        at = end
    return found or None


def aggregate(nal_units: Sequence[bytes]) -> bytes:
    """One aggregation packet of units, each of at most 65,535 bytes. Its layer and temporal ids
    are the lowest ones of theirs (4.4.2)."""
    layer = min((unit[0] & 1) << 5 | unit[1] >> 3 for unit in nal_units)
    temporal = min(unit[1] & 0x07 for unit in nal_units)
    parts = [bytes((AP << 1 | layer >> 5, (layer & 0x1F) << 3 | temporal))]
    for unit in nal_units:
        parts += [len(unit).to_bytes(2, "big"), unit]
    return b"".join(parts)


def inspect(payload: bytes) -> tuple[bool, Sequence[tuple[int, bytes]]]:
    """Whether a random access picture's slice begins here, and the parameter sets here, by type."""
    if len(payload) <= HEADER_BYTES:
        return NOTHING
    kind = unit_type(payload)
    if kind == FU:
        start = payload[2] & FU_START and len(payload) > HEADER_BYTES + 1
        return bool(start) and payload[2] & FU_TYPE in _RANDOM_ACCESS, ()
    if kind == AP:
        inside = [(unit_type(unit), unit) for unit in units(payload) or ()]
        begins = any(each in _RANDOM_ACCESS for each, _ in inside)
        return begins, [(each, unit) for each, unit in inside if each in PARAMETER_SETS]
    if kind in PARAMETER_SETS:
        return False, ((kind, payload),)
    return kind in _RANDOM_ACCESS, ()


def begins_keyframe(payload: bytes) -> bool:
    """Whether a random access picture, or what goes before it, begins here: its VPS or first
    slice."""
    begins, sets = inspect(payload)
    return begins or any(kind == VPS for kind, _ in sets)
