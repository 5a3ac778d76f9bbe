"""What may be a key of the key/value store, and how large its value."""

from __future__ import annotations

from urllib.parse import unquote

VALUE_SIZE_MAX = 512 * 1024
"""Bytes of a value (Consul: limits.kv_max_value_size); beyond it 413."""


def key_error(key: str) -> str | None:
    """Why Consul refuses the key (400), or None.

    After CVE-2025-11392, in the form relaxed by hashicorp/consul #22822: a segment `.` or `..`,
    plain or percent-encoded, and leading or trailing white space are refused, all else goes.
    """
    if not key:
        return "Missing key name"
    if key != key.strip():
        return "Invalid key name: leading or trailing white space is not allowed"
    for form in (key, unquote(key)):
        segments = form.replace("\\", "/").split("/")
        if ".." in segments or "." in segments:
            return "Invalid key name: path traversal sequences are not allowed"
    return None
