"""Connections that belong to a sink: behind their head nothing of HTTP is left but the socket.

The parser, the request and everything else of a `Connection` is freed; what stays is one small
object (about half a kilobyte) that the transport tells when its buffer is full, low again, or its
client gone. It counts as a connection of its server until then.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from callboard.serve.core import Core
from callboard.serve.exchange import Answer, Detach, Sink
from callboard.serve.wire import LAST_CHUNK, chunk

if TYPE_CHECKING:
    from callboard.serve.lane import Exchange

log = logging.getLogger(__name__)

IGNORED_BYTES_MAX = 64 * 1024
"""What a client may send behind its request: nothing of it is read."""
KEEPALIVE_IDLE_S = 30
KEEPALIVE_INTERVAL_S = 10
USER_TIMEOUTS = 4
"""TCP_USER_TIMEOUT (tcp(7)) in times of `write_timeout_s`. It is for clients that are gone. Linux
counts also while a client that is there leaves its window shut, or smaller than the next segment:
at the time itself, one that reads slowly out of a small window would be reset while it gets on."""
UNSENT_BYTES_MAX = 128 * 1024
"""TCP_NOTSENT_LOWAT: what the kernel takes beyond the client's window, where it would take
megabytes. More waits here, where it is counted."""
_BYTES_ACKED = slice(120, 128)
"""Where it stands in struct tcp_info (linux/tcp.h; there are only ever fields added behind)."""


class DetachedConnection(asyncio.Protocol):
    """A `Detached`, and the protocol of its transport after the `Connection`."""

    __slots__ = (
        "_core",
        "_ignored_bytes",
        "_sink",
        "chunked",
        "peer",
        "shown",
        "transport",
        "write",
    )

    def __init__(self, exchange: Exchange, sink: Sink) -> None:
        connection = exchange.connection
        transport = connection.transport
        self._core: Core = connection.core
        self._sink: Sink | None = sink
        self._ignored_bytes = 0
        self.chunked = not exchange.http_1_0
        self.peer = connection.peer
        self.shown = connection.shown
        self.transport = transport
        self.write = transport.write
        _harden(transport)
        self._watch_silence()
        self._core.connections.add(self)

    def start(self, *, behind: bool) -> None:
        """Tell the sink. `behind`: the head alone has filled the buffer."""
        sink = self._sink
        assert sink is not None
        try:
            sink.start(self)
            if behind and self._sink is not None:
                sink.behind()
        except Exception:
            self._failed()

    # ------------------------------------------------------------------ what a sink calls

    def waiting_bytes(self) -> int:
        """See Detached."""
        return self.transport.get_write_buffer_size()

    def acknowledged_bytes(self) -> int | None:
        """See Detached (Linux: tcpi_bytes_acked, tcp(7))."""
        if sys.platform != "linux" or self._sink is None or self.transport.is_closing():
            return None
        end: socket.socket = self.transport.get_extra_info("socket")
        try:
            told = end.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKED.stop)
        except OSError:
            return None
        return int.from_bytes(told[_BYTES_ACKED], sys.byteorder)

    def close(self, last: bytes = b"") -> None:
        """See Detached."""
        transport = self.transport
        if transport.is_closing():
            return
        if self.chunked:
            last += LAST_CHUNK
        if last:
            transport.write(last)
        transport.close()
        self._watch_silence(1)  # (nobody else sees to it from here on)

    def abort(self) -> None:
        """See Detached."""
        self.transport.abort()

    # ------------------------------------------------------------------ what the server calls

    def shut(self) -> None:
        """See Standing."""
        if self._sink is not None and not self.transport.is_closing():
            try:
                self._sink.stopping()
            except Exception:
                self._failed()

    # ------------------------------------------------------------------ what the transport calls

    def data_received(self, data: bytes) -> None:
        """Ignore what the client sends, up to a bound."""
        self._ignored_bytes += len(data)
        if self._ignored_bytes > IGNORED_BYTES_MAX and not self.transport.is_closing():
            log.info("client sends to a stream", extra={"client": self.peer[0]})
            self.transport.abort()

    def eof_received(self) -> None:
        """A client that has finished sending has gone."""
        self.transport.abort()

    def pause_writing(self) -> None:
        """The buffer is above its high-water mark: whether the client gets on is the sink's."""
        self._watch_silence(0)
        if self._sink is not None:
            try:
                self._sink.behind()
            except Exception:
                self._failed()

    def resume_writing(self) -> None:
        """The buffer is below its low-water mark."""
        if not self.transport.is_closing():
            self._watch_silence()
        if self._sink is not None:
            try:
                self._sink.drained()
            except Exception:
                self._failed()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the sink at once: to write from here on is an error (uvloop's)."""
        sink, self._sink = self._sink, None
        if sink is not None:
            dismiss(sink)
        self._core.left(self)

    # ------------------------------------------------------------------

    def _watch_silence(self, times: int = USER_TIMEOUTS) -> None:
        """Have the kernel end the connection of a client that acknowledges nothing for so many
        times `write_timeout_s`; 0 is never."""
        if sys.platform == "linux":
            timeout_s = self._core.limits.write_timeout_s * times
            _set(self.transport, {socket.TCP_USER_TIMEOUT: int(timeout_s * 1000)})

    def _failed(self) -> None:
        log.exception("stream failed", extra={"client": self.peer[0]})
        self.transport.abort()


def dismiss(sink: Sink) -> None:
    """Tell a sink that it has no connection (any more)."""
    try:
        sink.gone()
    except Exception:
        log.exception("stream failed at its end")


def take_over(exchange: Exchange, head: Answer, detach: Detach) -> None:
    """Write a head and its body; then the connection of an exchange is the sink's."""
    connection = exchange.connection
    transport = connection.transport
    exchange.keep_alive = False  # (said in the head, RFC 9112, 9.6: the stream's end is its end)
    chunked = not exchange.http_1_0
    written = connection.write_head(exchange, head, None if chunked else -1, defer=True)
    written += chunk(head.body) if chunked else head.body
    high = detach.high_water_bytes
    transport.set_write_buffer_limits(high=high, low=high // 4)
    transport.write(written)
    exchange.done = True
    connection.observe(exchange, head.status)
    detached = DetachedConnection(exchange, detach.sink)
    transport.set_protocol(detached)
    connection.release()
    exchange.cycle = exchange.task = None  # (each would keep the other)
    detached.start(behind=connection.write_paused)


def _harden(transport: asyncio.Transport) -> None:
    """Let the kernel end a connection whose client is gone (SO_KEEPALIVE is on already), and take
    little for one that does not read."""
    if sys.platform == "linux":
        kept = {
            socket.TCP_KEEPIDLE: KEEPALIVE_IDLE_S,
            socket.TCP_KEEPINTVL: KEEPALIVE_INTERVAL_S,
            socket.TCP_NOTSENT_LOWAT: UNSENT_BYTES_MAX,
        }
        _set(transport, kept)


def _set(transport: asyncio.Transport, options: Mapping[int, int]) -> None:
    end: socket.socket = transport.get_extra_info("socket")
    with contextlib.suppress(OSError):  # It was reset meanwhile: the transport will tell.
        for option, value in options.items():
            end.setsockopt(socket.IPPROTO_TCP, option, value)
