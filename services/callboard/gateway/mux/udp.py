"""The UDP side of the media port: one socket for all peers, and a table of who is where.

Linux gives datagrams one by one; a wake-up of the loop takes at most a batch of them, so that a
flood leaves everything else its turn. What one wake-up leaves, the next one takes: the loop calls
again while there is something to read.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import sys
from collections.abc import Callable

from callboard.chassis.logs import RateLimited
from callboard.gateway.fanout.sockaddr import SocketAddress
from callboard.gateway.mux.counters import MediaCounters
from callboard.gateway.mux.kinds import Kind, kind_of
from callboard.gateway.mux.pairs import OnStun, Owner
from callboard.gateway.ports import Address

log = logging.getLogger(__name__)

BUFFER_BYTES = 4 << 20
"""For the socket's queues, both ways: a keyframe for 100 viewers at once is 5 MB."""
DATAGRAM_BYTES_MAX = 2048
"""A longer one is cut, and so refused by its cipher or checksum."""
BATCH_MAX = 64
"""Datagrams per wake-up: two milliseconds at worst."""
_MAPPED = "::ffff:"


def address_of(socket_address: SocketAddress) -> Address:
    """IPv4 addresses that came by an IPv6 socket are IPv4 addresses; a scope is its number."""
    host, port = socket_address[0], socket_address[1]
    if host.startswith(_MAPPED) and "." in host:
        return Address(host.removeprefix(_MAPPED), port)
    if len(socket_address) == 4 and socket_address[3]:
        host = f"{host.partition('%')[0]}%{socket_address[3]}"
    return Address(host, port)


class UdpPair:
    """See `ports.Pair`."""

    reliable = False
    overflowed = False

    def __init__(self, port: UdpPort, socket_address: SocketAddress) -> None:
        self.address = address_of(socket_address)
        self.owner: Owner | None = None
        self._port = port
        self._socket_address = socket_address

    def send(self, data: bytes) -> bool:
        """Send one datagram; a full socket drops it."""
        return self._port.send(data, self._socket_address)

    def keep(self, owner: Owner) -> None:
        """Give its datagrams to this peer from now on."""
        former, self.owner = self.owner, owner
        if former is not None and former is not owner:
            former.lost(self)
        self._port.pairs[self._socket_address] = self

    def release(self) -> None:
        """Datagrams from there are a stranger's again."""
        self.owner = None
        self._port.pairs.pop(self._socket_address, None)


class UdpPort:
    """A bound socket, read from `open` to `close`."""

    def __init__(
        self,
        sock: socket.socket,
        on_stun: OnStun,
        counters: MediaCounters,
        clock: Callable[[], float],
    ) -> None:
        """`sock` becomes this object's."""
        sock.setblocking(False)
        _widen(sock)
        self.socket = sock
        self.pairs: dict[SocketAddress, UdpPair] = {}
        """Those that passed a check."""
        self._on_stun = on_stun
        self._counters = counters
        self._clock = clock
        self._limited = RateLimited(log)
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def receive_buffer_bytes(self) -> int:
        """As the kernel granted it (it counts its own bookkeeping, too)."""
        return self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)

    def open(self) -> None:
        """Read from now on."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self.socket.fileno(), self._readable)

    def close(self) -> None:
        """Read no more; the socket is closed."""
        if self._loop is not None:
            self._loop.remove_reader(self.socket.fileno())
            self._loop = None
        self.socket.close()
        self.pairs.clear()

    def send(self, data: bytes, where: SocketAddress) -> bool:
        """Send one datagram; False if the socket is full, or there is no way."""
        try:
            self.socket.sendto(data, where)
        except OSError:
            self._counters.unsent += 1
            return False
        return True

    def _readable(self) -> None:
        receive, counters = self.socket.recvfrom, self._counters
        for _ in range(BATCH_MAX):
            try:
                packet, sender = receive(DATAGRAM_BYTES_MAX)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:  # what a router said of an earlier packet of ours
                continue
            counters.datagrams += 1
            try:
                self._received(packet, sender)
            except Exception:
                extra = {"octets": packet.hex()}
                if self._limited.warning("failed", "a datagram could not be taken", extra):
                    log.exception("as follows")

    def _received(self, packet: bytes, sender: SocketAddress) -> None:
        kind = kind_of(packet)
        pair = self.pairs.get(sender)
        if kind is Kind.STUN:
            self._on_stun(packet, pair or UdpPair(self, sender))
        elif kind is Kind.OTHER:
            self._counters.malformed += 1
        elif pair is None or pair.owner is None:
            self._counters.strangers += 1
        else:
            pair.owner.received(kind, packet, pair, self._clock())


def _widen(sock: socket.socket) -> None:
    forced = {"SO_RCVBUF": 33, "SO_SNDBUF": 32} if sys.platform == "linux" else {}
    for name in ("SO_RCVBUF", "SO_SNDBUF"):
        sock.setsockopt(socket.SOL_SOCKET, getattr(socket, name), BUFFER_BYTES)
        if name in forced:  # beyond net.core.[rw]mem_max, for who may (CAP_NET_ADMIN)
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, forced[name], BUFFER_BYTES)
