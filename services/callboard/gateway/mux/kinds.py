"""What a packet is, by its first byte (RFC 7983, 7) and, for RTCP, its second (RFC 5761, 4)."""

from __future__ import annotations

from enum import Enum


class Kind(Enum):
    """Of a packet on the media port."""

    STUN = "STUN"
    DTLS = "DTLS"
    RTP = "RTP"
    RTCP = "RTCP"
    OTHER = "other"


_BY_FIRST_BYTE = tuple(
    Kind.STUN
    if first < 4
    else Kind.DTLS
    if 20 <= first < 64
    else Kind.RTP
    if 128 <= first < 192
    else Kind.OTHER
    for first in range(256)
)


def kind_of(packet: bytes) -> Kind:
    """OTHER for an empty packet, too, and for RTP and RTCP too short for their fixed header."""
    if not packet:
        return Kind.OTHER
    kind = _BY_FIRST_BYTE[packet[0]]
    if kind is not Kind.RTP:
        return kind
    if len(packet) < 8:
        return Kind.OTHER
    if 192 <= packet[1] < 224:
        return Kind.RTCP
    return Kind.RTP if len(packet) >= 12 else Kind.OTHER
