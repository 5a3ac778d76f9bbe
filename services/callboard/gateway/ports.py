"""What the parts of the gateway know of each other.

    source ─ RTP ─► ingest ─ Packet ─► Track ─► Group ─► legs ─ SRTP ─► Pair ─► viewer
    viewer ─► Mux ─ STUN, DTLS, RTCP ─► Peer ─► Session ─ keyframe wanted, lost packets ─► Track

Sockets are `mux`'s and `sources`'; ciphers are `peer`'s and `fanout`'s; all else is given bytes
and times. Times are seconds of the loop's clock unless a name says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from callboard.gateway.stream.packet import Packet


@dataclass(frozen=True, slots=True)
class Address:
    """Where datagrams go: an IPv4 or IPv6 address and a port."""

    host: str
    port: int


class Pair(Protocol):
    """A candidate pair (RFC 8445): one way to a peer. Equal pairs are the
    same object while they live."""

    @property
    def address(self) -> Address:
        """The peer's side, as seen here."""

    @property
    def reliable(self) -> bool:
        """Whether it is a TCP connection, framed by RFC 4571."""

    def send(self, data: bytes) -> bool:
        """Send one packet; False if it was dropped (a full socket or queue; it is counted)."""


class Leg(Protocol):
    """One viewer's copy of one track: its SSRC, numbering and cipher. Made by `Fanout.leg`."""

    @property
    def ssrc(self) -> int:
        """As negotiated."""

    @property
    def payload_type(self) -> int:
        """Likewise."""

    @property
    def packets(self) -> int:
        """Sent so far, as the sender reports tell."""

    @property
    def octets(self) -> int:
        """Of payload, likewise."""

    @property
    def dropped(self) -> int:
        """Packets that were not sent: a full socket or queue, no way there, a number too old."""

    @property
    def next_number(self) -> int:
        """The number behind the highest one used so far, with the rollover counter before its 16
        bits (RFC 3711, 3.3.1); 0: none was."""

    def was_sent(self, number: int) -> bool:
        """Whether this 16-bit number was used for a packet by the offsets of now, so lately that
        it can be sent again."""

    def send(self, packets: Iterable[Packet]) -> None:
        """Send packets to this viewer alone: a burst, or what was lost (the same numbers again)."""

    def rebase(self, sequence: int, timestamp: int) -> None:
        """Change the offsets (any integers; they are taken modulo 2¹⁶ and 2³²)."""

    def sequence_of(self, number: int, newest: int) -> int:
        """The track's number of a 16-bit sequence number as this viewer has it; `newest` is the
        track's newest one, near which it is looked for."""

    def timestamp_of(self, timestamp: int) -> int:
        """A track's timestamp as this viewer has it, 32 bits."""

    def move(self, pair: Pair) -> None:
        """Send by another pair from now on."""

    def close(self) -> None:
        """Leave all groups; the cipher is no longer used."""


class Receiver(Protocol):
    """What a group gives packets to: a leg, or what stands in for one while its viewer joins."""

    def send(self, packets: Iterable[Packet]) -> None:
        """Take packets, in order."""


class Group(Protocol):
    """The legs that a rendition of a track goes to."""

    def join(self, leg: Receiver) -> None:
        """Send to it, too, from the next packet on."""

    def leave(self, leg: Receiver) -> None:
        """Send to it no more."""

    def send(self, *packets: Packet) -> None:
        """Send to all. Packets that came together are sent together, at less cost."""

    def __len__(self) -> int:
        """How many legs."""


class Fanout(Protocol):
    """Sends packets to many: rewrites the header, protects (SRTP), sends."""

    def leg(
        self,
        srtp: Srtp,
        pair: Pair,
        *,
        ssrc: int,
        payload_type: int,
        sequence: int,
        timestamp: int,
        send_time_id: int = 0,
    ) -> Leg:
        """A new leg; `sequence` and `timestamp` are its offsets; `send_time_id` is the header
        extension abs-send-time's id, 0: not negotiated. The offset is chosen so that the first
        number sent is below 32,768 (RFC 3711, 3.3.1: the rollover counter is certain then), and
        no two legs of a cipher have the same SSRC, ever."""

    def group(self) -> Group:
        """A new group."""


class Srtp(Protocol):
    """The ciphers of one peer once DTLS is through."""

    @property
    def sending(self) -> int:
        """libsrtp's session (`srtp_t`) for outgoing packets, as a pointer, good while this object
        lives. It allows repeats (`allow_repeat_tx`) in a window of 1,024 or more."""

    def protect_rtcp(self, data: bytes) -> bytes:
        """Encrypt a compound packet of RTCP."""


class Peer(Protocol):
    """The transport to one browser: ICE-lite, DTLS, SRTP. Made by `Transports.peer`."""

    @property
    def ufrag(self) -> str:
        """Of the description we give."""

    @property
    def password(self) -> str:
        """Likewise."""

    @property
    def fingerprint(self) -> str:
        """Of the certificate: `sha-256 AA:BB:…`, as in a=fingerprint."""

    async def connect(self, fingerprints: Sequence[str], within_s: float) -> None:
        """Wait for DTLS (we are its server: a=setup:passive) with a peer that has one of these
        certificates, and for ICE's nomination. Raises ConnectionError, TimeoutError."""

    @property
    def srtp(self) -> Srtp:
        """After `connect`."""

    @property
    def pair(self) -> Pair:
        """The last valid nominated one. After `connect`."""

    on_pair: Callable[[Pair], None]
    """Called when another one was nominated."""
    on_writable: Callable[[Pair], None]
    """Called when the pair that media goes by had dropped RTP (a connection whose queue was full)
    and has room again: a keyframe is due."""
    on_rtp: Callable[[bytes, float], None]
    """Called with each packet of RTP, decrypted, and the time it came. The first may come before
    `connect` is through: a browser sends as soon as DTLS is, and nominates later."""
    on_rtcp: Callable[[bytes, float], None]
    """Likewise, with each compound packet of RTCP."""
    on_closed: Callable[[str], None]
    """Called once, when the peer has gone (with why): DTLS closed, or silent for 30 s."""

    def restart(self) -> tuple[str, str]:
        """Restart ICE (RFC 8445, 2.4): a new ufrag and password; the old ones are good until the
        first check with the new ones is valid. DTLS and ciphers go on."""

    def send_rtcp(self, data: bytes) -> None:
        """Encrypt and send a compound packet."""

    def close(self) -> None:
        """Say good-bye (DTLS close_notify) and forget it. `on_closed` is not called."""


class Transports(Protocol):
    """The media port: one UDP socket and one TCP listener for all peers."""

    def peer(self) -> Peer:
        """A new one, which answers checks from now on."""

    def candidates(self, *, loopback: bool) -> tuple[str, ...]:
        """The lines `candidate:…` of a description, UDP before TCP; those of loopback addresses
        only if asked for."""
