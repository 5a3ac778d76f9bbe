"""The media port as sessions see it: `ports.Transports`.

datagram, frame ─► UdpPort, TcpPort ─ STUN ─► take_stun ─ USERNAME ─► BrowserPeer.check
                            │                     └ none: answered as a plain STUN server
                            └ DTLS, SRTP, of a pair that passed a check ─► BrowserPeer.received
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
from collections.abc import Callable, Sequence

from callboard.gateway.aiortc_private import Certificates
from callboard.gateway.allowance import Allowance
from callboard.gateway.fanout.sockaddr import socket_address
from callboard.gateway.ice import binding
from callboard.gateway.ice.candidates import candidate_lines
from callboard.gateway.ice.credentials import Credentials, new_credentials
from callboard.gateway.mux.advertised import Advertised
from callboard.gateway.mux.counters import MediaCounters
from callboard.gateway.mux.pairs import MuxPair
from callboard.gateway.mux.tcp import TcpLimits, TcpPort
from callboard.gateway.mux.udp import UdpPort
from callboard.gateway.peer.peer import BrowserPeer
from callboard.gateway.ports import Address

log = logging.getLogger(__name__)

SWEEP_INTERVAL_S = 1.0
ANSWERS_PER_S, ANSWERS_AT_ONCE = 500.0, 500
"""To those who show no password (as a plain STUN server, 400, 401), all together. Who sends by
forged addresses gets no more bytes to his victim than this, and no answer is much longer than its
request."""
_LISTEN_BACKLOG = 256
_FREE_PORT_TRIES = 16


class MediaTransports:
    """The media port, open from `start` to `stop`; both are called in one loop."""

    def __init__(
        self,
        bind: str,
        port: int,
        advertise: Sequence[str] = (),
        *,
        clock: Callable[[], float] | None = None,
        rng: random.Random | None = None,
        tcp_limits: TcpLimits | None = None,
        sweep_interval_s: float = SWEEP_INTERVAL_S,
    ) -> None:
        """Binds the sockets: `bind` is an IP address (`::` takes IPv4, too), `port` 0 any that is
        free for UDP and TCP. `advertise`: see `advertised`; empty: `bind`, if it is one address.
        `clock` is the loop's unless given, `rng` makes credentials.

        Raises OSError (in use, no such address), ValueError for words of `advertise`.
        """
        self.counters = MediaCounters()
        self._clock = clock or asyncio.get_running_loop().time
        self._rng = rng or random.SystemRandom()
        self._certificates = Certificates()
        self._allowance = Allowance(ANSWERS_PER_S, ANSWERS_AT_ONCE)
        self._sweep_interval_s = sweep_interval_s
        self._sweeping: asyncio.TimerHandle | None = None
        self._peers: dict[BrowserPeer, None] = {}
        self._by_ufrag: dict[str, BrowserPeer] = {}
        udp, tcp = _bound(bind, port)
        self._udp = UdpPort(udp, self._take_stun, self.counters, self._clock)
        self._tcp = TcpPort(
            tcp, self._take_stun, self.counters, self._clock, tcp_limits or TcpLimits()
        )
        self.port: int = udp.getsockname()[1]
        """Of UDP and TCP."""
        words = tuple(advertise) or (() if bind in ("0.0.0.0", "::") else (bind,))
        try:
            self._advertised = Advertised(words, bind, self.port, self._ask)
        except ValueError:
            udp.close()
            tcp.close()
            raise

    @property
    def socket(self) -> socket.socket:
        """The UDP socket, by which the fan-out sends."""
        return self._udp.socket

    @property
    def receive_buffer_bytes(self) -> int:
        """Of the UDP socket, as the kernel granted it."""
        return self._udp.receive_buffer_bytes

    @property
    def connections(self) -> int:
        """TCP connections that are open."""
        return len(self._tcp)

    @property
    def pairs(self) -> int:
        """Addresses of UDP that packets are taken from."""
        return len(self._udp.pairs)

    def __len__(self) -> int:
        """How many peers there are."""
        return len(self._peers)

    async def start(self) -> None:
        """Read and accept from now on; names are asked for first, within some seconds."""
        self._udp.open()
        await self._tcp.open()
        await self._advertised.start()
        self._sweep_later()

    async def stop(self) -> None:
        """Close all peers, with a good-bye, and the sockets. Also of one that was not started."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None
        await self._advertised.stop()
        for peer in tuple(self._peers):
            peer.close()
        await self._tcp.close()
        self._udp.close()

    def peer(self) -> BrowserPeer:
        """A new one, which answers checks from now on."""
        peer = BrowserPeer(self, self._certificates.current())
        self._peers[peer] = None
        return peer

    def candidates(self, *, loopback: bool) -> tuple[str, ...]:
        """The lines `candidate:…` of a description, UDP before TCP; those of loopback addresses
        only if asked for, and then before the others."""
        return candidate_lines(self._advertised.places(loopback=loopback))

    @property
    def missing(self) -> tuple[str, ...]:
        """Words of `advertise` of which no address is known."""
        return self._advertised.missing

    # ------------------------------------------------------------------ for peers

    def enter(self, peer: BrowserPeer) -> Credentials:
        """Give a peer credentials of its own."""
        credentials = new_credentials(self._rng)
        while credentials.ufrag in self._by_ufrag:
            credentials = new_credentials(self._rng)
        self._by_ufrag[credentials.ufrag] = peer
        return credentials

    def strike(self, ufrag: str) -> None:
        """Checks with this username fragment are nobody's from now on."""
        self._by_ufrag.pop(ufrag, None)

    def forget(self, peer: BrowserPeer) -> None:
        """A peer is closed."""
        self._peers.pop(peer, None)

    # ------------------------------------------------------------------ STUN

    def _take_stun(self, packet: bytes, pair: MuxPair) -> None:
        message = binding.parse(packet)
        if message is None:
            self.counters.malformed += 1
        elif isinstance(message, binding.Mapped):
            if not self._advertised.answered(message, pair.address):
                self.counters.malformed += 1
        else:
            answer = self._answer(message, pair)
            if answer is not None:
                pair.send(answer)

    def _answer(self, request: binding.Request, pair: MuxPair) -> bytes | None:
        now = self._clock()
        ufrag = (request.username or "").partition(":")[0]
        peer = self._by_ufrag.get(ufrag)
        checked = peer.check(request, pair, now) if peer is not None else None
        if checked is not None and checked.authentic:
            return checked.answer
        if request.username is not None:
            self.counters.refused_checks += 1
        if not self._allowance.take(1, now):
            self.counters.unanswered += 1
            return None
        if checked is not None:
            return checked.answer
        if request.username is not None:
            return binding.error(request, 401 if request.protected else 400, None)
        if request.unknown:
            return binding.error(request, 420, None)
        return binding.success(request, pair.address, None)

    def _ask(self, data: bytes, server: Address) -> bool:
        try:
            where = socket_address(server, self.socket.family)
        except (ValueError, OSError):
            return False
        return self._udp.send(data, where)

    # ------------------------------------------------------------------ time

    def _sweep_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._sweeping = loop.call_later(self._sweep_interval_s, self._sweep)

    def _sweep(self) -> None:
        self._sweep_later()
        now = self._clock()
        for peer in tuple(self._peers):
            try:
                peer.sweep(now)
            except Exception:
                log.exception("a peer's end could not be told")
        self._tcp.sweep(now)


def _bound(bind: str, port: int) -> tuple[socket.socket, socket.socket]:
    """A socket of UDP and one of TCP at the same port."""
    for _ in range(_FREE_PORT_TRIES):
        udp = _socket(bind, port, socket.SOCK_DGRAM)
        try:
            return udp, _socket(bind, udp.getsockname()[1], socket.SOCK_STREAM)
        except OSError:
            udp.close()
            if port:
                raise
    raise OSError(f"no port of {bind} is free for UDP and TCP")


def _socket(bind: str, port: int, kind: socket.SocketKind) -> socket.socket:
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    sock = socket.socket(family, kind)
    try:
        if family is socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        if kind is socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((bind, port))
        if kind is socket.SOCK_STREAM:
            sock.listen(_LISTEN_BACKLOG)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock
