"""The UDP listener: as many datagrams as are there, up to a batch, per wake-up of the loop.

Plain recvfrom and sendto from a reader callback: a batching system call through ctypes was
measured at 0.7 of its CPU time a query, and is not worth its pointers. The large receive buffer is
what keeps bursts from being lost while the loop does something else.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable

log = logging.getLogger(__name__)

RECEIVE_BUFFER_OCTETS = 4 << 20
DATAGRAM_OCTETS_MAX = 4096
"""A longer query is cut, and so malformed."""

BATCH_MAX = 128
"""Datagrams per wake-up: a few milliseconds at worst, then the rest of the program's turn."""

Peer = tuple[str, int] | tuple[str, int, int, int]
"""A socket address, as recvfrom gives it."""


class UdpListener:
    """One bound socket; `answer` is called with each datagram and its sender."""

    def __init__(self, sock: socket.socket, answer: Callable[[bytes, Peer], bytes | None]) -> None:
        """`sock` is bound and becomes this object's. `answer` returns None to say nothing (yet)."""
        sock.setblocking(False)
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_OCTETS)
        self._sock = sock
        self._answer = answer
        self._loop = asyncio.get_running_loop()
        self.queries = 0
        self.unsent = 0
        """Answers that could not be sent: the send buffer was full, or the way back was shut."""
        self._loop.add_reader(sock.fileno(), self._readable)

    def send(self, answer: bytes, peer: Peer) -> None:
        """Send a late answer. A full send buffer drops it: the client asks again (RFC 1035)."""
        try:
            self._sock.sendto(answer, peer)
        except OSError:
            self.unsent += 1

    def close(self) -> None:
        """Stop reading and close the socket."""
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()

    def _readable(self) -> None:
        receive, send, answer = self._sock.recvfrom, self._sock.sendto, self._answer
        for _ in range(BATCH_MAX):
            try:
                packet, peer = receive(DATAGRAM_OCTETS_MAX)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:  # an ICMP error of an earlier answer (Linux reports it here)
                continue
            self.queries += 1
            try:
                reply = answer(packet, peer)
            except Exception:
                log.exception("a query could not be answered", extra={"octets": packet.hex()})
                continue
            if reply is None:
                continue
            try:
                send(reply, peer)
            except OSError:
                self.unsent += 1
