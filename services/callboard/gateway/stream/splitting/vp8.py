"""VP8: the descriptor is repeated; S, the partition's start, only stays on the first part. Source:
RFC 7741, 4.2."""

from __future__ import annotations

from callboard.gateway.stream.keyframes.vp8 import START, descriptor_bytes
from callboard.gateway.stream.splitting import chunks


def split(payload: bytes, limit: int) -> list[bytes] | None:
    """See the package."""
    end = descriptor_bytes(payload)
    if not end or end == len(payload):
        return None
    first = payload[:end]
    later = bytes((first[0] & ~START,)) + first[1:]
    parts = chunks(payload[end:], limit - end)
    return [first + parts[0], *(later + part for part in parts[1:])]
