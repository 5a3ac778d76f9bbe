"""Splits payloads that are too long for viewers, one module per codec.

`split(payload, limit)` gives payloads of at most `limit` bytes (at least LIMIT_MIN) that a decoder
puts together to the same frame; None if the payload does not let it. Nothing here raises.
"""

from __future__ import annotations

LIMIT_MIN = 64


def chunks(data: bytes, size_max: int) -> list[bytes]:
    """Parts of nearly the same length (they differ by one byte at most), none longer than
    `size_max`: the last one of a frame is not much shorter than the others."""
    count = max(1, -(-len(data) // size_max))
    size, longer = divmod(len(data), count)
    parts, at = [], 0
    for index in range(count):
        end = at + size + (index < longer)
        parts.append(data[at:end])
        at = end
    return parts
