"""Which recursors are asked: their addresses in settings, and those that are this server itself."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterable

from callboard.dns.addresses import read_address

log = logging.getLogger(__name__)

Address = tuple[str, int]

WILDCARDS = frozenset({"0.0.0.0", "::"})
LOOPBACKS = ("127.0.0.1", "::1")


def recursor_address(text: str) -> Address:
    """ "ip", "ip:port" or "[ip]:port" as (ip, port). Raises ValueError."""
    host, port = text, "53"
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":") or port
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.inet_pton(family, host)
    except OSError:
        raise ValueError(f"recursor {text!r} is no IP address") from None
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"recursor {text!r} has no valid port")
    return host, int(port)


def without_own(recursors: Iterable[Address], addresses: Iterable[str], port: int) -> list[Address]:
    """The recursors, each once, that are not the server at these IP addresses and this port.

    Of a wildcard only the loopback addresses are sure to be its own: another (Docker's 127.0.0.11)
    may lead elsewhere all the same.
    """
    own = set(addresses)
    if own & WILDCARDS:
        own.update(LOOPBACKS)
    own = {_spelled(text) for text in own}
    kept = []
    for host, number in dict.fromkeys(recursors):
        if number == port and _spelled(host) in own:
            log.warning("a recursor is this server itself: left out", extra={"at": (host, number)})
        else:
            kept.append((host, number))
    return kept


def _spelled(text: str) -> str:
    """An address in its one spelling. (A host name is not resolved here.)"""
    return str(read_address(text) or text)
