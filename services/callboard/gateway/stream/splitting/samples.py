"""PCMU and PCMA: bytes are samples, so a packet can be cut between any two.

The timestamp of a later part is that of its first sample: see `Format.bytes_per_tick`. Source:
RFC 3551, 4.5.14.
"""

from __future__ import annotations


def split(payload: bytes, limit: int) -> list[bytes] | None:
    """See the package. For one channel."""
    return [payload[at : at + limit] for at in range(0, len(payload), limit)] or None
