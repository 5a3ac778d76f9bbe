"""What H.264 and H.265 have in common: units become fragments, neighbours one aggregation. Source:
RFC 6184, 5.7 and 5.8; RFC 7798, 4.4.2 and 4.4.3."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from callboard.gateway.stream.splitting import chunks

FU_START, FU_END = 0x80, 0x40
"""Of the header of a fragment (FU header)."""
LENGTH_BYTES = 2
"""Before each unit of an aggregation."""


def fragments(header: bytes, fu_header: int, data: bytes, limit: int) -> list[bytes]:
    """Fragmentation units behind a payload header; start and end stay where `fu_header` has
    them."""
    parts = chunks(data, limit - len(header) - 1)
    made = []
    for index, part in enumerate(parts):
        flags = fu_header
        if index:
            flags &= ~FU_START
        if index < len(parts) - 1:
            flags &= ~FU_END
        made.append(header + bytes((flags,)) + part)
    return made


def bundle(
    units: Sequence[bytes],
    limit: int,
    header_bytes: int,
    aggregate: Callable[[Sequence[bytes]], bytes],
    split: Callable[[bytes, int], list[bytes] | None],
) -> list[bytes] | None:
    """Payloads with these units, in order: as few as an aggregation of neighbours makes.
    `header_bytes` are an aggregation's; `split` is for a unit that is too long for one."""
    made: list[bytes] = []
    group: list[bytes] = []
    size = header_bytes
    for unit in [*units, b""]:
        if group and (not unit or size + LENGTH_BYTES + len(unit) > limit):
            made.append(group[0] if len(group) == 1 else aggregate(group))
            group, size = [], header_bytes
        if len(unit) > limit - header_bytes - LENGTH_BYTES:
            parts = split(unit, limit)
            if parts is None:
                return None
            made += parts
        elif unit:
            group.append(unit)
            size += LENGTH_BYTES + len(unit)
    return made
