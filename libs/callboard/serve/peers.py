"""Who is at the other end of a TLS connection: read from the certificate once, and kept.

The certificate was verified by the context; what its holder may do is for handlers to say, by
`Request.peer`. A WebSocket's application finds the peer in `scope["state"]["peer"]`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from callboard.pki.roles import Peer, peer_of

CONNECTION_AGE_MAX_S = 3600.0
"""An older TLS connection ends with its next answer: a client shows its certificate anew."""


@dataclass(frozen=True, slots=True)
class Shown:
    """The certificate that a client showed."""

    der: bytes
    peer: Peer
    since: float
    """The loop's time of the handshake."""

    def too_old(self, now: float) -> bool:
        """Whether its connection has lasted long enough."""
        return now - self.since > CONNECTION_AGE_MAX_S


def shown_by(transport: asyncio.BaseTransport, trust: str, now: float) -> Shown | None:
    """What a connection's client showed; None without TLS or without a certificate."""
    end = transport.get_extra_info("ssl_object")
    certificate = end.getpeercert() if end is not None else None
    if not certificate:
        return None
    return Shown(end.getpeercert(True), peer_of(certificate, trust), now)
