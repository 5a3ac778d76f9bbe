"""Which names a Host may carry, and which of them are public. Pure.

A page of any site can make a browser send requests here, and DNS rebinding lets it read the
answers: so a Host must be one of ours. The rules are the agents' (`chassis.guards`); names come
from the certificates, and addresses are always ours (nobody can rebind those).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from callboard.chassis.guards import HostGuard, host_name

HOST_BYTES_MAX = 255 + len("[]:65535")
KEPT_MAX = 1024
"""Answers kept, by Host field."""

PRIVATE_SUFFIXES = (
    ".localhost", ".local", ".localdomain", ".internal", ".intranet", ".lan", ".home", ".corp",
    ".private", ".home.arpa", ".test", ".example", ".invalid", ".onion", ".alt", ".consul",
)  # fmt: skip
"""Of names that no public DNS has (RFC 6761, 6762, 8375, 9476, ICANN's .internal)."""

REFUSED = -1
PRIVATE = 0
PUBLIC = 1

HSTS = b"Strict-Transport-Security: max-age=31536000\r\n"
"""Told where the Host is PUBLIC."""


class Hosts:
    """The names we answer to."""

    def __init__(self, names: Iterable[str], extra: Iterable[str] = ()) -> None:
        """`names` of certificates (`*.example.com` among them) and `extra` ones; `*` is any."""
        every = {name.lower().rstrip(".") for name in (*names, *extra) if name}
        self._any = "*" in every
        self._wild = frozenset(name[2:] for name in every if name.startswith("*."))
        plain = [name for name in every if not name.startswith("*")]
        self._guard = HostGuard(names=plain, domains=(), is_node=self._matches_wildcard)
        self._kept: dict[bytes, int] = {}

    def standing(self, host: bytes) -> int:
        """REFUSED, PRIVATE, or PUBLIC (the last may be told to be HTTPS for ever: HSTS)."""
        kept = self._kept.get(host)
        if kept is not None:
            return kept
        if len(host) > HOST_BYTES_MAX:
            return REFUSED
        text = host.decode("latin-1")
        if not self._any and not self._guard.allows(text):
            return REFUSED
        standing = PUBLIC if is_public(host_name(text) or "") else PRIVATE
        if len(self._kept) < KEPT_MAX:
            self._kept[host] = standing
        return standing

    def _matches_wildcard(self, name: str) -> bool:
        return name.partition(".")[2] in self._wild


def is_public(name: str) -> bool:
    """Whether a host name is one of the public DNS: no address, no single word, no private end."""
    name = name.lower().rstrip(".")
    if "." not in name or name.endswith(PRIVATE_SUFFIXES):
        return False
    try:
        ipaddress.ip_address(name)
    except ValueError:
        # 127.1 and 0x7f.1 are addresses to some resolvers, and no public name ends in a digit
        return not name.rpartition(".")[2].isdigit()
    return False
