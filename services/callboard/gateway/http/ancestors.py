"""Which pages may show ours in a frame, as CSP says it. Pure."""

from __future__ import annotations

import re

ANCESTORS = "*"
_HOST = r"(?:\*|(?:\*\.)?[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::(?:[0-9]+|\*))?/?"
_WORD = re.compile(rf"'none'|'self'|https?:|(?:https?://)?{_HOST}")


def ancestors_of(value: str) -> str:
    """A value of frame-ancestors, with single spaces. Raises ValueError for one that is none (CSP
    level 3, 6.4.2): it could end the directive, and browsers would leave it out."""
    words = value.split()
    wrong = [word for word in words if not _WORD.fullmatch(word)]
    if not words or wrong or ("'none'" in words and len(words) > 1):
        raise ValueError(f"`*`, 'self', 'none' or origins (https://example.com), not {value!r}")
    return " ".join(words)
