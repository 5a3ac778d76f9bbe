"""What the media port counts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class MediaCounters:
    """Since the start; plain numbers, which the metrics read."""

    datagrams: int = 0
    """That came by UDP."""
    frames: int = 0
    """That came by TCP (RFC 4571)."""
    checks: int = 0
    """Binding requests with the right password."""
    strangers: int = 0
    """Packets that are not STUN, from senders that passed no check: dropped."""
    malformed: int = 0
    """Packets that are none of STUN, DTLS and RTP, or do not parse as STUN: dropped."""
    refused_checks: int = 0
    """Binding requests with credentials that are not good: answered with an error."""
    unanswered: int = 0
    """Binding requests that were one too many in that second."""
    unsent: int = 0
    """Packets that the socket or a connection's queue had no room for, or no way to."""
    tcp_connections: int = 0
    """Accepted so far."""
    tcp_refused: int = 0
    """Connections closed at once: there were too many."""
    tcp_closed: int = 0
    """Connections closed by us: no valid check in time, or what came was no frame of ours."""
    dtls_dropped: int = 0
    """Records of DTLS that one peer sent faster than they were taken."""
    srtp_replayed: int = 0
    """Packets of SRTP and SRTCP that had come before, or came too late to tell."""
    srtp_forged: int = 0
    """Packets of SRTP and SRTCP that are not of the peer whose address they came from."""
    peers_gone: int = 0
    """Peers that vanished without a word."""
