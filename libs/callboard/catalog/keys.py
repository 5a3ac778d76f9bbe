"""What may be a key of the key/value store, and how large its value."""

from __future__ import annotations

VALUE_SIZE_MAX = 512 * 1024
"""Bytes of a value (Consul: limits.kv_max_value_size); beyond it 413."""


def key_error(key: str) -> str | None:
    """Why Consul refuses the key (400), or None. After CVE-2025-11392, in its relaxed form:
    path traversal and leading or trailing white space are refused, all else is allowed."""
    raise NotImplementedError
