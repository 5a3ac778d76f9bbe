"""A `Detach` as a Starlette response: the connection is detached where serve serves, and streamed
by ASGI where it does not.

Under another server (uvicorn alone, hypercorn, a test client) sse-starlette carries the stream:
its response ends when the client goes, and when uvicorn stops. Between it and the sink stands a
buffer that behaves as a detached connection does. It serves every content type: what the sink
writes goes out as it is, and Starlette's own streams would hold up uvicorn's stop for ever.

Imported by `adapter` only: Starlette is slow to load.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any, cast

import anyio
from starlette.responses import Response

from callboard.serve.asgi import DETACHES
from callboard.serve.core import Message
from callboard.serve.detached import dismiss
from callboard.serve.exchange import Answer, Detach

log = logging.getLogger(__name__)

GOOD_BYE_S = 5.0
"""For a stream to end itself when the server stops."""
CUT_BYTES = 64 * 1024 * 1024
"""More than this waiting for one client: it is cut, and logged."""

Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


def raw_headers(answer: Answer) -> list[tuple[bytes, bytes]]:
    """The headers of an answer as ASGI has them, without the length of its body."""
    headers = [
        (name.encode("latin-1"), value.encode("utf-8", "replace")) for name, value in answer.headers
    ]
    if answer.content_type is not None:
        headers.insert(0, (b"content-type", answer.content_type.encode("latin-1")))
    return headers


class Detaching(Response):
    """The response of a handler that detaches."""

    def __init__(self, detach: Detach) -> None:
        super().__init__(None, detach.head.status)
        self.raw_headers = raw_headers(detach.head)
        self._detach = detach

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """ASGI 3.0."""
        extension: dict[str, Any] = scope.get("extensions", {}).get("callboard", {})
        head = self._detach.head
        if scope["method"] == "HEAD" or head.status in (204, 304):
            dismiss(self._detach.sink)
            await self._send_head(send)
            await send({"type": "http.response.body"})
        elif "detach" in extension:
            # It takes effect when the head arrives: through whatever middleware, and changed by it.
            extension["detach"](self._detach)
            self.raw_headers.append((DETACHES.encode(), b"yes"))
            await self._send_head(send)
            # (some middleware keeps the head back until there is a body)
            await send({"type": "http.response.body", "body": b"", "more_body": True})
        else:
            await self._stream(scope, receive, send)
        if self.background is not None:
            await self.background()

    async def _send_head(self, send: Send) -> None:
        await send(
            {
                "type": "http.response.start",
                "status": self.status_code,
                "headers": self.raw_headers,
            }
        )

    async def _stream(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        from sse_starlette.sse import EventSourceResponse  # noqa: PLC0415 - the hub alone has it

        sending = anyio.CancelScope()
        buffer = _Buffer(self._detach, sending.cancel)
        response = EventSourceResponse(
            buffer.chunks(),
            self.status_code,
            ping=0,  # (what keeps the connection alive the sink sends itself)
            shutdown_event=cast(anyio.Event, _Stopping(buffer)),
            shutdown_grace_period=GOOD_BYE_S,
        )
        response.raw_headers = self.raw_headers
        try:
            with sending:  # (a client that takes nothing holds it up in `send`)
                await response(scope, receive, send)
        finally:
            buffer.gone()
        if sending.cancelled_caught:
            raise ConnectionAbortedError("stream cut")  # has the server cut the connection


class _Stopping:
    """What sse-starlette sets when uvicorn stops."""

    def __init__(self, buffer: _Buffer) -> None:
        self._buffer = buffer

    def set(self) -> None:
        """The server stops."""
        self._buffer.stopping()


class _Buffer:
    """A `Detached` whose bytes an ASGI server takes."""

    chunked = False

    def __init__(self, detach: Detach, cut: Callable[[], None]) -> None:
        self._detach = detach
        self._cut = cut
        self._waiting: list[bytes] = [detach.head.body] if detach.head.body else []
        self._waiting_bytes = len(detach.head.body)
        self._taken_bytes = 0
        self._changed = asyncio.Event()
        self._started = self._behind = self._closed = self._aborted = self._gone = False

    # ------------------------------------------------------------------ what a sink calls

    def write(self, data: bytes) -> None:
        """See Detached."""
        if self._closed or not data:
            return
        self._waiting.append(data)
        self._waiting_bytes += len(data)
        self._changed.set()
        if self._waiting_bytes > CUT_BYTES:
            log.warning("stream cut", extra={"waiting_bytes": self._waiting_bytes})
            self.abort()
        elif self._waiting_bytes > self._detach.high_water_bytes and not self._behind:
            self._behind = True
            self._tell(self._detach.sink.behind)

    def waiting_bytes(self) -> int:
        """See Detached."""
        return self._waiting_bytes

    def acknowledged_bytes(self) -> int | None:
        """See Detached: what the server has taken stands for it."""
        return self._taken_bytes

    def close(self, last: bytes = b"") -> None:
        """See Detached."""
        self.write(last)
        self._closed = True
        self._changed.set()

    def abort(self) -> None:
        """See Detached."""
        self._aborted = self._closed = True
        self._waiting.clear()
        self._waiting_bytes = 0
        self._cut()
        self._changed.set()

    # ------------------------------------------------------------------ what the response calls

    async def chunks(self) -> AsyncIterator[bytes]:
        """Start the sink (the head is out), then what it writes, until it closes.

        Raises ConnectionAbortedError after `abort`.
        """
        yield b""  # (a server may keep the head back until there is a body)
        self._started = True
        self._tell(lambda: self._detach.sink.start(self))
        while True:
            while self._waiting:
                data, self._waiting = b"".join(self._waiting), []
                yield data
                self._taken(len(data))
            if self._aborted:
                raise ConnectionAbortedError("stream cut")
            if self._closed:
                return
            self._changed.clear()
            await self._changed.wait()

    def stopping(self) -> None:
        """The server stops."""
        if self._started and not self._closed:
            self._tell(self._detach.sink.stopping)
        elif not self._started:
            self.close()

    def gone(self) -> None:
        """The response is over."""
        self._closed = True
        if not self._gone:
            self._gone = True
            dismiss(self._detach.sink)

    def _taken(self, size: int) -> None:
        self._taken_bytes += size
        if self._aborted:
            return
        self._waiting_bytes -= size
        if self._behind and self._waiting_bytes <= self._detach.high_water_bytes // 4:
            self._behind = False
            if not self._closed:
                self._tell(self._detach.sink.drained)

    def _tell(self, told: Callable[[], None]) -> None:
        try:
            told()
        except Exception:
            log.exception("stream failed")
            self.abort()
