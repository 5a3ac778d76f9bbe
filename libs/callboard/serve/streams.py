"""Streamed answers: what a `Stream` writes, framed, with a high-water mark and a cut."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from callboard.serve.exchange import Streamed
from callboard.serve.wire import LAST_CHUNK, chunk

if TYPE_CHECKING:
    from callboard.serve.lane import Exchange

log = logging.getLogger(__name__)


class StreamWriter:
    """A `StreamConnection` on a connection of the server.

    HTTP/1.1 clients get chunks; HTTP/1.0 clients the bytes, and the end of the connection.
    """

    def __init__(self, exchange: Exchange, streamed: Streamed) -> None:
        self._exchange = exchange
        self._connection = exchange.connection
        self._streamed = streamed
        self._open = False
        self._chunked = not exchange.http_1_0
        self._drained: Callable[[], None] | None = None

    def start(self) -> None:
        """Send the head, then let the stream produce."""
        head = self._streamed.head
        exchange = self._exchange
        if not self._chunked:
            exchange.keep_alive = False
        bodiless = exchange.method == "HEAD" or head.status in (204, 304)
        self._connection.transport.set_write_buffer_limits(high=self._streamed.high_water_bytes)
        self._connection.write_head(exchange, head, None if self._chunked else -1)
        self._open = True
        if bodiless:
            self._finish(b"")
            self._streamed.stream.cancel()
            return
        if head.body:
            self.write(head.body)
        self._streamed.stream.start(self)

    def write(self, data: bytes) -> bool:
        """See StreamConnection."""
        if not self._open or not data:
            return self._open and not self._connection.write_paused
        transport = self._connection.transport
        transport.write(chunk(data) if self._chunked else data)
        waiting = transport.get_write_buffer_size()
        if waiting > self._streamed.cut_bytes:
            log.warning("stream cut", extra={"path": self._exchange.path, "waiting_bytes": waiting})
            self.abort()
            self._streamed.stream.cancel()
        return self._open and not self._connection.write_paused

    def on_drain(self, callback: Callable[[], None]) -> None:
        """See StreamConnection."""
        if not self._open:
            return
        self._drained = callback
        if not self._connection.write_paused:
            self._connection.core.loop.call_soon(self.drained)

    def close(self) -> None:
        """See StreamConnection."""
        if self._open:
            self._finish(LAST_CHUNK if self._chunked else b"")

    def abort(self) -> None:
        """See StreamConnection."""
        if self._open:
            self._open = False
            self._exchange.done = True
            self._connection.transport.abort()

    def drained(self) -> None:
        """The connection's buffer is low again."""
        callback, self._drained = self._drained, None
        if callback is not None and self._open:
            callback()

    def gone(self) -> None:
        """The client has gone, or the server stops."""
        if self._open:
            self._open = False
            self._streamed.stream.cancel()

    def _finish(self, last: bytes) -> None:
        self._open = False
        connection = self._connection
        connection.transport.set_write_buffer_limits(
            high=connection.core.limits.write_high_water_bytes
        )
        if last:
            connection.transport.write(last)
        self._exchange.stream = None
        connection.finished(self._exchange, self._streamed.head.status)
