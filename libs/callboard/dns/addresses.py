"""IP addresses that are given as text, whatever way they are written."""

from __future__ import annotations

import ipaddress

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


def read_address(text: str) -> IPAddress | None:
    """An address without its zone, one of IPv4 mapped to IPv6 as IPv4; None if it is none."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
