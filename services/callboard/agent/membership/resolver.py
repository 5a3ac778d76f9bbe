"""Names to addresses, each look-up in a thread of its own.

getaddrinfo may hang for many seconds. In the event loop's own pool it would queue before work that
must not wait, so every look-up has a daemon thread, a time-out, and there are few at once.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from collections.abc import Callable

from callboard.agent.membership.errors import MembershipError
from callboard.swim.messages import Address

LOOKUPS_MAX = 8
"""Look-ups under way at once, those included that hang; more fail at once."""

ADDRESSES_MAX = 16
"""Addresses taken of one name."""


def split_host_port(text: str, port: int) -> Address:
    """Take "host", "host:port", "[v6]", "[v6]:port" or a bare v6 apart. Raises ValueError."""
    host, given = text.strip(), ""
    if host.startswith("["):
        host, _, given = host[1:].partition("]")
        given = given.removeprefix(":")
    elif host.count(":") == 1:
        host, _, given = host.partition(":")
    if not host or (given and not given.isdigit()) or not 0 < int(given or port) < 65536:
        raise ValueError(f"not an address: {text!r}")
    return host, int(given or port)


class Resolver:
    """Looks names up. One per membership."""

    def __init__(self, lookup: Callable[[str], list[str]] | None = None) -> None:
        """`lookup(host)` returns IP addresses or raises OSError; the system's by default."""
        self._lookup = lookup or system_lookup
        self._under_way = 0

    async def resolve(self, host: str, timeout_s: float) -> list[str]:
        """The IP addresses of a host; an address is its own. Raises OSError, TimeoutError."""
        try:
            return [str(ipaddress.ip_address(host))]
        except ValueError:
            pass
        if self._under_way >= LOOKUPS_MAX:
            raise OSError(f"{self._under_way} look-ups are hanging already")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[str]] = loop.create_future()

        def settle(found: list[str] | OSError) -> None:
            self._under_way -= 1
            if answer.done():
                return
            if isinstance(found, OSError):
                answer.set_exception(found)
            else:
                answer.set_result(found)

        def run() -> None:
            found: list[str] | OSError
            try:
                found = self._lookup(host)[:ADDRESSES_MAX]
            except OSError as problem:
                found = problem
            except ValueError as problem:  # UnicodeError: no such name can be
                found = OSError(f"not a host name: {problem}")
            try:
                loop.call_soon_threadsafe(settle, found)
            except RuntimeError:
                pass  # the loop is closed: nobody waits any more

        self._under_way += 1
        threading.Thread(target=run, name=f"resolve-{host}", daemon=True).start()
        async with asyncio.timeout(timeout_s):
            return await answer


def system_lookup(host: str) -> list[str]:
    """Ask the system. Raises OSError."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def outgoing_address() -> str:
    """The address that this machine has towards the network; no packet is sent.

    Raises MembershipError when there is no route: then the address must be given.
    """
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("192.0.2.1", 9))  # TEST-NET-1 (RFC 5737): any address off this machine
            return str(probe.getsockname()[0])
    except OSError as problem:
        raise MembershipError(
            f"no address to advertise could be found ({problem}): give one"
        ) from None
