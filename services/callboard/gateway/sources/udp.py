"""Sockets that RTP comes in by: one for each track and rendition, RTP and RTCP on the same port.

The two are told apart by the payload type (RFC 5761, section 4). RTCP is sent back by the same
socket: to where the sender's own comes from, and until some came to where its RTP does.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
from collections import Counter
from collections.abc import Callable, Iterable

from callboard.chassis.logs import RateLimited
from callboard.gateway.sources.senders import TAKEOVER_S, Network, Senders, Source
from callboard.media import rtp

log = logging.getLogger(__name__)

RECEIVE_BUFFER_BYTES = 4 << 20
"""Of the kernel's for one socket: 0.4 s of a stream of 80 Mbit/s, while the loop is busy."""
RECEIVE_BUFFER_FORCE = 33
"""SO_RCVBUFFORCE of Linux, beyond net.core.rmem_max, for root."""
DATAGRAMS_A_TURN_MAX = 64
"""Read before the loop does other things: viewers of other streams wait for no more than that."""
DATAGRAM_BYTES_MAX = 65_536

PLAIN_HEADER = 0x80
"""The first octet: version 2, neither padding, extension nor CSRCs."""

MALFORMED = "malformed"
"""Why a packet is refused: no RTP of version 2."""
PAYLOAD_TYPE = "payload type"
"""Why a packet is refused: a payload type that the track has not."""
NO_SENDER = "RTCP of no sender"
"""Why a packet is refused: it is of RTCP, and nobody on that host sends RTP."""
OTHER_SOURCE = "RTCP of another source"
"""Why a packet is refused: it is of RTCP, and who sends RTP is another SSRC."""
REFUSED_LOG_INTERVAL_S = 30.0

Receive = Callable[[bytes, float], None]


def _nothing() -> None:
    """Nobody asked."""


class IngestSocket:
    """One port. It is open once it is made; `close` it."""

    def __init__(
        self,
        bind: str,
        port: int,
        *,
        payload_types: Iterable[int],
        senders: Iterable[Network],
        on_rtp: Receive,
        on_rtcp: Receive,
        on_turn: Callable[[], None] = _nothing,
        takeover_s: float = TAKEOVER_S,
    ) -> None:
        """`port` 0 lets the system choose. `on_rtp` and `on_rtcp` are given packets of the one
        sender, and the time they came; `on_turn` is called when all that had come were given.
        Raises OSError. To be called on the loop."""
        self._loop = asyncio.get_running_loop()
        self._payload_types = frozenset(payload_types)
        self._on_rtp = on_rtp
        self._on_rtcp = on_rtcp
        self._on_turn = on_turn
        self._reports_from: Source | None = None
        self._limited = RateLimited(log, REFUSED_LOG_INTERVAL_S)
        self._buffer = bytearray(DATAGRAM_BYTES_MAX)
        self._view = memoryview(self._buffer)
        self._refused: Counter[str] = Counter()
        self.senders = Senders(senders, takeover_s)
        self.packets = 0
        """Of RTP that were taken."""
        self.octets = 0
        """Of those, headers included."""
        self.ssrc = 0
        """Of the last packet of RTP: what RTCP to the sender is about; 0 before the first."""
        self.unsent = 0
        """Packets of RTCP that could not be sent back."""
        self._socket = _open(bind, port)
        self.port: int = self._socket.getsockname()[1]
        self._loop.add_reader(self._socket.fileno(), self._readable)

    @property
    def refused(self) -> Counter[str]:
        """Packets that were not taken, by reason."""
        return self.senders.refused + self._refused

    def send(self, data: bytes) -> bool:
        """Send a packet of RTCP back to the sender; False if there is none, or it is dropped: a
        sender that misses one is told again."""
        to = self._reports_from or self.senders.current
        if to is None or self._socket.fileno() < 0:
            return False
        try:
            self._socket.sendto(data, to)
        except OSError:  # BlockingIOError among them
            self.unsent += 1
            return False
        return True

    def expects(self, networks: Iterable[Network]) -> None:
        """Take packets from these addresses only, from now on."""
        self.senders.expects(networks)
        if self.senders.current is None:
            self._reports_from = None

    def forget_sender(self) -> None:
        """The sender has gone, or has begun anew: whoever is allowed and first is the next."""
        self.senders.forget()
        self._reports_from = None

    def close(self) -> None:
        """Close the port; idempotent."""
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()

    def _readable(self) -> None:
        try:
            self._read()
        finally:
            self._on_turn()

    def _read(self) -> None:
        now = self._loop.time()
        receive, view = self._socket.recvfrom_into, self._view
        for _ in range(DATAGRAMS_A_TURN_MAX):
            try:
                length, source = receive(view)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as problem:  # what an ICMP message says of a packet that we sent
                extra = {"port": self.port, "reason": str(problem)}
                self._limited.warning("socket", "a port of RTP has an error", extra)
                return
            try:
                self._take(bytes(view[:length]), (source[0], source[1]), now)
            except Exception:  # a mistake of ours, in one packet: the others go on
                if self._limited.warning("failed", "a packet of RTP failed", {"port": self.port}):
                    log.exception("as follows")
            if self._socket.fileno() < 0:  # closed by whoever was given the packet
                return

    def _take(self, data: bytes, source: Source, now: float) -> None:
        if len(data) < 2 or data[0] >> 6 != 2:
            self._refused[MALFORMED] += 1
        elif rtp.is_rtcp(data):
            self._take_rtcp(data, source, now)
        elif not is_rtp(data):
            self._refused[MALFORMED] += 1
        elif data[1] & 0x7F not in self._payload_types:
            self._refused[PAYLOAD_TYPE] += 1
            self._refuse(source, f"payload type {data[1] & 0x7F}")
        elif self._admits(source, now):
            self.packets += 1
            self.octets += len(data)
            self.ssrc = int.from_bytes(data[8:12], "big")
            self._on_rtp(data, now)

    def _take_rtcp(self, data: bytes, source: Source, now: float) -> None:
        """Of the host that sends RTP: GStreamer's udpsink has a socket of its own for it. The SSRC
        tells it from what a second sender there reports, who is refused."""
        if not self.senders.knows(source[0]):
            self._refused[NO_SENDER] += 1
        elif len(data) < 8 or int.from_bytes(data[4:8], "big") != self.ssrc:
            self._refused[OTHER_SOURCE] += 1
        else:
            self._reports_from = source
            self._on_rtcp(data, now)

    def _admits(self, source: Source, now: float) -> bool:
        before = self.senders.current
        why = self.senders.refusal(source, now)
        if why is not None:
            self._refuse(source, why)
            return False
        if before != source:
            self._reports_from = None
            log.info("a sender of RTP", extra={"port": self.port, "from": _text(source)})
        return True

    def _refuse(self, source: Source, why: str) -> None:
        extra = {"port": self.port, "from": _text(source), "why": why}
        self._limited.warning(source[0], "a sender of RTP is refused", extra)


def is_rtp(data: bytes) -> bool:
    """Whether a packet has a whole header of RTP; the plain one is told at a glance."""
    if data[0] == PLAIN_HEADER:
        return len(data) >= rtp.HEADER_BYTES
    try:
        rtp.parse(data)
    except rtp.BadPacket:
        return False
    return True


def _open(bind: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, RECEIVE_BUFFER_FORCE, RECEIVE_BUFFER_BYTES)
        sock.bind((str(ipaddress.ip_address(bind)), port))
    except (OSError, ValueError):
        sock.close()
        raise
    return sock


def _text(source: Source) -> str:
    host = f"[{source[0]}]" if ":" in source[0] else source[0]
    return f"{host}:{source[1]}"
