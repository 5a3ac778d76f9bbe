"""Where a client sees the hub: scheme, host and prefix, from what a proxy in front says. Pure.

A client may write these fields itself; all that depends on them are URLs in its own answers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from callboard.hub.matching.urls import HUB_PATH

SUBSCRIPTIONS_PATH = HUB_PATH + "/subscriptions"
METADATA_PATH = "/.well-known/oauth-protected-resource"
"""RFC 9728, 3.1: the metadata of a resource at /x lies at METADATA_PATH + /x."""

_HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~-]+){1,8}")
_DOTS = re.compile(r"/\.{1,2}(?:/|\Z)")
_PREFIX_CHARACTERS_MAX = 128
_DEFAULT_PORT = {"http": ":80", "https": ":443"}


@dataclass(frozen=True, slots=True)
class Address:
    """Where the hub is, for one client."""

    origin: str
    """`https://example.com`; "" if the request named no host: URLs are then relative."""
    prefix: str = ""
    """What stands before every path (`/hub`)."""

    @property
    def hub(self) -> str:
        """The hub's URL."""
        return self.url(HUB_PATH)

    @property
    def metadata(self) -> str:
        """The URL of the hub's protected resource metadata."""
        return f"{self.origin}{METADATA_PATH}{self.prefix}{HUB_PATH}"

    def url(self, path: str) -> str:
        """The URL of a path of ours; what it may not hold as it is must be encoded already."""
        return f"{self.origin}{self.prefix}{path}"


def address_of(headers: Mapping[str, str], scheme: str) -> Address:
    """What a request says of where the hub is; `scheme` is that of the listener it came to."""
    host = _first(headers, "x-forwarded-host") or headers.get("host", "")
    proto = _first(headers, "x-forwarded-proto").lower()
    if proto in _DEFAULT_PORT:
        scheme = proto
    if not _HOST.fullmatch(host):
        return Address("", _prefix(headers))
    host = host.lower().removesuffix(_DEFAULT_PORT[scheme])
    return Address(f"{scheme}://{host}", _prefix(headers))


def is_proxied(headers: Mapping[str, str]) -> bool:
    """Whether a request came through a proxy: who sent it is then not the peer of the
    connection."""
    return any(name.startswith(("x-forwarded-", "forwarded")) for name in headers) or (
        "via" in headers or "x-real-ip" in headers
    )


def client_of(headers: Mapping[str, str], peer: str, *, trusted: bool) -> str:
    """The address of who asks: the last that a `trusted` proxy tells, else the connection's."""
    if trusted:
        told = headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
        if told and len(told) <= 64 and told.isprintable():
            return told
    return peer


def _prefix(headers: Mapping[str, str]) -> str:
    prefix = _first(headers, "x-forwarded-prefix").rstrip("/")
    if len(prefix) > _PREFIX_CHARACTERS_MAX or _DOTS.search(prefix):
        return ""
    return prefix if _PREFIX.fullmatch(prefix) else ""


def _first(headers: Mapping[str, str], name: str) -> str:
    return headers.get(name, "").partition(",")[0].strip()
