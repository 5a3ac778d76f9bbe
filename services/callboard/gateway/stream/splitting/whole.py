"""Codecs whose packets cannot be cut: Opus (RFC 7587, 4.2), and what is not known."""

from __future__ import annotations


def split(payload: bytes, limit: int) -> list[bytes] | None:
    """See the package."""
    return [payload] if len(payload) <= limit else None
