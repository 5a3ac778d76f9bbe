"""Audio: a decoder can begin with each packet (RFC 7587 for Opus, RFC 3551 for PCMU and PCMA)."""

from __future__ import annotations


def begins_keyframe(payload: bytes) -> bool:
    """Whether there is anything."""
    return bool(payload)
