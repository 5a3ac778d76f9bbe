"""One connection to a program behind: bytes both ways, with bounds both ways.

asyncio's streams would do; this protocol hands every piece on as it came and costs half of them.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable

from callboard.fileserver.keepalive import keep_alive

READ_BYTES_MAX = 256 * 1024
"""Read ahead of the client at most; then the program behind has to wait."""

KEEPALIVE = {"idle_s": 30, "between_s": 10, "probes": 3, "unacknowledged_s": 30}
"""A silent stream is not a dead one; a machine that does not acknowledge, or take, what we send for
so long is gone."""

Sink = Callable[[bytes], bool]
"""Takes a piece; whether it takes more at once."""


class Upstream(asyncio.Protocol):
    """A connection; made by `loop.create_connection`."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._ended = False
        self._paused_reading = False
        self._sink: Sink | None = None
        self._reader: asyncio.Future[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self.fresh = True
        """Nobody has used it before."""
        self.failed = False
        """It ended by an error: what came last may not be all there was."""

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport, and have the kernel look after the other end."""
        self._transport = transport  # type: ignore[assignment]  # uvloop's is no subclass
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            keep_alive(sock, **KEEPALIVE)

    def data_received(self, data: bytes) -> None:
        """Hand on what came, or keep it, and stop reading when that is much."""
        if self._sink is not None:
            if not self._sink(data):
                self._sink = None
                self._wake()
            return
        self._pieces.append(data)
        self._size += len(data)
        if self._size > READ_BYTES_MAX and not self._paused_reading and self._transport:
            self._paused_reading = True
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        """The other end sends no more."""
        self._ended = True
        self._wake()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._ended = True
        self.failed = self.failed or exc is not None
        self._transport = None
        self._writable.set()
        self._wake()

    def pause_writing(self) -> None:
        """The system's buffer and ours are full."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """There is room again."""
        self._writable.set()

    # the relay's side

    @property
    def idle(self) -> bool:
        """Whether it can be used for another request: open, and nothing came unasked."""
        transport = self._transport
        return (
            transport is not None
            and not transport.is_closing()
            and not (self._ended or self._pieces)
        )

    @property
    def ended(self) -> bool:
        """Whether everything that came was read, and nothing more comes."""
        return self._ended and not self._pieces

    @property
    def certificate(self) -> bytes:
        """The other side's, DER; b"" without TLS."""
        transport = self._transport
        end = transport.get_extra_info("ssl_object") if transport is not None else None
        return (end.getpeercert(True) or b"") if end is not None else b""

    async def read(self) -> bytes:
        """What has come, at least a byte; b"" at the end. May be cancelled."""
        while not self._pieces:
            if self._ended:
                return b""
            await self._woken()
        return self.pending()

    async def pour(self, sink: Sink) -> None:
        """Give `sink` every piece in the tick it comes, until it takes no more or the end. May be
        cancelled."""
        data = self.pending()
        if (data and not sink(data)) or self._ended:
            return
        self._sink = sink
        try:
            await self._woken()
        finally:
            self._sink = None

    def pending(self) -> bytes:
        """What has come and was not read; b"" for nothing."""
        if not self._pieces:
            return b""
        data = self._pieces.popleft() if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._size = 0
        if self._paused_reading and self._transport is not None:
            self._paused_reading = False
            self._transport.resume_reading()
        return data

    def give_back(self, data: bytes) -> None:
        """Put bytes back that were read too far."""
        if data:
            self._pieces.appendleft(data)
            self._size += len(data)

    async def write(self, data: bytes) -> None:
        """Send. Raises ConnectionError when the other end has gone."""
        if self._transport is None or self._transport.is_closing():
            raise ConnectionResetError("the program behind has closed the connection")
        self._transport.write(data)
        await self._writable.wait()

    def close(self) -> None:
        """End it at once."""
        if self._transport is not None:
            self._transport.abort()

    async def _woken(self) -> None:
        self._reader = asyncio.get_running_loop().create_future()
        try:
            await self._reader
        finally:
            self._reader = None

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)
