"""HTTP on a connection: requests in order, each answered from the table or handed to a route.

One request at a time: while an answer waits for its reader nothing more is read, so a client that
pipelines or does not read costs one head and one part of a file.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from time import perf_counter, time
from typing import TYPE_CHECKING

from callboard.fileserver.answers import CONDITIONS, OK, PARTIAL_CONTENT, choose, decide
from callboard.fileserver.entries import Entry, Redirect, Variant
from callboard.fileserver.guards import PUBLIC, REFUSED
from callboard.fileserver.head import BadHead, Head, end_of_head
from callboard.fileserver.ports import PeerInfo, Refusal, Relayed, Route
from callboard.fileserver.transport import RECORD_BYTES, FilePart, State, Transport

if TYPE_CHECKING:
    import socket

    from callboard.fileserver.server import Server

log = logging.getLogger(__name__)

# Members of an Enum are looked up slowly, and these are for every request.
_HEAD, _IDLE, _SENDING = State.HEAD, State.IDLE, State.SENDING
_RELAYING, _LINGERING = State.RELAYING, State.LINGERING

KEPT_BYTES_MAX = 64 * 1024
"""Of a relayed connection, each way."""

KEEP, CLOSE, KEEP_1_0 = 0, 1, 2
"""What an answer's Connection field says: nothing, `close`, `keep-alive` (HTTP/1.0)."""


class Connection(Transport):
    """One client."""

    __slots__ = (
        "_begun", "_buffer", "_closing", "_drained", "_ended", "_head", "_incoming", "_log",
        "_mode", "_peer", "_public", "_relayed", "_task", "server",
    )  # fmt: skip

    def __init__(
        self, server: Server, sock: socket.socket, context: ssl.SSLContext, address: tuple[str, int]
    ) -> None:
        self.server = server
        self._buffer = b""
        self._begun = 0.0
        self._closing = False
        self._ended = False
        self._head: Head | None = None
        self._log: tuple[int, int] | None = None
        self._mode = KEEP
        self._peer = PeerInfo(*address)
        self._public = False
        self._relayed = 0
        self._incoming: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        super().__init__(server, sock, context, address)

    # requests

    def established(self) -> None:
        """Note whose certificate it was."""
        certificate = self.sock.getpeercert() if self.server.asks_certificates else None
        if certificate:
            self._peer = PeerInfo(self.address, self.port, certificate)

    def received(self, data: bytes) -> None:
        """Bytes of the client: heads, or what a route is to have."""
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        if self.state is _RELAYING:
            self._buffer = data
            if len(data) >= KEPT_BYTES_MAX:
                self.pause()
            _wake(self._incoming)
        else:
            self._process(data)

    def ended(self) -> None:
        """The client sends no more: it still gets what it asked for, but for a relay that does not
        read: a stream may be silent for hours, and would not learn that nobody listens."""
        self._ended = True
        if self.state is _RELAYING:
            if self._incoming is None and not self._buffer:
                self.abort()
            else:
                _wake(self._incoming)
        elif self.state is not _SENDING:
            self.finish(linger=False)

    def flushed(self) -> None:
        """The answer is out: the next request."""
        if self.state is _SENDING:
            self._complete()
            self._next()
        elif self.state is _RELAYING:
            self.deadline = float("inf")
            _wake(self._drained)
            if self._closing:
                self.finish()

    def _next(self) -> None:
        """Take up what came while the answer was sent, unless that was the last."""
        if self.state is _IDLE:
            if not self._ended:
                self.resume()
            data, self._buffer = self._buffer, b""
            self._process(data)

    def lost(self) -> None:
        """Nobody is there any more."""
        if self._log is not None:
            self._write_log(cut=True)
        _wake(self._incoming)
        _wake(self._drained)
        if self._task is not None and self._task is not asyncio.current_task(self.server.loop):
            self._task.cancel()

    def _process(self, data: bytes) -> None:
        """Answer the requests in `data`, until one has to wait for its reader."""
        while data:
            try:
                end = end_of_head(data)
                if not end:
                    if self.state is _IDLE:
                        self.state = _HEAD
                        self.deadline = self.server.now + self.server.limits.head_s
                    break
                head = self.server.heads.parse(data if end == len(data) else data[:end])
            except BadHead as problem:
                self._head = None
                self._begun = perf_counter()
                self._mode = CLOSE
                self._public = False
                self.refuse(Refusal(problem.status, problem.reason))
                return
            data = data[end:]
            self._request(head, data)
            if self.state is _RELAYING:
                return
            if self.state >= _SENDING:
                break
        self._buffer = data
        if self._ended and self.state is _IDLE:
            self.finish(linger=False)
        elif self.state is _SENDING:
            self.pause()

    def _request(self, head: Head, rest: bytes) -> None:
        server = self.server
        self._head = head
        self._begun = perf_counter()
        self._mode = KEEP
        if not head.keep_alive or server.now >= self.born + server.limits.age_s or server.draining:
            self._mode = CLOSE
        elif head.minor == 0:
            self._mode = KEEP_1_0
        standing = server.hosts.standing(head.host)
        self._public = standing == PUBLIC
        if standing == REFUSED:
            host = head.host[:256].decode("latin-1")
            self.refuse(Refusal(403, f'Host "{host}" is not one of this server: see -allowed-host'))
            return
        if server.router is not None:
            decided = server.router.route(head, self._peer)
            if decided is not None:
                if isinstance(decided, Refusal):
                    self.refuse(decided)
                else:
                    self._relay(decided, head, rest)
                return
        self._file(head)

    # answers

    def refuse(self, refusal: Refusal) -> None:
        """Answer with a line of text. With a body still to come the connection ends."""
        head = self._head
        if head is None or head.has_body:
            self._mode = CLOSE
        body = refusal.text.encode("utf-8", "replace") + b"\n"
        lines = "".join([f"{name}: {value}\r\n" for name, value in refusal.headers])
        data = b"".join(
            [
                self.server.prefix(refusal.status, self._mode, self._public),
                b"Content-Type: text/plain; charset=utf-8\r\nCache-Control: no-store\r\n",
                self.server.security,
                lines.encode("latin-1", "replace"),
                b"Content-Length: %d\r\n\r\n" % len(body),
                b"" if head is not None and head.method == b"HEAD" else body,
            ]
        )
        self._send(refusal.status, data, len(body))

    def _file(self, head: Head) -> None:
        """Answer from the table."""
        is_get = head.method == b"GET"
        if not is_get and head.method != b"HEAD":
            self.refuse(Refusal(405, "only GET and HEAD are answered", (("Allow", "GET, HEAD"),)))
            return
        if head.chunked or head.content_length:
            self.refuse(Refusal(400, "a body where none belongs"))
            return
        table = self.server.table
        entry = table.paths.get(head.decoded)
        if entry is None:
            entry = table.fallback if table.fallback is not None and is_page(head) else None
        if entry is None:
            self.refuse(Refusal(404, "Not Found"))
        elif isinstance(entry, Redirect):
            location = entry.location + (b"?" + head.query if head.query else b"")
            self.refuse(Refusal(301, "Moved", (("Location", location.decode("latin-1")),)))
        else:
            self._entry(head, entry, is_get)

    def _entry(self, head: Head, entry: Entry, is_get: bool) -> None:
        fields = head.fields
        variant = entry.plain
        if entry.coded:
            variant = choose(entry, fields.get(b"accept-encoding"))
        status, start, stop = OK, 0, variant.size
        if not CONDITIONS.isdisjoint(fields):
            status, start, stop = decide(
                fields, variant, entry.modified_s, is_get=is_get, now_s=time()
            )
        prefix = self.server.prefix(status, self._mode, self._public)
        if status == OK:
            if not is_get:
                full = variant.full
                end = len(full) - variant.size if variant.body is not None else len(full)
                self._send(OK, prefix + full[:end], 0)
            elif variant.body is None:
                self._send_part(OK, prefix + variant.full, variant, 0, stop)
            elif stop <= RECORD_BYTES:
                self._send(OK, prefix + variant.full, stop)
            else:
                split = RECORD_BYTES - len(prefix)
                more = memoryview(variant.full)[split:]
                self._send(OK, prefix + variant.full[:split], stop, more)
        elif status == PARTIAL_CONTENT:
            head_lines = b"%b%bContent-Range: bytes %d-%d/%d\r\nContent-Length: %d\r\n\r\n" % (
                prefix, variant.fields, start, stop - 1, variant.size, stop - start,
            )  # fmt: skip
            if variant.body is None:
                self._send_part(status, head_lines, variant, start, stop)
            else:
                self._send(status, head_lines, stop - start, variant.body[start:stop])
        else:
            self._bare(status, prefix, variant)

    def _bare(self, status: int, prefix: bytes, variant: Variant) -> None:
        """304, 412 and 416: no content."""
        if status == 304:
            self._send(status, prefix + variant.fields + b"\r\n", 0)
            return
        more = b"Content-Range: bytes */%d\r\n" % variant.size if status == 416 else b""
        self._send(status, prefix + self.server.security + more + b"Content-Length: 0\r\n\r\n", 0)

    def _send_part(
        self, status: int, lines: bytes, variant: Variant, start: int, stop: int
    ) -> None:
        """Answer with bytes of a file that is not in memory."""
        assert variant.source is not None
        try:
            descriptor = variant.source.open()
        except OSError:
            self.server.look_now()
            self.refuse(Refusal(503, "the file is just changing", (("Retry-After", "1"),)))
            return
        self._send(status, lines, stop - start, FilePart(descriptor, start, stop))

    def _send(
        self, status: int, data: bytes, size: int, more: memoryview | FilePart | None = None
    ) -> None:
        """Send an answer; go on when it is out. `size` is the body's, for the log."""
        self._log = (status, size)
        self._closing = self._mode == CLOSE
        self.send(data)
        if more is not None:
            if isinstance(more, FilePart):
                self.send_file(more)
            else:
                self.send(more)
        if self._out and not self.flush():
            if self.state < _SENDING:
                self.state = _SENDING
                self.deadline = self.server.now + self.server.limits.write_stall_s
        elif self.state < _LINGERING:
            self._complete()

    def _complete(self) -> None:
        """An answer is out."""
        self._write_log()
        if self._closing:
            self.finish()
        else:
            self.state = _IDLE
            self.deadline = self.server.now + self.server.limits.idle_s

    def _write_log(self, upstream: str = "", *, cut: bool = False) -> None:
        if self._log is None:
            return
        (status, size), self._log = self._log, None
        server = self.server
        server.answered[status] = server.answered.get(status, 0) + 1
        server.sent_bytes += size
        if server.access is not None:
            server.access.add(
                self._head,
                wall_s=time(),
                address=self.address,
                status=status,
                sent=size,
                took_s=perf_counter() - self._begun,
                upstream=upstream,
                cut=cut,
            )

    # what a route uses: see ports.ClientConnection

    @property
    def peer(self) -> PeerInfo:
        """Who is at the other end."""
        return self._peer

    @property
    def closed(self) -> bool:
        """Whether nothing can be sent any more."""
        return self.state >= _LINGERING

    @property
    def secure_host(self) -> bool:
        """Whether answers carry HSTS."""
        return self._public

    async def read(self) -> bytes:
        """The next bytes; b"" at the end."""
        while not self._buffer:
            if self._ended or self.state is not _RELAYING:
                return b""
            self.resume()
            self._incoming = self.server.loop.create_future()
            try:
                await self._incoming
            finally:
                self._incoming = None
        data, self._buffer = self._buffer, b""
        if not self._ended:
            self.resume()
        return data

    def write(self, data: bytes) -> None:
        """Send, or queue."""
        if self.state is _RELAYING and not self._closing:
            waiting = bool(self._out)
            self.send(data)
            self._relayed += len(data)
            if self._out and not waiting:
                self.deadline = self.server.now + self.server.limits.write_stall_s
                if self.flush():
                    self.deadline = float("inf")

    async def drain(self) -> None:
        """Wait until little is queued. Raises ConnectionResetError."""
        while self._queued > KEPT_BYTES_MAX and self.state is _RELAYING:
            self._drained = self.server.loop.create_future()
            try:
                await self._drained
            finally:
                self._drained = None
        if self.state is not _RELAYING:
            raise ConnectionResetError("the client has gone")

    def close(self) -> None:
        """Send what is queued, then end."""
        self._closing = True
        _wake(self._incoming)
        if not self._out:
            self.finish()

    def _relay(self, route: Route, head: Head, rest: bytes) -> None:
        self.state = _RELAYING
        self.deadline = float("inf")
        self._relayed = 0
        self._closing = False
        self._task = self.server.loop.create_task(
            self._run(route, head, rest), name=f"relay to {self.address}:{self.port}"
        )

    async def _run(self, route: Route, head: Head, rest: bytes) -> None:
        done = None
        try:
            done = await route.relay(self, head, rest)
        except (OSError, asyncio.CancelledError) as problem:
            log.debug("a relay ended: %r", problem)
        except Exception:
            log.exception("a relay failed")
        self._task = None
        self._log = (done.status if done else 0, self._relayed)
        self._write_log(done.upstream if done else "", cut=done is None or done.cut)
        self._after(done)

    def _after(self, done: Relayed | None) -> None:
        """Go on after a relay, or end."""
        if self.state is not _RELAYING:
            return
        if done is None:
            self.abort("relay")
        elif done.leftover is None or self._mode == CLOSE or self._closing:
            self.close()
        else:
            self._buffer = done.leftover + self._buffer
            limits = self.server.limits
            if self._out:
                self.state = _SENDING
                self.deadline = self.server.now + limits.write_stall_s
                self.pause()
            else:
                self.state = _IDLE
                self.deadline = self.server.now + limits.idle_s
                self._next()


def is_page(head: Head) -> bool:
    """Whether a path that is not there may be a page of a single-page application: no dot in its
    last part, and asked for by something that takes HTML."""
    if b"." in head.decoded.rpartition(b"/")[2]:
        return False
    accept = head.fields.get(b"accept", b"*/*")
    return b"text/html" in accept or b"*/*" in accept


def _wake(future: asyncio.Future[None] | None) -> None:
    if future is not None and not future.done():
        future.set_result(None)
