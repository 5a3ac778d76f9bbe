"""The TCP side of the media port: passive ICE-TCP (RFC 6544), packets framed by RFC 4571.

A connection is nobody's until a check by it is valid: until then it may send checks alone, and not
for long. What goes out waits in a queue with a bound. When it is full, packets of RTP are dropped
until it has drained, since late video is worth less than none; STUN, DTLS and RTCP still go. The
owner is told before any packet of RTP goes again: its session begins anew then, sound at once and
the picture with a keyframe.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from callboard.gateway.fanout.sockaddr import SocketAddress
from callboard.gateway.mux.counters import MediaCounters
from callboard.gateway.mux.framing import Deframer, FrameError, framed
from callboard.gateway.mux.kinds import Kind, kind_of
from callboard.gateway.mux.pairs import OnStun, Owner
from callboard.gateway.mux.udp import address_of
from callboard.gateway.ports import Address

log = logging.getLogger(__name__)

QUEUE_BYTES_MAX = 256 << 10
"""Two seconds of 1 Mbit/s."""
QUEUE_BYTES_LOW = 32 << 10
"""RTP goes on when no more than this waits."""
QUEUE_BYTES_HARD = 2 * QUEUE_BYTES_MAX
"""With so much of STUN, DTLS and RTCP waiting on top, nobody is reading: the connection is cut."""
UNSENT_BYTES_IN_KERNEL = 64 << 10
"""Else the kernel's own queue grows to megabytes: seconds of lag that are not seen here."""
UNCHECKED_S = 10.0
"""A connection without a valid check for so long is closed."""
CLOSING_S = 5.0
"""How long a connection that we close may take for what still waits."""
BAD_FRAMES_MAX = 16
"""Frames that are no good before a connection is closed."""
_TCP_NOTSENT_LOWAT = 25
"""Of Linux' tcp.h; the socket module of Python 3.11 does not name it."""
_UNKNOWN = Address("0.0.0.0", 0)


@dataclass(frozen=True, slots=True)
class TcpLimits:
    """How many connections there may be; more are closed as they come."""

    connections: int = 4096
    unchecked: int = 256
    """Without a valid check yet."""
    unchecked_per_address: int = 32
    """Of one address: a proxy's or a NAT's, so it counts only those."""


class TcpPair(asyncio.BufferedProtocol):
    """See `ports.Pair`; one accepted connection."""

    reliable = True

    def __init__(self, port: TcpPort) -> None:
        self.address = _UNKNOWN
        self.owner: Owner | None = None
        self.overflowed = False
        self.accepted_at = port.clock()
        self._port = port
        self._deframer = Deframer()
        self._transport: asyncio.Transport | None = None
        self._bad = 0

    # ------------------------------------------------------------------ for peers

    def send(self, data: bytes) -> bool:
        """Queue one packet; False if the connection is gone, or has no room for it."""
        transport = self._transport
        if transport is None or transport.is_closing():
            self._port.counters.unsent += 1
            return False
        if self.overflowed:
            if kind_of(data) is Kind.RTP:
                self._port.counters.unsent += 1
                return False
            if transport.get_write_buffer_size() > QUEUE_BYTES_HARD:
                self.cut()
                return False
        transport.write(framed(data))
        return True

    def keep(self, owner: Owner) -> None:
        """Give its packets to this peer from now on."""
        former, self.owner = self.owner, owner
        if former is None:
            self._port.checked(self)
        elif former is not owner:
            former.lost(self)

    def release(self) -> None:
        """Close the connection; what waits is still sent, if the other side reads it soon."""
        self.owner = None
        if self._transport is not None and not self._transport.is_closing():
            self._port.closing(self)
            self._transport.close()

    def abort(self) -> None:
        """Close the connection now."""
        if self._transport is not None:
            self._transport.abort()

    def cut(self) -> None:
        """Close the connection now: the other side does not behave."""
        self._port.counters.tcp_closed += 1
        self.abort()

    # ------------------------------------------------------------------ for the loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Accepted."""
        accepted = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it
        peername: SocketAddress | None = accepted.get_extra_info("peername")
        if peername is None:  # it is gone already
            accepted.abort()
            return
        self.address = address_of(peername)
        if not self._port.admit(self):
            accepted.abort()
            return
        self._transport = accepted
        accepted.set_write_buffer_limits(QUEUE_BYTES_MAX, QUEUE_BYTES_LOW)
        sock: socket.socket = accepted.get_extra_info("socket")
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, UNSENT_BYTES_IN_KERNEL)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the loop reads to: no more a time than the buffer holds."""
        return self._deframer.room()

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes came."""
        self._deframer.wrote(nbytes)
        try:
            for packet in self._deframer.packets():
                self._received(packet)
                if self._bad > BAD_FRAMES_MAX:
                    raise FrameError(f"{self._bad} frames that are no good")
        except FrameError as problem:
            log.debug("a connection is closed", extra={"reason": str(problem)})
            self.cut()
        except Exception:
            log.exception("a frame could not be taken", extra={"client": self.address.host})
            self.cut()

    def pause_writing(self) -> None:
        """More waits than QUEUE_BYTES_MAX."""
        self.overflowed = True

    def resume_writing(self) -> None:
        """No more waits than QUEUE_BYTES_LOW."""
        self.overflowed = False
        if self.owner is not None:
            self.owner.writable(self)

    def eof_received(self) -> bool:
        """The other side sends no more: so do we."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Closed, by whomever."""
        if self._transport is None:
            return
        self._transport = None
        self._port.closed(self)
        owner, self.owner = self.owner, None
        if owner is not None:
            owner.lost(self)

    def _received(self, packet: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        self._port.counters.frames += 1
        kind = kind_of(packet)
        if kind is Kind.STUN:
            self._port.on_stun(packet, self)
            if self.owner is None:
                self._bad += 1
        elif kind is Kind.OTHER:
            self._port.counters.malformed += 1
            self._bad += 1
        elif self.owner is None:
            self._port.counters.strangers += 1
            self._bad += 1
        else:
            self.owner.received(kind, packet, self, self._port.clock())


class TcpPort:
    """A listener, from `open` to `close`."""

    def __init__(
        self,
        sock: socket.socket,
        on_stun: OnStun,
        counters: MediaCounters,
        clock: Callable[[], float],
        limits: TcpLimits,
    ) -> None:
        """`sock` is bound and becomes this object's."""
        self.on_stun = on_stun
        self.counters = counters
        self.clock = clock
        self._socket = sock
        self._limits = limits
        self._server: asyncio.Server | None = None
        self._connections: set[TcpPair] = set()
        self._unchecked: dict[TcpPair, None] = {}
        self._closing: dict[TcpPair, float] = {}
        self._unchecked_of: Counter[str] = Counter()

    async def open(self) -> None:
        """Accept from now on."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: TcpPair(self), sock=self._socket)

    async def close(self) -> None:
        """Accept no more, close all connections."""
        for pair in tuple(self._connections):
            pair.abort()
        if self._server is not None:
            self._server.close()
            self._server = None
        else:
            self._socket.close()

    def __len__(self) -> int:
        """How many connections there are."""
        return len(self._connections)

    def sweep(self, now: float) -> None:
        """Close those that showed no password in time, or whose good-bye nobody reads; called now
        and then."""
        for pair in tuple(self._unchecked):
            if now - pair.accepted_at < UNCHECKED_S:
                break  # they are in the order in which they came
            pair.cut()
        for pair, since in tuple(self._closing.items()):
            if now - since >= CLOSING_S:
                pair.abort()

    def admit(self, pair: TcpPair) -> bool:
        """Whether there is room for one more."""
        limits, host = self._limits, pair.address.host
        if (
            len(self._connections) >= limits.connections
            or len(self._unchecked) >= limits.unchecked
            or self._unchecked_of[host] >= limits.unchecked_per_address
        ):
            self.counters.tcp_refused += 1
            return False
        self.counters.tcp_connections += 1
        self._connections.add(pair)
        self._unchecked[pair] = None
        self._unchecked_of[host] += 1
        return True

    def checked(self, pair: TcpPair) -> None:
        """A check by it was valid."""
        if pair not in self._unchecked:
            return
        del self._unchecked[pair]
        host = pair.address.host
        self._unchecked_of[host] -= 1
        if not self._unchecked_of[host]:
            del self._unchecked_of[host]

    def closing(self, pair: TcpPair) -> None:
        """It is being closed."""
        self._closing[pair] = self.clock()

    def closed(self, pair: TcpPair) -> None:
        """It is no more."""
        self._closing.pop(pair, None)
        self.checked(pair)
        self._connections.discard(pair)
