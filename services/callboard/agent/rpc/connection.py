"""One framed TCP connection: an asyncio.Protocol, for a heartbeat must not wait for a task.

Writes of one loop tick go out as one. What is not here: who dials (dialing.py), who listens
(server.py), what frames mean.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Mapping
from typing import Protocol

from callboard.agent.rpc.errors import ProtocolError
from callboard.agent.rpc.wire import HANDSHAKE_BYTES_MAX, FrameReader, encode_frame
from callboard.pki.reasons import explain

USER_TIMEOUT_MS = 10_000
"""Sent bytes not acknowledged by the other kernel for so long: the connection is dead."""


class FrameReceiver(Protocol):
    """Who is told what happens on a connection. Called on the loop; must not block."""

    def frame_received(self, kind: int, body: bytes) -> None:
        """One frame. May raise ProtocolError: the connection is closed."""

    def connection_lost(self, reason: str) -> None:
        """The connection is gone; nothing more will be received."""


class FramedConnection(asyncio.Protocol):
    """Frames in both directions; hands them to whichever receiver is in charge."""

    def __init__(
        self, receiver: FrameReceiver | None, on_made: Callable[[FramedConnection], None] | None
    ) -> None:
        self.receiver = receiver
        self.last_received_at = 0.0
        """Loop time of the last bytes."""
        self.made_at = 0.0
        """Loop time of its beginning."""
        self.is_old: Callable[[], bool] = lambda: False
        """Whether whoever dialled it should make it anew."""
        self.closed = False
        self._on_made = on_made
        self._reader = FrameReader(HANDSHAKE_BYTES_MAX)
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._outgoing: list[bytes] = []
        self._outgoing_bytes = 0
        self._drained: asyncio.Event = asyncio.Event()
        self._drained.set()
        self._reason = "closed by the other side"

    # asyncio.Protocol ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self._transport = transport  # type: ignore[assignment]  # uvloop's is no subclass
        self.last_received_at = self.made_at = self._loop.time()
        _set_options(transport)
        if self._on_made is not None:
            self._on_made(self)

    def data_received(self, data: bytes) -> None:
        self.last_received_at = self._loop.time()
        try:
            for kind, body in self._reader.feed(data):
                if self.closed or self.receiver is None:
                    return
                self.receiver.frame_received(kind, body)
        except ProtocolError as problem:
            self.abort(str(problem))

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, problem: Exception | None) -> None:
        self.closed = True
        self._outgoing.clear()
        self._drained.set()
        if isinstance(problem, ssl.SSLError):
            self._reason = explain(problem)
        elif problem is not None:
            self._reason = str(problem) or type(problem).__name__
        receiver, self.receiver = self.receiver, None
        if receiver is not None:
            receiver.connection_lost(self._reason)

    def pause_writing(self) -> None:
        self._drained.clear()

    def resume_writing(self) -> None:
        self._drained.set()

    # For the owner -------------------------------------------------------------------------

    @property
    def pending_bytes(self) -> int:
        """Bytes accepted by `send` that the kernel has not taken yet."""
        buffered = self._transport.get_write_buffer_size() if self._transport is not None else 0
        return buffered + self._outgoing_bytes

    @property
    def remote_address(self) -> str:
        """ "ip:port" of the other end."""
        name = self._transport.get_extra_info("peername") if self._transport else None
        return join_address(name[0], name[1]) if name else ""

    @property
    def certificate(self) -> Mapping[str, object] | None:
        """The other side's verified certificate, as `getpeercert()` gives it; None in the clear."""
        return self._transport.get_extra_info("peercert") if self._transport else None

    @property
    def certificate_der(self) -> bytes:
        """The same as DER; empty in the clear, and once closed."""
        end = self._transport.get_extra_info("ssl_object") if self._transport else None
        return (end.getpeercert(True) or b"") if end is not None else b""

    def accept_frames_up_to(self, limit: int) -> None:
        """Set the longest frame taken (the handshake's limit is small)."""
        self._reader.limit = limit

    def send(self, kind: int, body: bytes) -> None:
        """Queue a frame; all of one loop tick are written at once. Never blocks, no bound:
        callers look at `pending_bytes` or await `drain()`."""
        self.send_raw(encode_frame(kind, body))

    def send_raw(self, data: bytes) -> None:
        """Queue bytes."""
        if self.closed:
            return
        if not self._outgoing:
            self._loop.call_soon(self.flush)
        self._outgoing.append(data)
        self._outgoing_bytes += len(data)

    def flush(self) -> None:
        """Write what is queued now."""
        if self._outgoing and self._transport is not None and not self.closed:
            data = self._outgoing[0] if len(self._outgoing) == 1 else b"".join(self._outgoing)
            self._transport.write(data)
        self._outgoing.clear()
        self._outgoing_bytes = 0

    async def drain(self, timeout_s: float) -> None:
        """Wait until the kernel takes more. Raises TimeoutError, ConnectionError if lost."""
        self.flush()
        async with asyncio.timeout(timeout_s):
            await self._drained.wait()
        if self.closed:
            raise ConnectionError(self._reason)

    def pause_reading(self) -> None:
        """Take nothing more from the socket; the other side comes to wait."""
        if self._transport is not None and not self.closed and self._transport.is_reading():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Go on reading."""
        if self._transport is not None and not self.closed and not self._transport.is_reading():
            self._transport.resume_reading()

    def close(self, reason: str = "closed here") -> None:
        """Send what is queued, then hang up."""
        if not self.closed and self._transport is not None:
            self.flush()
            self._reason = reason
            self._transport.close()

    def abort(self, reason: str) -> None:
        """Hang up at once."""
        self._reason = reason
        if self._transport is not None and not self.closed:
            self._transport.abort()


def join_address(host: str, port: int) -> str:
    """ "ip:port", with brackets round an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def split_address(address: str) -> tuple[str, int]:
    """(host, port) of "ip:port". ValueError if it is none."""
    host, separator, port = address.rpartition(":")
    if not separator or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"not an address: {address!r}")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _set_options(transport: asyncio.BaseTransport) -> None:
    sock = transport.get_extra_info("socket")
    if sock is None:
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        ("TCP_KEEPIDLE", 5),
        ("TCP_KEEPINTVL", 2),
        ("TCP_KEEPCNT", 3),
        ("TCP_USER_TIMEOUT", USER_TIMEOUT_MS),
    ):
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
