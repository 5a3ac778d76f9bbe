"""VP9: the descriptor is repeated; B, the frame's start, and the scalability structure only stay
on the first part, E, its end, on the last one. Source: RFC 9628, 4.2."""

from __future__ import annotations

from callboard.gateway.stream.keyframes.vp9 import END, START, STRUCTURE, descriptor
from callboard.gateway.stream.splitting import LIMIT_MIN, chunks


def split(payload: bytes, limit: int) -> list[bytes] | None:
    """See the package."""
    found = descriptor(payload)
    if found is None or found.end >= len(payload) or found.end > limit - LIMIT_MIN // 2:
        return None
    flags = payload[0]
    rest = payload[1 : found.structure]
    first = bytes((flags & ~END,)) + payload[1 : found.end]
    middle = bytes((flags & ~(START | STRUCTURE | END),)) + rest
    last = bytes((flags & ~(START | STRUCTURE),)) + rest
    parts = chunks(payload[found.end :], limit - found.end)
    if len(parts) == 1:
        return [payload]
    return [first + parts[0], *(middle + part for part in parts[1:-1]), last + parts[-1]]
