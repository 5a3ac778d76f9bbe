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
HUB_URL = f"http://localhost:8800{HUB_PATH}"
"""The hub's URL where none is configured: the base of relative patterns and topics. The hub may
have as many as ways lead to it; the one that it is known by (`-resource`) is the base."""

_ANY = URLPattern({})
_WEB = re.compile(r"https?://[^:]")
_UNRESERVED = re.compile(r"%(?:2[DdEe]|3[0-9]|[46][1-9A-Fa-f]|[57][0-9Aa]|5[Ff]|7[Ee])")


@dataclass(frozen=True, slots=True)
class Located:
    """Where a topic is."""

    origin: str
    """scheme://host:port; the port is empty where it is the scheme's own."""
    path: str
    """Without dot segments, percent-encoded; opaque for schemes without hierarchy (urn:)."""


@lru_cache(maxsize=4096)
def locate(topic: str, base: str = HUB_URL) -> Located | None:
    """A topic's place, relative to the hub's URL; None if it is no URL reference, and then no URL
    pattern matches it."""
    return _located(topic, base)


def is_hub_url(text: str) -> bool:
    """Whether a text can be the hub's URL: http or https, without a fragment (RFC 9728, 1.2)."""
    place = _located(text, None)
    return place is not None and _WEB.match(place.origin) is not None and "#" not in text


@lru_cache(maxsize=64)
def own_paths(base: str) -> tuple[str, ...]:
    """The paths that are the hub's own, each with a slash behind it: HUB_PATH, and that of its URL
    where a prefix is before it (what relative topics begin with)."""
    place = locate(base, base)
    path = normal_path(place.path) if place is not None else HUB_PATH
    return (f"{HUB_PATH}/", f"{path}/") if path.endswith(HUB_PATH) else (f"{HUB_PATH}/",)


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
