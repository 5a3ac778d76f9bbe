"""Fast-lane handlers as Starlette (and so FastAPI) endpoints: one handler, two ways to it.

Imported only by who builds an application: Starlette is slow to load.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

from starlette.requests import Request as HttpRequest
from starlette.responses import Response, StreamingResponse

from callboard.serve.core import refusal
from callboard.serve.exchange import (
    Answer,
    Detach,
    Outcome,
    Parked,
    Request,
    Route,
    Settled,
    Streamed,
)
from callboard.serve.fallback import Detaching, raw_headers
from callboard.serve.wire import decode_query, header_values

log = logging.getLogger(__name__)
Endpoint = Callable[[HttpRequest], Awaitable[Response]]


def endpoint(route: Route) -> Endpoint:
    """A Starlette endpoint that answers as the route does in the fast lane."""

    async def serve(http_request: HttpRequest) -> Response:
        request = await as_request(http_request)
        try:
            settled = await _settle(route.handler(request), http_request)
        except Exception:
            log.exception("handler failed", extra={"path": request.path})
            settled = refusal(500, "internal server error")
        if isinstance(settled, Streamed):
            return _streaming(settled, http_request)
        if isinstance(settled, Detach):
            return Detaching(settled)
        if route.finish is not None:
            finished = route.finish(request, settled)
            settled = finished if isinstance(finished, Answer) else await finished
        return _response(settled)

    return serve


async def as_request(http_request: HttpRequest) -> Request:
    """The request as handlers see it."""
    scope = http_request.scope
    extension: dict[str, Any] = scope.get("extensions", {}).get("callboard", {})
    return Request(
        scope["method"],
        scope["path"],
        scope["raw_path"],
        decode_query(scope["query_string"]),
        header_values(scope["headers"]),
        await http_request.body(),
        scope["client"] or ("", 0),
        extension.get("peer"),
        scope["query_string"],
    )


async def _settle(outcome: Outcome, http_request: HttpRequest) -> Answer | Streamed | Detach:
    if hasattr(outcome, "__await__"):
        outcome = await cast("Awaitable[Settled]", outcome)
    if isinstance(outcome, Answer | Streamed | Detach):
        return outcome
    return await _wait(outcome, http_request)


async def _wait(parked: Parked, http_request: HttpRequest) -> Answer:
    answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    parked.start(lambda answer: None if answered.done() else answered.set_result(answer))
    leaving = asyncio.ensure_future(http_request.receive())
    try:
        waited: set[asyncio.Future[Any]] = {answered, leaving}
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        if answered.done():
            return answered.result()
        return Answer(499)  # Nobody reads it.
    finally:
        leaving.cancel()
        if not answered.done():
            answered.cancel()
            parked.cancel()


def _response(answer: Answer) -> Response:
    response = Response(answer.body, answer.status)
    response.raw_headers = raw_headers(answer)
    if answer.status not in (204, 304):
        response.raw_headers.append((b"content-length", b"%d" % len(answer.body)))
    return response


class _Buffer:
    """A `StreamConnection` whose bytes a StreamingResponse takes."""

    def __init__(self, streamed: Streamed, cut: Callable[[], None]) -> None:
        self._streamed = streamed
        self._cut = cut
        self._chunks: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._changed = asyncio.Event()
        self._drained: Callable[[], None] | None = None
        self._closed = False
        self._aborted = False

    def write(self, data: bytes) -> bool:
        """See StreamConnection."""
        if self._closed or not data:
            return not self._closed
        self._chunks.append(data)
        self._waiting_bytes += len(data)
        self._changed.set()
        if self._waiting_bytes > self._streamed.cut_bytes:
            self.abort()
            self._streamed.stream.cancel()
            return False
        return self._waiting_bytes <= self._streamed.high_water_bytes

    def on_drain(self, callback: Callable[[], None]) -> None:
        """See StreamConnection."""
        self._drained = callback
        self._changed.set()

    def close(self) -> None:
        """See StreamConnection."""
        self._closed = True
        self._changed.set()

    def abort(self) -> None:
        """See StreamConnection."""
        self._aborted = True
        self._cut()
        self.close()

    async def chunks(self) -> AsyncIterator[bytes]:
        """What was written, until closed; cancels the stream when the reader leaves."""
        try:
            while True:
                while self._chunks:
                    data = self._chunks.popleft()
                    yield data
                    self._waiting_bytes -= len(data)
                callback, self._drained = self._drained, None
                if callback is not None and not self._closed:
                    callback()
                if self._aborted:
                    raise ConnectionAbortedError("stream cut")
                if self._closed and not self._chunks:
                    return
                if not self._chunks:
                    self._changed.clear()
                    await self._changed.wait()
        finally:
            if not self._closed:
                self._closed = True
                self._streamed.stream.cancel()


def _streaming(streamed: Streamed, http_request: HttpRequest) -> StreamingResponse:
    extension = http_request.scope.get("extensions", {}).get("callboard", {})
    buffer = _Buffer(streamed, extension.get("abort", lambda: None))
    if streamed.head.body:
        buffer.write(streamed.head.body)
    response = StreamingResponse(_started(buffer, streamed), streamed.head.status)
    response.raw_headers = raw_headers(streamed.head)
    return response


async def _started(buffer: _Buffer, streamed: Streamed) -> AsyncIterator[bytes]:
    streamed.stream.start(buffer)
    async for data in buffer.chunks():
        yield data
