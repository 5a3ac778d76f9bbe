"""What a proxy in front says of a client and of where that sees us. Pure.

A client may write these fields itself: they are believed of a known proxy only, or where nothing
but URLs in the client's own answers depends on them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~-]+){1,8}")
_DOTS = re.compile(r"/\.{1,2}(?:/|\Z)")
_PREFIX_CHARACTERS_MAX = 128


def client_of(headers: Mapping[str, str], peer: str, *, trusted: bool) -> str:
    """The address of who asks: the last that a `trusted` proxy tells, else the connection's."""
    if trusted:
        told = headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
        if told and len(told) <= 64 and told.isprintable():
            return told
    return peer


def prefix_of(headers: Mapping[str, str]) -> str:
    """What stands before our paths where the client sees them (`/media`); "" if none is told, or
    it is no path."""
    prefix = first_of(headers, "x-forwarded-prefix").rstrip("/")
    if len(prefix) > _PREFIX_CHARACTERS_MAX or _DOTS.search(prefix):
        return ""
    return prefix if _PREFIX.fullmatch(prefix) else ""


def is_proxied(headers: Mapping[str, str]) -> bool:
    """Whether a request came through a proxy: who sent it is then not the peer of the
    connection."""
    return any(name.startswith(("x-forwarded-", "forwarded")) for name in headers) or (
        "via" in headers or "x-real-ip" in headers
    )


def first_of(headers: Mapping[str, str], name: str) -> str:
    """The first of a list that proxies have added to."""
    return headers.get(name, "").partition(",")[0].strip()
