"""What both kinds of pairs have: whom they are of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from callboard.gateway.mux.kinds import Kind
from callboard.gateway.ports import Address


class Owner(Protocol):
    """The peer that a pair is of."""

    def received(self, kind: Kind, packet: bytes, pair: MuxPair, now: float) -> None:
        """Take a packet of DTLS, RTP or RTCP that came by one of its pairs."""

    def lost(self, pair: MuxPair) -> None:
        """The pair is no more: closed by the other side, or now another peer's."""

    def writable(self, pair: MuxPair) -> None:
        """A pair that dropped packets has room again."""


class MuxPair(Protocol):
    """A `ports.Pair` as the media port makes it."""

    owner: Owner | None
    """The peer that passed a check by it; None before."""

    @property
    def address(self) -> Address:
        """The peer's side."""

    @property
    def reliable(self) -> bool:
        """Whether it is a TCP connection."""

    @property
    def overflowed(self) -> bool:
        """Whether packets of RTP are being dropped, since too many wait. Always false by UDP."""

    def send(self, data: bytes) -> bool:
        """Send one packet; False if it was dropped."""

    def keep(self, owner: Owner) -> None:
        """Give its packets to this peer from now on."""

    def release(self) -> None:
        """It is nobody's any more: packets are a stranger's; a connection is closed."""


OnStun = Callable[[bytes, MuxPair], None]
"""Called with each packet that is STUN by its first byte, and the pair that an answer goes by."""
