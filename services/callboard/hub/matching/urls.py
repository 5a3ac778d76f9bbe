"""A topic as a URL: resolved against the hub's, by the parser that URL patterns use. Pure.

Source: WHATWG URL; draft-dunglas-mercure-08, "URL Pattern": relative patterns and relative topics
have the hub's URL as their base. `exec` of a pattern that matches everything is that parser.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from urlpattern import URLPattern

HUB_PATH = "/.well-known/mercure"
"""The hub's own path, where no prefix is before it."""
HUB_URL = f"http://hub.invalid{HUB_PATH}"
"""The base of relative patterns and topics: the hub has as many URLs as ways lead to it, and what
is relative on both sides is compared the same under each of them."""

_ANY = URLPattern({})
_UNRESERVED = re.compile(r"%(?:2[DdEe]|3[0-9]|[46][1-9A-Fa-f]|[57][0-9Aa]|5[Ff]|7[Ee])")


@dataclass(frozen=True, slots=True)
class Located:
    """Where a topic is."""

    origin: str
    """scheme://host:port; the port is empty where it is the scheme's own."""
    path: str
    """Without dot segments, percent-encoded; opaque for schemes without hierarchy (urn:)."""


@lru_cache(maxsize=4096)
def locate(topic: str) -> Located | None:
    """A topic's place; None if it is no URL reference, and then no URL pattern matches it."""
    return _located(topic, HUB_URL)


def is_relative(topic: str) -> bool:
    """Whether a topic is a place only together with the hub's URL."""
    return _located(topic, None) is None


def normal_path(path: str) -> str:
    """A path with those octets decoded that need no encoding (RFC 3986, 6.2.2.2)."""
    return _UNRESERVED.sub(lambda found: chr(int(found[0][1:], 16)), path) if "%" in path else path


def _located(topic: str, base: str | None) -> Located | None:
    try:
        found = _ANY.exec(topic, base)
    except (TypeError, ValueError):  # surrogates, which are no text
        return None
    if found is None:
        return None
    protocol, host, port = (found[part]["input"] for part in ("protocol", "hostname", "port"))
    return Located(f"{protocol}://{host}:{port}", found["pathname"]["input"])
