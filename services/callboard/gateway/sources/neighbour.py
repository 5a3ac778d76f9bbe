"""The default route's gateway, from Linux' own table. Pure but for `default_gateway`.

A container engine that publishes a port sends on what comes to it, from this address.
"""

from __future__ import annotations

import ipaddress
import sys
from pathlib import Path

from callboard.gateway.sources.senders import Network

TABLE = Path("/proc/net/route")
ROUTE_GATEWAY = 0x2
"""RTF_GATEWAY: the route has one."""


def default_gateway() -> Network | None:
    """The gateway of IPv4's default route; None where there is none, or no such table."""
    try:
        return gateway_in(TABLE.read_text())
    except (OSError, UnicodeDecodeError):
        return None


def gateway_in(table: str) -> Network | None:
    """The same, of a table's text: the route with the lowest metric is the one in use."""
    found: list[tuple[int, Network]] = []
    for line in table.splitlines()[1:]:
        fields = line.split()
        try:
            destination, gateway, flags = (int(fields[at], 16) for at in (1, 2, 3))
            metric, mask = int(fields[6]), int(fields[7], 16)
            address = gateway.to_bytes(4, sys.byteorder)
        except (ValueError, IndexError, OverflowError):
            continue
        if destination == 0 and mask == 0 and flags & ROUTE_GATEWAY:
            found.append((metric, ipaddress.ip_network(address)))
    return min(found, key=lambda each: each[0])[1] if found else None
