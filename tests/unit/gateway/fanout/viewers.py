"""Viewers that the fan-out sends to: real sockets, and receivers' SRTP sessions of pylibsrtp."""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

# pylibsrtp keeps its cffi objects out of __all__; they are typed nowhere
from pylibsrtp import Policy, Session, ffi  # type: ignore[attr-defined]

from callboard.gateway.ports import Address, Fanout, Group, Leg, Pair, Srtp
from callboard.gateway.stream.packet import Packet

GCM_256 = Policy.SRTP_PROFILE_AEAD_AES_256_GCM
GCM_128 = Policy.SRTP_PROFILE_AEAD_AES_128_GCM
CM_SHA1_80 = Policy.SRTP_PROFILE_AES128_CM_SHA1_80
PROFILES = {"GCM-256": GCM_256, "GCM-128": GCM_128, "CM-SHA1-80": CM_SHA1_80}
KEY_BYTES = 46
"""Enough for each profile: a key of 32 bytes and a salt of 14."""

OpenFanout = Callable[[socket.socket, Callable[[], float]], Fanout]


def _session(key: bytes, direction: int, profile: int, window: int) -> Session:
    policy = Policy(key=key, ssrc_type=direction, srtp_profile=profile)
    policy.allow_repeat_tx = True
    policy.window_size = window
    return Session(policy)


class Cipher:
    """What DTLS leaves to both sides of a peer. The window is by default longer than what a leg
    remembers: what a leg refuses, libsrtp would not."""

    def __init__(self, key: bytes, profile: int = GCM_256, window: int = 8192) -> None:
        self._sender = _session(key, Policy.SSRC_ANY_OUTBOUND, profile, window)
        self._receiver = _session(key, Policy.SSRC_ANY_INBOUND, profile, window)

    @property
    def sending(self) -> int:
        """libsrtp's session, as a pointer."""
        return int(ffi.cast("uintptr_t", self._sender._srtp[0]))

    def protect_rtcp(self, data: bytes) -> bytes:
        """Encrypt a compound packet of RTCP."""
        return self._sender.protect_rtcp(data)

    def read(self, datagram: bytes) -> Received:
        """Decrypt what came; raises pylibsrtp.Error for what is not genuine, or a repeat."""
        return parse(self._receiver.unprotect(datagram))


@dataclass(frozen=True, slots=True)
class Received:
    """One packet of RTP, as a viewer has it."""

    sequence: int
    timestamp: int
    ssrc: int
    payload_type: int
    marker: bool
    extension: bytes
    """Behind the fixed header."""
    payload: bytes


def parse(packet: bytes) -> Received:
    """Take a packet of RTP apart."""
    first, second, sequence, timestamp, ssrc = struct.unpack_from("!BBHII", packet)
    assert first in (0x80, 0x90), "version 2, no padding, no CSRC"
    end = 12
    if first == 0x90:
        end += 4 + 4 * int.from_bytes(packet[14:16], "big")
    return Received(
        sequence,
        timestamp,
        ssrc,
        second & 0x7F,
        second >= 0x80,
        packet[12:end],
        packet[end:],
    )


def ssrc_of(datagram: bytes) -> int:
    """The header is not encrypted."""
    return int.from_bytes(datagram[8:12], "big")


class UdpPair:
    """A candidate pair by the media port's UDP socket."""

    reliable = False

    def __init__(self, sock: socket.socket, address: Address) -> None:
        self.address = address
        self._socket = sock

    def send(self, data: bytes) -> bool:
        """Send one packet."""
        return self._socket.sendto(data, (self.address.host, self.address.port)) == len(data)


class StreamPair:
    """A pair by a connection: packets come whole and in order, until nobody reads them."""

    reliable = True
    address = Address("127.0.0.1", 9)

    def __init__(self) -> None:
        self._ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.setblocking(False)
        self.theirs.setblocking(False)

    def send(self, data: bytes) -> bool:
        """Send one packet, if there is room."""
        try:
            return self._ours.send(data) == len(data)
        except BlockingIOError:
            return False

    def received(self) -> list[bytes]:
        """What came."""
        return _read_all(self.theirs)

    def close(self) -> None:
        """Close both ends."""
        self._ours.close()
        self.theirs.close()


class BreakingPair(StreamPair):
    """A connection that breaks with the first packet, and takes others with it."""

    def __init__(self) -> None:
        super().__init__()
        self.broken: list[Callable[[], None]] = []
        self.tried = 0

    def send(self, data: bytes) -> bool:
        """Break."""
        self.tried += 1
        for then in self.broken:
            then()
        return False


def _read_all(sock: socket.socket, size_max: int = 2048) -> list[bytes]:
    datagrams = []
    while True:
        try:
            datagrams.append(sock.recv(size_max))
        except BlockingIOError:
            return datagrams


class Screen:
    """A UDP socket that viewers' packets come to. On loopback they are there when sent."""

    def __init__(self, host: str = "127.0.0.1", receive: int = 2048) -> None:
        """`receive` is the longest that is read at a time."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.bind((host, 0))
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.address = Address(host, self.socket.getsockname()[1])
        self._receive = receive

    def received(self) -> list[bytes]:
        """What came since it was asked last."""
        return _read_all(self.socket, self._receive)

    def close(self) -> None:
        """Close it."""
        self.socket.close()


@dataclass
class Viewer:
    """One of them."""

    cipher: Cipher
    leg: Leg
    ssrc: int


@dataclass
class Stand:
    """A fan-out, and viewers at one screen."""

    fanout: Fanout
    socket: socket.socket
    screen: Screen
    now: list[float]
    """The fan-out's clock: its last element."""
    rng: random.Random = field(default_factory=lambda: random.Random(7))

    def pair(self, screen: Screen | None = None) -> UdpPair:
        """A pair to a screen."""
        return UdpPair(self.socket, (screen or self.screen).address)

    def viewer(
        self,
        *,
        sequence: int = 0,
        timestamp: int = 0,
        pair: Pair | None = None,
        group: Group | None = None,
        profile: int = GCM_256,
        send_time_id: int = 0,
        payload_type: int = 96,
    ) -> Viewer:
        """A new one, with an SSRC and key of its own."""
        cipher = Cipher(self.rng.randbytes(KEY_BYTES), profile)
        srtp: Srtp = cipher
        ssrc = self.rng.getrandbits(32)
        leg = self.fanout.leg(
            srtp,
            pair or self.pair(),
            ssrc=ssrc,
            payload_type=payload_type,
            sequence=sequence,
            timestamp=timestamp,
            send_time_id=send_time_id,
        )
        if group is not None:
            group.join(leg)
        return Viewer(cipher, leg, ssrc)

    def read(self, viewer: Viewer) -> list[Received]:
        """What came for one viewer, when there is but one."""
        return [viewer.cipher.read(datagram) for datagram in self.screen.received()]


def packet(
    sequence: int,
    payload: bytes = b"picture",
    *,
    timestamp: int = 0,
    marker: bool = False,
    keyframe: bool = False,
) -> Packet:
    """One of a track's."""
    return Packet(sequence, timestamp, marker, payload, keyframe)
