"""Who may speak to the API at all: Host names, Origins, networks that may write. Pure.

A page of any site can make a browser send requests to 127.0.0.1, and DNS rebinding makes it read
the answers. So a request must name us by a name we know, and a browser's write must come from a
page of our own host. Tokens are elsewhere (`Authorizer`).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

_CACHE_MAX = 256


class HostGuard:
    """Knows the names that a Host header may carry."""

    def __init__(
        self,
        *,
        names: Iterable[str],
        domains: Iterable[str],
        is_node: Callable[[str], bool],
    ) -> None:
        """`names` and `domains` in any case; `is_node` is asked last, with a lower-case name."""
        self._names = {name.lower().rstrip(".") for name in names if name} | {"localhost"}
        self._suffixes = tuple(f".{domain.lower().strip('.')}" for domain in domains if domain)
        self._is_node = is_node
        self._known: set[str] = set()

    def allows(self, host: str) -> bool:
        """Whether a Host header's value (with or without a port) names us."""
        if host in self._known:
            return True
        name = host_name(host)
        if name is None or not self._knows(name):
            return False
        if len(self._known) < _CACHE_MAX:
            self._known.add(host)
        return True

    def _knows(self, name: str) -> bool:
        if _is_address(name):
            return True
        name = name.lower().rstrip(".")
        return (
            name in self._names
            or name.endswith((*self._suffixes, ".localhost"))
            or self._is_node(name)
        )


class OriginGuard:
    """Knows the pages that may write: those of the request's own host, and the allowed ones."""

    def __init__(self, allowed: Iterable[str]) -> None:
        self._allowed = {origin.lower().rstrip("/") for origin in allowed}

    def allows(self, origin: str, host: str) -> bool:
        """Whether a write with this Origin, sent to this Host, may be done."""
        if "*" in self._allowed or origin.lower().rstrip("/") in self._allowed:
            return True
        try:
            theirs = urlsplit(origin).hostname
        except ValueError:
            return False
        ours = host_name(host)
        return bool(theirs) and ours is not None and theirs == ours.lower().rstrip(".")


class WriteGuard:
    """The networks whose clients may write (http_config.allow_write_http_from)."""

    def __init__(self, networks: Iterable[str]) -> None:
        """Raises ValueError for what is no network."""
        self._networks = [ipaddress.ip_network(network, strict=False) for network in networks]

    def allows(self, client: str) -> bool:
        """Whether this client address may write."""
        if not self._networks:
            return True
        try:
            address = ipaddress.ip_address(client.partition("%")[0])
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None) or address
        return any(mapped in network for network in self._networks)


def host_name(host: str) -> str | None:
    """The name or address of a Host header, without its port; None if it is malformed."""
    if host.startswith("["):
        name, bracket, port = host[1:].partition("]")
        port = port[1:] if port.startswith(":") else port and "?"
    else:
        name, bracket, port = host.partition(":")
        bracket = "]"
    if not name or not bracket or (port and not port.isdigit()):
        return None
    return name


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True
