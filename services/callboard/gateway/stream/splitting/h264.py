"""H.264: long units become FU-As, an aggregation becomes shorter ones. Source: RFC 6184, 5."""

from __future__ import annotations

from callboard.gateway.stream.keyframes.h264 import FU_A, FU_END, FU_START, STAP_A, aggregate, units
from callboard.gateway.stream.splitting import nal

_SINGLE = range(1, 24)
_TYPE, _NOT_TYPE = 0x1F, 0xE0
_HEADER_BYTES = 1


def split(payload: bytes, limit: int) -> list[bytes] | None:
    """See the package. The types of the interleaved mode, which WebRTC has not, are left alone."""
    if len(payload) < 3:
        return None
    kind = payload[0] & _TYPE
    if kind == FU_A:
        return nal.fragments(payload[:1], payload[1], payload[2:], limit)
    if kind == STAP_A:
        inside = units(payload)
        return None if inside is None else bundle(inside, limit)
    return _unit(payload, limit)


def bundle(nal_units: list[bytes], limit: int) -> list[bytes] | None:
    """Payloads with these units, in order: as few as an aggregation of neighbours makes."""
    return nal.bundle(nal_units, limit, _HEADER_BYTES, aggregate, _unit)


def _unit(unit: bytes, limit: int) -> list[bytes] | None:
    if len(unit) <= limit:
        return [unit]
    kind = unit[0] & _TYPE
    if kind not in _SINGLE:
        return None
    indicator = bytes((unit[0] & _NOT_TYPE | FU_A,))
    return nal.fragments(indicator, FU_START | FU_END | kind, unit[_HEADER_BYTES:], limit)
