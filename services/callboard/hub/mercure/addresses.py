"""Where a client sees the hub: scheme, host and prefix, from what a proxy in front says. Pure.

A client may write these fields itself; all that depends on them are URLs in its own answers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from callboard.chassis.proxied import first_of, prefix_of
from callboard.hub.matching.urls import HUB_PATH

SUBSCRIPTIONS_PATH = HUB_PATH + "/subscriptions"
METADATA_PATH = "/.well-known/oauth-protected-resource"
"""RFC 9728, 3.1: the metadata of a resource at /x lies at METADATA_PATH + /x."""

_HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
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
    host = first_of(headers, "x-forwarded-host") or headers.get("host", "")
    proto = first_of(headers, "x-forwarded-proto").lower()
    if proto in _DEFAULT_PORT:
        scheme = proto
    if not _HOST.fullmatch(host):
        return Address("", prefix_of(headers))
    host = host.lower().removesuffix(_DEFAULT_PORT[scheme])
    return Address(f"{scheme}://{host}", prefix_of(headers))
