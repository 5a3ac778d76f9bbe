"""One client connection: uvicorn's httptools protocol with a fast lane, limits and deadlines.

The only file that touches uvicorn's internals. From uvicorn come the parser's set-up and the
switch to WebSockets; reading, ordering, deadlines and writing are here:
* requests are read whole, then answered in their order (RFC 9112, 9.3.2);
* an offered upgrade to h2c is ignored and its body delivered: llhttp takes the message for ended
  at its head, so the body is given to a second parser behind a head of our own;
* one deadline at a time, moved without touching the timer wheel while it only moves later.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from callboard.serve.admission import body_bytes_max, examine, has_body
from callboard.serve.core import Core, Peer, log_refusal, refusal
from callboard.serve.exchange import Answer
from callboard.serve.lane import Exchange, far_ahead
from callboard.serve.peers import Shown, shown_by
from callboard.serve.switching import to_websocket, wants_websocket
from callboard.serve.timerwheel import Timer
from callboard.serve.wire import CONTINUE, head, header_key

log = logging.getLogger(__name__)
_SLICE = 16 * 1024
_NEVER = float("inf")
_LINGER_S = 1.0


class Connection(HttpToolsProtocol):
    """See the module. Created by `Server` for each accepted socket."""

    transport: asyncio.Transport

    def __init__(self, core: Core, config: Config, state: ServerState, peer: Peer) -> None:
        super().__init__(config=config, server_state=state, app_state={}, _loop=core.loop)
        self.core = core
        self.peer = peer  # (as accepted: a socket that was reset does not know it any more)
        self.shown: Shown | None = None
        self.write_paused = False
        self._queue: deque[Exchange] = deque()
        self._reading: Exchange | None = None
        self._in_head = False
        self._replaying = False
        self._target = b""
        self._head_bytes = 0
        self._raw_head_bytes = 0
        self._fields: dict[str, str] = {}
        self._duplicate_host = False
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._begun_at = 0.0
        self._idle_since = core.loop.time()
        self._unfed = b""
        self._deaf = False
        """Nothing that still comes in is read: refused, last request seen, or closing."""
        self.half_closed = False
        self._reading_paused = False
        self._drain_waiters: list[asyncio.Future[None]] = []
        self._timer: Timer | None = None
        self._timer_at = _NEVER
        self._deadline = _NEVER
        self._awaited = ""
        self._unsent_bytes = 0

    # ------------------------------------------------------------------ transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.client = self.peer
        self.shown = shown_by(transport, self.core.trust, self.core.loop.time())
        transport.set_write_buffer_limits(high=self.core.limits.write_high_water_bytes)
        self.core.connections.add(self)
        self._watch()
        if self.core.stopping:
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._deaf = True
        self._forget_timer()
        if self.core.admits():
            self._abandon()
        else:
            self.core.backlog.post(self._abandon)
        super().connection_lost(exc)
        self.core.left(self)

    def release(self) -> None:
        """Another protocol has the transport now. What was read and not answered is dropped, and
        every reference that would keep this object alive."""
        self._deaf = True
        self._forget_timer()
        if self._reading_paused:
            self._reading_paused = False
            self.transport.resume_reading()
        self._queue.clear()
        self._reading = None
        self._unfed = b""
        self.core.connections.discard(self)
        self.connections.discard(self)  # (uvicorn's)
        self.parser = self.transport = None  # type: ignore[assignment]

    def _forget_timer(self) -> None:
        if self._timer is not None:
            self.core.wheel.cancel(self._timer)
            self._timer = None

    def _abandon(self) -> None:
        """Cancel whatever waits for a client that has gone."""
        queue, self._queue = self._queue, deque()
        for exchange in queue:
            exchange.gone()
        self._release_writers()

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """A client that half-closes still gets the answers under way; one that waits is gone."""
        if self._all_answered() or self.scheme == "https":
            return None
        if self._queue and self._queue[0].waits:
            return None
        self.half_closed = True
        return True

    def _all_answered(self, but: Exchange | None = None) -> bool:
        """Whether no whole request is left to answer (`but` aside)."""
        waiting = any(exchange.complete and exchange is not but for exchange in self._queue)
        return not waiting and not self._unfed

    def pause_writing(self) -> None:
        self.write_paused = True
        self._unsent_bytes = self.transport.get_write_buffer_size()
        self._watch()

    def resume_writing(self) -> None:
        self.write_paused = False
        self._release_writers()
        if self._queue and self._queue[0].stream is not None:
            self._queue[0].stream.drained()
        self._advance()

    async def drained(self) -> None:
        """Wait until the client has taken most of what was written, or has gone."""
        if self.write_paused and not self.transport.is_closing():
            waiter = self.core.loop.create_future()
            self._drain_waiters.append(waiter)
            await waiter

    def shut(self) -> None:
        """The server stops: end what only waits, let the rest finish, take nothing new."""
        self._deaf = True
        if not self._queue or self._queue[0].waits or not self._queue[0].started:
            for exchange in self._queue:
                exchange.gone()
            self.transport.close()
        else:
            self._queue[0].keep_alive = False

    def _release_writers(self) -> None:
        waiters, self._drain_waiters = self._drain_waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    # ------------------------------------------------------------------ reading

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        if self._unfed or not self.core.admits():
            self._put_off(data)
            return
        self._feed(data)
        self._advance()

    def _put_off(self, data: bytes) -> None:
        """Keep bytes until requests before them are answered, or the loop has turned."""
        if not self._unfed:
            self.core.backlog.post(self._advance)
        self._unfed += data
        if len(self._unfed) <= self.core.limits.pipeline_bytes_max:
            return
        if self._queue and self._queue[0].waits:
            log.warning("pipelined too far ahead", extra={"client": self.peer[0]})
            self.transport.abort()
        else:
            self.regulate()

    def _feed(self, data: bytes) -> None:
        for at in range(0, len(data), _SLICE):
            if far_ahead(self._queue, self.core.limits):
                self._unfed = data[at:]
                break
            self._parse(data if len(data) <= _SLICE else data[at : at + _SLICE])
            if self._deaf:
                break

    def _parse(self, data: bytes) -> None:
        if self._in_head:
            self._raw_head_bytes += len(data)
            if self._raw_head_bytes > self.core.limits.head_bytes_max + _SLICE:
                self._refuse(refusal(431, "request header fields too large"))
                return
        elif self._reading is not None:
            self._reading.raw_body_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._after_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserInvalidMethodError:
            self._refuse(refusal(405, "method not allowed"))
        except httptools.HttpParserCallbackError:
            log.exception("request parser failed")
            self._refuse(refusal(400, "400 Bad Request"))
        except httptools.HttpParserError as problem:
            log.info("malformed request", extra={"client": self.peer[0], "reason": str(problem)})
            self._refuse(refusal(400, "400 Bad Request"))

    def _after_upgrade(self, rest: bytes) -> None:
        if self._deaf:
            return
        exchange = self._reading
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        if exchange is not None:
            length = exchange.headers.get("content-length")
            framing = f"Content-Length: {length}" if length else "Transfer-Encoding: chunked"
            self._replaying = True
            self.parser.feed_data(f"PUT / HTTP/1.1\r\n{framing}\r\n\r\n".encode("latin-1"))
            self._replaying = False
        elif len(self._queue) == 1 and wants_websocket(self, self._queue[0]):
            to_websocket(self, self._queue[0], self._target, rest)
            return
        if rest:
            self._parse(rest)

    # ------------------------------------------------------------------ parser callbacks

    def on_message_begin(self) -> None:
        if self._deaf or self._replaying:
            return
        self._in_head = True
        self._begun_at = self.core.loop.time()
        self._target = b""
        self._fields = {}
        self._duplicate_host = False
        self._head_bytes = self._raw_head_bytes = 0
        self._body = []
        self._body_bytes = 0

    def on_url(self, url: bytes) -> None:
        if self._deaf or self._replaying:
            return
        self._target += url
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._deaf or self._replaying:
            return
        self._count_head(len(name) + len(value) + 4)
        if not self._in_head:
            return  # A trailer (RFC 9110, 6.5): it must never change what the head said.
        key = header_key(name) if len(name) <= 64 else name.decode("latin-1").lower()
        fields = self._fields
        if key in fields:
            self._duplicate_host |= key == "host"
            fields[key] += ("; " if key == "cookie" else ", ") + value.decode("latin-1")
        else:
            fields[key] = value.decode("latin-1").rstrip(" \t")

    def on_headers_complete(self) -> None:
        if self._deaf or self._replaying:
            return
        self._in_head = False
        exchange = Exchange(self, self.parser.get_method().decode("latin-1"), self._fields)
        exchange.begun = self._begun_at
        exchange.keep_alive = self.parser.should_keep_alive()
        self._reading = exchange
        self._queue.append(exchange)
        core = self.core
        version = self.parser.get_http_version()
        refused = examine(exchange, self._target, version, core.handlers, core.limits)
        if self._duplicate_host:
            refused = refusal(400, "400 Bad Request: more than one Host header")
        if refused is not None:
            self._refuse(refused)

    def on_body(self, body: bytes) -> None:
        exchange = self._reading
        if self._deaf or exchange is None:
            return
        self._body.append(body)
        self._body_bytes += len(body)
        limit = body_bytes_max(exchange, self.core.limits)
        # Chunks of one byte cost six on the wire: more overhead than that is nobody's client.
        if self._body_bytes > limit or exchange.raw_body_bytes > 8 * limit + 65536:
            self._refuse(refusal(413, f"Request body too large, max size: {limit} bytes"))

    def on_message_complete(self) -> None:
        exchange = self._reading
        if self._deaf or exchange is None:
            return
        if self.parser.should_upgrade() and has_body(exchange.headers):
            return  # Not complete at all: see _after_upgrade.
        exchange.body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        exchange.size = self._head_bytes + self._body_bytes
        exchange.complete = True
        self._body, self._reading = [], None
        if not exchange.keep_alive:
            self._deaf = True

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > self.core.limits.head_bytes_max:
            self._refuse(refusal(431, "request header fields too large"))

    def _refuse(self, answer: Answer) -> None:
        """Answer the request being read by an error, then close: its end is not known."""
        if self._deaf:
            return
        self._deaf, self._in_head = True, False
        exchange = self._reading
        if exchange is None:
            exchange = Exchange(self, "GET", {})
            self._queue.append(exchange)
        self._reading = None
        exchange.complete = True
        exchange.keep_alive = False
        exchange.refusal = answer
        log_refusal(self.peer[0], exchange.path, answer)

    # ------------------------------------------------------------------ answering

    def answer(self, exchange: Exchange, answer: Answer) -> None:
        """Write a whole answer, and go on to the next request."""
        body = answer.body
        bodiless = answer.status in (204, 304)
        written = self.write_head(exchange, answer, None if bodiless else len(body), defer=True)
        self.transport.write(written if bodiless or exchange.method == "HEAD" else written + body)
        self.finished(exchange, answer.status)

    def write_head(
        self, exchange: Exchange, answer: Answer, length: int | None, *, defer: bool = False
    ) -> bytes:
        """Write (or with `defer` only make) a head. `length`: of the body; -1: until the end of
        the connection; None: chunked, or no body at all (HEAD, 204, 304)."""
        tail = self.core.date_line()
        if length is not None and length >= 0:
            tail += f"Content-Length: {length}\r\n"
        elif length is None and exchange.method != "HEAD" and answer.status not in (204, 304):
            tail += "Transfer-Encoding: chunked\r\n"
        if self.core.ends(self) or (self.half_closed and self._all_answered(but=exchange)):
            exchange.keep_alive = False
        if not exchange.keep_alive:
            tail += "Connection: close\r\n"
        elif exchange.http_1_0:
            tail += "Connection: keep-alive\r\n"
        made = head(answer.status, answer.content_type, answer.headers, tail)
        if not defer:
            self.transport.write(made)
        return made

    def finished(self, exchange: Exchange, status: int) -> None:
        """The answer is written whole: close, or go on with the next request."""
        exchange.done = True
        self.observe(exchange, status)
        if self._queue and self._queue[0] is exchange:
            self._queue.popleft()
        self._idle_since = self.core.loop.time()
        if not exchange.keep_alive:
            self._deaf = True
            self._close_after(exchange)
        elif exchange.started and not self._advancing:
            self._advance()

    def observe(self, exchange: Exchange, status: int) -> None:
        """Tell of an answer, for metrics."""
        core = self.core
        if core.observe is not None:
            pattern = exchange.route.pattern if exchange.route is not None else ""
            core.observe(exchange.method, pattern, status, core.loop.time() - exchange.begun)

    def _close_after(self, exchange: Exchange) -> None:
        for late in self._queue:
            late.gone()
        self._queue.clear()
        transport = self.transport
        if exchange.refusal is None or self.scheme == "https" or not transport.can_write_eof():
            transport.close()
            return
        # The client may still be sending: closing now would reset the connection, and the answer
        # might be lost to it (RFC 9112, 9.6).
        transport.write_eof()
        self._await("linger", self.core.loop.time() + _LINGER_S)

    _advancing = False

    def _advance(self) -> None:
        """Start whatever may start, in order; then set the deadline of what comes next."""
        if self._advancing or self.transport is None or self.transport.is_closing():
            return
        self._advancing = True
        while not self.write_paused:
            while self._queue and not self.write_paused:
                exchange = self._queue[0]
                if exchange.started:
                    break
                if not exchange.complete:
                    if exchange.expects_continue:
                        exchange.expects_continue = False
                        self.transport.write(CONTINUE)
                    break
                exchange.start()
            if not self._unfed or self._deaf or far_ahead(self._queue, self.core.limits):
                break
            unfed, self._unfed = self._unfed, b""
            self._feed(unfed)
        self._advancing = False
        if self.transport is None:
            return  # (released meanwhile)
        if self.half_closed and self._all_answered():
            self.transport.close()
            return
        self.regulate()
        self._watch()

    def regulate(self) -> None:
        """Read on unless requests pile up; while the first is parked, always: it is the only way
        to see the client go."""
        pause = bool(self._unfed) and not (self._queue and self._queue[0].waits)
        if pause != self._reading_paused and not self.transport.is_closing():
            self._reading_paused = pause
            if pause:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()

    # ------------------------------------------------------------------ deadlines

    def _watch(self) -> None:
        limits = self.core.limits
        if self._awaited == "linger":
            return
        if self.write_paused:
            self._await("write", self.core.loop.time() + limits.write_timeout_s)
        elif self._in_head:
            self._await("head", self._begun_at + limits.head_timeout_s)
        elif self._reading is not None:
            self._await("body", self._begun_at + limits.body_timeout_s)
        elif self._queue:
            self._await("answer", _NEVER)
        else:
            self._await("idle", self._idle_since + limits.idle_timeout_s)

    def _await(self, what: str, deadline: float) -> None:
        self._awaited = what
        self._deadline = deadline
        if deadline >= self._timer_at:
            return  # The pending timer comes first, and looks again.
        if self._timer is not None:
            self.core.wheel.cancel(self._timer)
        self._timer_at = deadline
        self._timer = self.core.wheel.add(deadline - self.core.loop.time(), self._expired)

    def _expired(self) -> None:
        self._timer, self._timer_at = None, _NEVER
        deadline, awaited = self._deadline, self._awaited
        if self.core.loop.time() < deadline:
            if deadline < _NEVER:
                self._await(awaited, deadline)
        elif awaited in ("head", "body"):
            log.info("request too slow", extra={"client": self.peer[0], "part": awaited})
            self._refuse(refusal(408, "request timeout"))
            self._advance()
        elif awaited == "write":
            self._check_reader()
        else:
            self.transport.close()

    def _check_reader(self) -> None:
        unsent = self.transport.get_write_buffer_size()
        if unsent < self._unsent_bytes:
            self._unsent_bytes = unsent
            self._watch()
        else:
            log.info("client stopped reading", extra={"client": self.peer[0], "bytes": unsent})
            self.transport.abort()
