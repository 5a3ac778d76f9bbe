"""Who asks: by which name, and from which page. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from callboard.chassis.guards import host_name
from callboard.chassis.listeners import is_loopback


def asks_loopback(headers: Mapping[str, str]) -> bool:
    """Whether the client called us by localhost or a loopback address. Its source address says
    nothing: a container engine's proxy makes everybody local."""
    name = host_name(headers.get("host", ""))
    if name is None:
        return False
    name = name.lower().rstrip(".")
    return name == "localhost" or name.endswith(".localhost") or is_loopback(name)


def is_own_page(headers: Mapping[str, str]) -> bool:
    """Whether a request comes from no page of a browser, or from one of the host it is sent to."""
    origin = headers.get("origin")
    if origin is None:
        return headers.get("sec-fetch-site", "none") in ("none", "same-origin")
    scheme, _, authority = origin.lower().partition("://")
    host = headers.get("host", "").lower()
    ports = {"http": ":80", "https": ":443"}
    return scheme in ports and authority == host.removesuffix(ports[scheme])
