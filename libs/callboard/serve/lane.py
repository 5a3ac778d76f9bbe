"""One request and its answer on a connection: the fast lane, or the way through ASGI.

An exchange is created with its head, started when it is whole and all earlier ones of its
connection are answered, and finished with the last byte of its answer. Exactly one of `parked`,
`stream`, `task` or `cycle` is set while it waits; none costs a task while parked.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Collection
from typing import TYPE_CHECKING, cast

from callboard.serve.asgi import Cycle
from callboard.serve.core import refusal
from callboard.serve.detached import dismiss, take_over
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
from callboard.serve.limits import Limits
from callboard.serve.streams import StreamWriter
from callboard.serve.wire import decode_query

if TYPE_CHECKING:
    from callboard.serve.connection import Connection

log = logging.getLogger(__name__)
INTERNAL_ERROR = "internal server error"


class Exchange:
    """See the module."""

    __slots__ = (
        "begun",
        "body",
        "complete",
        "connection",
        "cycle",
        "done",
        "expects_continue",
        "headers",
        "http_1_0",
        "keep_alive",
        "method",
        "parked",
        "path",
        "query",
        "raw_body_bytes",
        "raw_path",
        "refusal",
        "request",
        "route",
        "size",
        "started",
        "stream",
        "task",
    )

    def __init__(self, connection: Connection, method: str, headers: dict[str, str]) -> None:
        self.connection = connection
        self.method = method
        self.headers = headers
        self.raw_path = b""
        self.path = ""
        self.query = b""
        self.route: Route | None = None
        self.body = b""
        self.raw_body_bytes = 0
        self.size = 0
        """Of head and body in bytes, once complete: what it costs to let it wait."""
        self.keep_alive = True
        self.http_1_0 = False
        self.expects_continue = False
        self.complete = False
        self.started = False
        self.done = False
        self.begun = 0.0
        self.refusal: Answer | None = None
        self.request: Request | None = None
        self.parked: Parked | None = None
        self.stream: StreamWriter | None = None
        self.task: asyncio.Task[None] | None = None
        self.cycle: Cycle | None = None

    @property
    def waits(self) -> bool:
        """Whether it waits for more than its own work, so that it ends when the client goes."""
        return (
            self.parked is not None
            or self.stream is not None
            or (self.cycle is not None and self.cycle.listening)
        )

    def start(self) -> None:
        """Handle the request; it may be answered within this call."""
        self.started = True
        core = self.connection.core
        if self.refusal is not None:
            if self.route is not None:  # its answers have headers in common, this one too
                self.as_request()
            self.deliver(self.refusal)
        elif self.route is not None and core.fast_lane:
            try:
                outcome = self.route.handler(self.as_request())
            except Exception:
                log.exception("handler failed", extra={"path": self.path})
                outcome = refusal(500, INTERNAL_ERROR)
            self._settle(outcome)
        else:
            self.cycle = Cycle(self)
            self.task = core.spawn(self.cycle.run(core.app))

    def as_request(self) -> Request:
        """The request as handlers see it."""
        connection = self.connection
        self.request = Request(
            self.method,
            self.path,
            self.raw_path,
            decode_query(self.query),
            self.headers,
            self.body,
            connection.peer,
            connection.shown.peer if connection.shown is not None else None,
            self.query,
        )
        return self.request

    def deliver(self, answer: Answer) -> None:
        """Write the answer, unless the client has gone meanwhile."""
        self.parked = None
        if self.done:
            return
        finish = self.route.finish if self.route is not None else None
        if finish is not None and self.request is not None:
            finished = finish(self.request, answer)
            if not isinstance(finished, Answer):
                self.task = self.connection.core.spawn(self._finish_later(finished))
                return
            answer = finished
        self.connection.answer(self, answer)

    def gone(self) -> None:
        """The client has gone: whatever waits for it is cancelled at once."""
        self.done = True
        parked, self.parked = self.parked, None
        if parked is not None:
            parked.cancel()
        if self.stream is not None:
            self.stream.gone()
        if self.cycle is not None:
            self.cycle.gone()

    @property
    def _unwanted(self) -> bool:
        connection = self.connection
        return self.done or connection.core.stopping or connection.half_closed

    def _settle(self, outcome: Outcome) -> None:
        if type(outcome) is Answer:
            self.deliver(outcome)
        elif type(outcome) is Streamed:
            self._start_stream(outcome)
        elif type(outcome) is Detach:
            self.detach(outcome.head, outcome)
        elif hasattr(outcome, "__await__"):
            awaitable = cast("Awaitable[Settled]", outcome)
            self.task = self.connection.core.spawn(self._settle_later(awaitable))
        else:
            parked = cast("Parked", outcome)
            if self._unwanted:
                parked.cancel()
                self.connection.transport.close()
                return
            self.parked = parked
            parked.start(self.deliver)

    async def _settle_later(self, awaitable: Awaitable[Settled]) -> None:
        try:
            settled: Outcome = await awaitable
        except Exception:
            log.exception("handler failed", extra={"path": self.path})
            settled = refusal(500, INTERNAL_ERROR)
        self.task = None
        self._settle(settled)

    async def _finish_later(self, finished: Awaitable[Answer]) -> None:
        try:
            answer = await finished
        except Exception:
            log.exception("finishing an answer failed", extra={"path": self.path})
            answer = refusal(500, INTERNAL_ERROR)
        self.task = None
        if not self.done:
            self.connection.answer(self, answer)

    def detach(self, head: Answer, detach: Detach) -> None:
        """Write a head, and give the connection to a sink (unless there is nothing to give)."""
        connection = self.connection
        if self._unwanted or connection.transport.is_closing():
            self.done = True
            dismiss(detach.sink)
            connection.transport.close()
        elif self.method == "HEAD" or head.status in (204, 304):
            connection.write_head(self, head, None)
            dismiss(detach.sink)
            connection.finished(self, head.status)
        else:
            take_over(self, head, detach)

    def _start_stream(self, streamed: Streamed) -> None:
        if self._unwanted:
            streamed.stream.cancel()
            self.connection.transport.close()
            return
        self.stream = StreamWriter(self, streamed)
        self.stream.start()


def far_ahead(queue: Collection[Exchange], limits: Limits) -> bool:
    """Whether the requests that wait their turn on a connection are many or large."""
    if len(queue) < 2:
        return False
    size = sum(exchange.size for exchange in queue if not exchange.started)
    return len(queue) > limits.pipeline_max or size > limits.pipeline_bytes_max
