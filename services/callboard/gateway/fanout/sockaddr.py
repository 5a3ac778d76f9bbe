"""Where datagrams go, as the socket they leave by wants it told."""

from __future__ import annotations

import ipaddress
import socket
import struct

from callboard.gateway.ports import Address

SocketAddress = tuple[str, int] | tuple[str, int, int, int]

_IN = struct.Struct("!H4s8x")
_IN6_BEHIND_FLOW = struct.Struct("=I")
FAMILY = struct.Struct("=H")


def _parsed(address: Address, family: int) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Raises ValueError for what is no address, or cannot be reached by such a socket."""
    if not 0 < address.port < 1 << 16:
        raise ValueError(f"{address.port} is not a port")
    parsed = ipaddress.ip_address(address.host)
    if family == socket.AF_INET6 and parsed.version == 4:
        return ipaddress.IPv6Address(f"::ffff:{parsed}")
    if family == socket.AF_INET and parsed.version == 6:
        raise ValueError(f"{address.host} cannot be reached by an IPv4 socket")
    return parsed


def _scope(parsed: ipaddress.IPv6Address) -> int:
    scope = parsed.scope_id
    if scope is None:
        return 0
    return int(scope) if scope.isdecimal() else socket.if_nametoindex(scope)


def socket_address(address: Address, family: int) -> SocketAddress:
    """For `socket.sendto`, of a socket of `family`. Raises ValueError; OSError for a scope that is
    no interface."""
    parsed = _parsed(address, family)
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed), address.port
    return str(parsed).partition("%")[0], address.port, 0, _scope(parsed)


def packed_address(address: Address, family: int) -> bytes:
    """Likewise, as `struct sockaddr_in` or `sockaddr_in6` of Linux."""
    parsed = _parsed(address, family)
    if isinstance(parsed, ipaddress.IPv4Address):
        return FAMILY.pack(socket.AF_INET) + _IN.pack(address.port, parsed.packed)
    head = FAMILY.pack(socket.AF_INET6) + struct.pack("!HI", address.port, 0)
    return head + parsed.packed + _IN6_BEHIND_FLOW.pack(_scope(parsed))
