"""The TCP listener (and DNS over TLS): pipelined queries, each message behind its length.

RFC 7766: answers may leave out of order, connections stay open until idle, a client may shut its
sending side and still gets its answers. Only a whole query counts as activity, so that a trickle
of octets does not hold a connection. One sweep a second looks for idle ones, instead of a timer
each.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import Counter
from collections.abc import Callable
from typing import cast

from callboard.chassis.logs import RateLimited
from callboard.pki.accepting import TlsListener

log = logging.getLogger(__name__)

IDLE_TIMEOUT_S = 10.0
"""RFC 7766, 6.2.3 leaves it to the server; Consul's is 8 s."""

CONNECTIONS_MAX = 1024
CONNECTIONS_PER_CLIENT_MAX = 128
PENDING_MAX = 64
"""Queries of one connection that wait for a recursor; then it is not read any more."""

SWEEP_INTERVAL_S = 1.0
BACKLOG = 512

Send = Callable[[bytes], None]
Answer = Callable[[bytes, str, Send], bytes | None]
"""(query, client's address, how to send a late answer) to the answer; None is later or never: the
callee then calls send with the answer, or with b"" for silence."""


class TcpListener:
    """One listening socket and its connections."""

    def __init__(
        self,
        answer: Answer,
        *,
        idle_timeout_s: float = IDLE_TIMEOUT_S,
        connections_max: int = CONNECTIONS_MAX,
        per_client_max: int = CONNECTIONS_PER_CLIENT_MAX,
    ) -> None:
        self.answer = answer
        self.queries = 0
        self.refused = 0
        """Connections closed at once because there were too many."""
        self._limited = RateLimited(log)
        self._idle_timeout_s = idle_timeout_s
        self._connections_max = connections_max
        self._per_client_max = per_client_max
        self._connections: set[Connection] = set()
        self._clients: Counter[str] = Counter()
        self.handshakes_failed = 0
        """TLS connections that did not come about."""
        self._server: asyncio.Server | None = None
        self._tls: TlsListener | None = None
        self._sweep: asyncio.TimerHandle | None = None

    async def start(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        """Listen. Raises OSError when the address is taken or not ours."""
        loop = asyncio.get_running_loop()
        if tls is not None:
            self._tls = TlsListener(lambda: Connection(self), tls, failed=self._failed)
            await self._tls.start(host, port)
        else:
            self._server = await loop.create_server(
                lambda: Connection(self), host, port, backlog=BACKLOG
            )
        self._sweep = loop.call_later(SWEEP_INTERVAL_S, self._sweep_idle)

    @property
    def port(self) -> int:
        """The port it listens on; valid after `start`."""
        if self._tls is not None:
            return self._tls.port
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._connections)

    async def stop(self) -> None:
        """Close the listener and every connection."""
        if self._sweep is not None:
            self._sweep.cancel()
        if self._tls is not None:
            await self._tls.stop()
            for connection in list(self._connections):
                connection.abort()
        if self._server is not None:
            self._server.close()
            for connection in list(self._connections):
                connection.abort()
            await self._server.wait_closed()

    def admit(self, connection: Connection, client: str) -> bool:
        """Whether a new connection may stay."""
        full = len(self._connections) >= self._connections_max
        if full or self._clients[client] >= self._per_client_max:
            self.refused += 1
            return False
        self._connections.add(connection)
        self._clients[client] += 1
        return True

    def gone(self, connection: Connection, client: str) -> None:
        """A connection was closed."""
        if connection in self._connections:
            self._connections.remove(connection)
            self._clients[client] -= 1
            if not self._clients[client]:
                del self._clients[client]

    def _failed(self, address: str, reason: str) -> None:
        self.handshakes_failed += 1
        self._limited.log(
            logging.INFO, reason, "no TLS with a client", {"client": address, "reason": reason}
        )

    def _sweep_idle(self) -> None:
        loop = asyncio.get_running_loop()
        limit = loop.time() - self._idle_timeout_s
        for connection in list(self._connections):
            if connection.active_at < limit:
                connection.abort()
        self._sweep = loop.call_later(SWEEP_INTERVAL_S, self._sweep_idle)


class Connection(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, listener: TcpListener) -> None:
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._client = ""
        self._buffer = bytearray()
        self._pending = 0
        self._writing_paused = False
        self._ended = False
        self._processing = False
        self.active_at = self._loop.time()
        """When the last whole query came, or the last answer went."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self._client = str(peer[0]) if peer else ""
        if not self._listener.admit(self, self._client):
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._listener.gone(self, self._client)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._process()

    def eof_received(self) -> bool:
        """The client sends no more: answer what it has asked, then close."""
        self._ended = True
        over_tls = self._transport is not None and self._transport.get_extra_info("sslcontext")
        if over_tls:  # asyncio closes a TLS connection at once
            return False
        self._close_if_done()
        return True

    def pause_writing(self) -> None:
        self._writing_paused = True
        self._adjust_reading()

    def resume_writing(self) -> None:
        self._writing_paused = False
        self._process()

    def abort(self) -> None:
        """Close now."""
        if self._transport is not None:
            self._transport.abort()

    def _process(self) -> None:
        """Answer every whole query in the buffer, as long as answers and forwards have room."""
        if self._processing:  # an answer that was given at once resumes nothing
            return
        self._processing = True
        buffer, at = self._buffer, 0
        try:
            while not self._held() and len(buffer) - at >= 2:
                length = int.from_bytes(buffer[at : at + 2], "big")
                if not length:
                    self._close()
                    return
                if len(buffer) - at < 2 + length:
                    break
                packet = bytes(buffer[at + 2 : at + 2 + length])
                at += 2 + length
                self._answer(packet)
        finally:
            del buffer[:at]
            self._processing = False
        self._adjust_reading()
        self._close_if_done()

    def _answer(self, packet: bytes) -> None:
        self._listener.queries += 1
        self.active_at = self._loop.time()
        self._pending += 1
        try:
            reply = self._listener.answer(packet, self._client, self._late)
        except Exception:
            log.exception("a query could not be answered", extra={"octets": packet[:512].hex()})
            reply = b""
        if reply is not None:
            self._pending -= 1
            self._write(reply)

    def _late(self, reply: bytes) -> None:
        self._pending -= 1
        self._write(reply)
        self._process()

    def _write(self, reply: bytes) -> None:
        if reply and self._transport is not None and not self._transport.is_closing():
            self.active_at = self._loop.time()
            self._transport.write(len(reply).to_bytes(2, "big") + reply)

    def _held(self) -> bool:
        closing = self._transport is None or self._transport.is_closing()
        return closing or self._writing_paused or self._pending >= PENDING_MAX

    def _adjust_reading(self) -> None:
        if self._transport is None or self._transport.is_closing() or self._ended:
            return
        if self._writing_paused or self._pending >= PENDING_MAX:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _close_if_done(self) -> None:
        if self._ended and not self._pending and not self._writing_paused:
            self._close()
