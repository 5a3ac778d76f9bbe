"""H.265: long units become FUs, an aggregation becomes shorter ones. Source: RFC 7798, 4.4."""

from __future__ import annotations

from callboard.gateway.stream.keyframes.h265 import (
    AP,
    FU,
    FU_END,
    FU_START,
    HEADER_BYTES,
    aggregate,
    unit_type,
    units,
)
from callboard.gateway.stream.splitting import nal

_SINGLE = range(48)
_NOT_TYPE = 0x81


def split(payload: bytes, limit: int) -> list[bytes] | None:
    """See the package. PACI packets are left alone."""
    if len(payload) <= HEADER_BYTES + 1:
        return None
    kind = unit_type(payload)
    if kind == FU:
        return nal.fragments(payload[:HEADER_BYTES], payload[2], payload[3:], limit)
    if kind == AP:
        inside = units(payload)
        return None if inside is None else bundle(inside, limit)
    return _unit(payload, limit)


def bundle(nal_units: list[bytes], limit: int) -> list[bytes] | None:
    """Payloads with these units, in order: as few as an aggregation of neighbours makes."""
    return nal.bundle(nal_units, limit, HEADER_BYTES, aggregate, _unit)


def _unit(unit: bytes, limit: int) -> list[bytes] | None:
    if len(unit) <= limit:
        return [unit]
    kind = unit_type(unit)
    if kind not in _SINGLE:
        return None
    header = bytes((unit[0] & _NOT_TYPE | FU << 1, unit[1]))
    return nal.fragments(header, FU_START | FU_END | kind, unit[HEADER_BYTES:], limit)
