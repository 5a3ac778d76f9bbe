"""The way of one request through an ASGI application.

Requests come whole (the connection has enforced the limits); answers go through the connection's
writer, so that framing, header case and the order of pipelined answers are those of the fast lane.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from callboard.serve.core import Asgi, Message, refusal
from callboard.serve.detached import dismiss
from callboard.serve.exchange import Answer, Detach
from callboard.serve.wire import LAST_CHUNK, canonical, chunk

if TYPE_CHECKING:
    from callboard.serve.lane import Exchange

log = logging.getLogger(__name__)

DETACHES = "Callboard-Detaches"
"""Marks the head behind which the connection is detached (whatever its value), and is not sent: a
head without it is some middleware's own answer."""


class Cycle:
    """Scope, receive and send of one request (ASGI 3.0, HTTP)."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._connection = exchange.connection
        self._body_taken = False
        self._over = asyncio.Event()
        self._head: Answer | None = None
        self._left: int | None = None
        self._begun = False
        self.listening = False
        """The application waits to be told that the client has gone."""
        self._detach: Detach | None = None

    async def run(self, app: Asgi) -> None:
        """Call the application; what it leaves undone becomes a 500, or a cut connection."""
        try:
            await app(self._scope(), self.receive, self.send)
        except Exception:
            log.exception("application failed", extra={"path": self._exchange.path})
        finally:
            if self._detach is not None:  # (its head has never come)
                dismiss(self._detach.sink)
        if self._exchange.done:
            return
        if self._begun:
            self._connection.transport.abort()
        else:
            self._exchange.keep_alive = False
            self._connection.answer(self._exchange, refusal(500, "internal server error"))

    def gone(self) -> None:
        """The client has gone: `receive` says so."""
        self._over.set()

    async def receive(self) -> Message:
        """The whole body once, then the end of the connection or of the answer."""
        if not self._body_taken:
            self._body_taken = True
            return {"type": "http.request", "body": self._exchange.body, "more_body": False}
        self.listening = True
        if self._connection.half_closed or self._connection.core.stopping:
            self._over.set()
        self._connection.regulate()
        await self._over.wait()
        self.listening = False
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Write what the application says; waits while the client is behind."""
        if self._exchange.done:
            return
        if message["type"] == "http.response.start":
            self._start(message)
        elif message["type"] == "http.response.body" and self._head is not None:
            self._send_body(message.get("body", b""), bool(message.get("more_body", False)))
            if self._connection.write_paused and not self._exchange.done:
                await self._connection.drained()
        else:
            raise RuntimeError(f"unexpected ASGI message {message['type']!r}")

    def _start(self, message: Message) -> None:
        assert self._head is None, "http.response.start twice"
        headers: list[tuple[str, str]] = []
        marked = False
        for raw_name, raw_value in message.get("headers", ()):
            name, value = canonical(raw_name.decode("latin-1")), _text(raw_value)
            if name == "Content-Length":
                self._left = int(value)
            elif name == DETACHES:
                marked = True
            elif name == "Connection" and "close" in value.lower():
                self._exchange.keep_alive = False
            elif name not in ("Connection", "Transfer-Encoding", "Date"):
                headers.append((name, value))
        self._head = Answer(int(message["status"]), b"", headers)
        if self._detach is not None and marked:
            detach, self._detach = self._detach, None
            own = [one for one in detach.head.headers if one[0].lower() == "content-encoding"]
            # (middleware that would compress the body never sees it)
            self._head.headers = own + [one for one in headers if one[0] != "Content-Encoding"]
            self._head.body = detach.head.body
            self._over.set()
            self._exchange.detach(self._head, detach)

    def _detach_at_head(self, detach: Detach) -> None:
        """Detach when a head marked by DETACHES comes, which is as middleware has made it."""
        self._detach = detach

    def _send_body(self, body: bytes, more: bool) -> None:
        exchange, head = self._exchange, self._head
        assert head is not None
        bodiless = exchange.method == "HEAD" or head.status in (204, 304)
        if not self._begun:
            self._begun = True
            if self._left is None and not more and not bodiless:
                self._left = len(body)
            if self._left is None and exchange.http_1_0:
                exchange.keep_alive = False
                self._connection.write_head(exchange, head, -1)
            else:
                self._connection.write_head(exchange, head, self._left)
        if not bodiless:
            self._write(body, last=not more)
        if not more:
            self._over.set()
            self._connection.finished(exchange, head.status)

    def _write(self, body: bytes, *, last: bool) -> None:
        transport = self._connection.transport
        if self._left is not None:
            self._left -= len(body)
            if self._left < 0 or (last and self._left):
                raise RuntimeError("answer does not have the length its head says")
            transport.write(body)
        elif self._exchange.http_1_0:
            transport.write(body)
        else:
            transport.write(chunk(body) + (LAST_CHUNK if last else b""))

    def _scope(self) -> dict[str, Any]:
        exchange, connection = self._exchange, self._connection
        shown = connection.shown
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.0" if exchange.http_1_0 else "1.1",
            "server": connection.server,
            "client": connection.peer,
            "scheme": connection.scheme,
            "method": exchange.method,
            "root_path": "",
            "path": exchange.path,
            "raw_path": exchange.raw_path,
            "query_string": exchange.query,
            "headers": [
                (name.encode("latin-1"), value.encode("latin-1"))
                for name, value in exchange.headers.items()
            ],
            "state": {},
            "extensions": {
                "callboard": {
                    "peer": shown.peer if shown is not None else None,
                    "abort": connection.transport.abort,
                    "detach": self._detach_at_head,
                }
            },
        }


def _text(value: bytes) -> str:
    """A header's value, so that `wire.head` makes the same octets of it."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
