"""H.264's NAL units in RTP: IDR pictures and parameter sets. Source: RFC 6184, 5."""

from __future__ import annotations

from collections.abc import Sequence

IDR, SPS, PPS = 5, 7, 8
STAP_A, FU_A = 24, 28
PARAMETER_SETS = (SPS, PPS)
"""What a decoder needs before a keyframe, in this order."""
FU_START, FU_END = 0x80, 0x40
_TYPE, _IMPORTANCE = 0x1F, 0x60
_UNIT_BYTES_MAX = 0xFFFF

NOTHING: tuple[bool, Sequence[tuple[int, bytes]]] = (False, ())


def units(payload: bytes) -> list[bytes] | None:
    """The NAL units of a STAP-A; None if it is malformed."""
    found, at = [], 1
    while at < len(payload):
        end = at + 2 + int.from_bytes(payload[at : at + 2], "big")
        if at + 2 >= end or end > len(payload):
            return None
        found.append(payload[at + 2 : end])
        at = end
    return found or None


def aggregate(nal_units: Sequence[bytes]) -> bytes:
    """One STAP-A of units, each of at most 65,535 bytes."""
    importance = max(unit[0] & _IMPORTANCE for unit in nal_units)
    parts = [bytes((importance | STAP_A,))]
    for unit in nal_units:
        parts += [len(unit).to_bytes(2, "big"), unit]
    return b"".join(parts)


def inspect(payload: bytes) -> tuple[bool, Sequence[tuple[int, bytes]]]:
    """Whether an IDR picture's slice begins here, and the parameter sets here, by type."""
    if not payload:
        return NOTHING
    kind = payload[0] & _TYPE
    if kind == FU_A:
        begins = len(payload) > 2 and payload[1] & (FU_START | _TYPE) == FU_START | IDR
        return begins, ()
    if kind == STAP_A:
        inside = [(unit[0] & _TYPE, unit) for unit in units(payload) or ()]
        begins = any(each == IDR for each, _ in inside)
        return begins, [(each, unit) for each, unit in inside if each in PARAMETER_SETS]
    if kind in PARAMETER_SETS:
        return False, ((kind, payload),)
    return kind == IDR and len(payload) > 1, ()


def begins_keyframe(payload: bytes) -> bool:
    """Whether an IDR picture, or what goes before it, begins here: its SPS or first slice."""
    begins, sets = inspect(payload)
    return begins or any(kind == SPS for kind, _ in sets)
