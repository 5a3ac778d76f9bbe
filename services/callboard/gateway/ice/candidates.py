"""Candidates as descriptions list them (RFC 8839, 5.1; RFC 6544, 4.5)."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass

from callboard.gateway.ports import Address

_HOST = 126
_HOST_TCP = 90
"""Lower than UDP's (RFC 6544, 4.2), by as much as Chromium does it."""
_REFLEXIVE = 100
_LOCAL_MAX = 0xFFFF
_PASSIVE = 4 << 13
"""Direction preference of a passive host candidate (RFC 6544, 4.2)."""
_OTHER_MAX = (1 << 13) - 1
_COMPONENT = 1
"""RTP; RTCP comes by it, too (RFC 5761)."""


@dataclass(frozen=True, slots=True)
class Place:
    """An address where we can be reached."""

    address: Address
    mapped_from: Address | None = None
    """If a STUN server told us of it: what it is mapped from. It holds for UDP alone."""


def priority(type_preference: int, local_preference: int) -> int:
    """RFC 8445, 5.1.2.1."""
    return type_preference << 24 | local_preference << 8 | 256 - _COMPONENT


def candidate_lines(places: Iterable[Place]) -> tuple[str, ...]:
    """`candidate:…` of each place, best first, UDP before TCP; equal ones once."""
    wanted = tuple(dict.fromkeys(places))
    udp = [_udp(place, number) for number, place in enumerate(wanted)]
    tcp = [_tcp(place, number) for number, place in enumerate(wanted) if not place.mapped_from]
    return (*udp, *tcp)


def _udp(place: Place, number: int) -> str:
    base = place.mapped_from
    kind = "host" if base is None else "srflx"
    rank = priority(_HOST if base is None else _REFLEXIVE, max(_LOCAL_MAX - number, 0))
    line = _line("udp", kind, place.address, base or place.address, rank)
    return line if base is None else f"{line} raddr {base.host} rport {base.port}"


def _tcp(place: Place, number: int) -> str:
    rank = priority(_HOST_TCP, _PASSIVE | max(_OTHER_MAX - number, 0))
    line = _line("tcp", "host", place.address, place.address, rank)
    return f"{line} tcptype passive"


def _line(transport: str, kind: str, address: Address, base: Address, rank: int) -> str:
    # the same for candidates of one type, base and transport (RFC 8445, 5.1.1.3)
    foundation = zlib.crc32(f"{kind} {transport} {base.host}".encode())
    return (
        f"candidate:{foundation} {_COMPONENT} {transport} {rank} "
        f"{address.host} {address.port} typ {kind}"
    )
