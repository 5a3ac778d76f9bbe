"""A server with a few handlers, in both lanes: fast, and through Starlette."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

import pytest
import uvloop
from starlette.applications import Starlette
from starlette.routing import Route as StarletteRoute
from tests.harness.plain_asgi import plain_asgi

from callboard.serve import (
    Answer,
    Detach,
    Detached,
    Limits,
    Outcome,
    Request,
    Route,
    RouteTable,
    Server,
    StreamConnection,
    Streamed,
)
from callboard.serve.adapter import endpoint
from callboard.serve.core import Asgi
from callboard.serve.wire import chunk

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.SelectorEventLoop,
    "uvloop": uvloop.new_event_loop,
}
ON_BOTH_LOOPS = ("test_detached.py", "test_slow_tls_readers.py", "test_switching.py")
"""Transports of the two differ in what they tell their protocol, and when."""


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Which loops a test runs on."""
    return LOOPS if item.path.name in ON_BOTH_LOOPS else {"asyncio": LOOPS["asyncio"]}


@dataclass
class ParkedWait:
    """A parked request that a test releases."""

    delivered: Callable[[Answer], None] | None = None
    cancelled: bool = False

    def start(self, deliver: Callable[[Answer], None]) -> None:
        self.delivered = deliver

    def cancel(self) -> None:
        self.cancelled = True

    def release(self, body: bytes) -> None:
        assert self.delivered is not None
        self.delivered(Answer(200, body))


@dataclass
class RecordingStream:
    """A stream that a test writes to."""

    connection: StreamConnection | None = None
    cancelled: bool = False

    def start(self, connection: StreamConnection) -> None:
        self.connection = connection

    def cancel(self) -> None:
        self.cancelled = True


@dataclass
class RecordingSink:
    """The sink of a detached connection that a test writes to."""

    connection: Detached | None = None
    told: list[str] = field(default_factory=list)
    good_bye: bytes | None = b"bye"
    """Said when the server stops; None: it goes on."""
    fails: str = ""
    """The call that raises."""

    @property
    def at(self) -> Detached:
        assert self.connection is not None
        return self.connection

    def start(self, connection: Detached) -> None:
        self.connection = connection
        self._tell("start")

    def behind(self) -> None:
        self._tell("behind")

    def drained(self) -> None:
        self._tell("drained")

    def gone(self) -> None:
        self._tell("gone")

    def stopping(self) -> None:
        self._tell("stopping")
        if self.good_bye is not None:
            self.at.close(self.framed(self.good_bye))

    def framed(self, data: bytes) -> bytes:
        return chunk(data) if self.at.chunked else data

    def write(self, data: bytes) -> None:
        self.at.write(self.framed(data))

    def _tell(self, what: str) -> None:
        self.told.append(what)
        if what == self.fails:
            raise LookupError("a mistake of ours")


@dataclass
class Site:
    """A running server and what its handlers saw."""

    server: Server
    requests: list[Request] = field(default_factory=list)
    parked: list[ParkedWait] = field(default_factory=list)
    streams: list[RecordingStream] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    sinks: list[RecordingSink] = field(default_factory=list)
    next_sink: RecordingSink | None = None
    observed: list[tuple[str, str, int]] = field(default_factory=list)

    @property
    def port(self) -> int:
        return self.server.port

    def echo(self, request: Request) -> Outcome:
        self.requests.append(request)
        return Answer(
            200,
            request.body or request.path.encode(),
            [("X-Seen-Method", request.method)],
            "text/plain",
        )

    def park(self, request: Request) -> Outcome:
        self.parked.append(ParkedWait())
        return self.parked[-1]

    def stream(self, request: Request) -> Outcome:
        self.streams.append(RecordingStream())
        head = Answer(200, b"", [("Cache-Control", "no-store")], "text/event-stream")
        return Streamed(head, self.streams[-1], high_water_bytes=65536, cut_bytes=4 << 20)

    def detach(self, request: Request) -> Outcome:
        sink, self.next_sink = self.next_sink or RecordingSink(), None
        self.sinks.append(sink)
        status = int(request.query.get("status", ["200"])[0])
        body = bytes(int(request.query.get("size", ["0"])[0]))
        head = Answer(status, body, [("Cache-Control", "no-store")], "text/event-stream")
        return Detach(head, sink)

    def large(self, request: Request) -> Outcome:
        return Answer(200, bytes(int(request.query["size"][0])))

    def broken(self, request: Request) -> Outcome:
        raise LookupError("a mistake of ours")

    async def slow(self, request: Request) -> Answer:
        self.requests.append(request)
        await self.gate.wait()
        return Answer(200, b"slow")

    def header(self, request: Request) -> Outcome:
        return Answer(200, b"", [("X-Value", request.query["value"][0])])


Serve = Callable[..., AbstractAsyncContextManager[Site]]


@pytest.fixture(params=[True, False], ids=["fast-lane", "asgi"])
def serve(request: pytest.FixtureRequest) -> Serve:
    """`async with serve(limits=…) as site`: the same site in either lane."""
    return lambda limits=None: serving(limits, fast_lane=request.param)


@pytest.fixture
def serve_fast() -> Serve:
    """The site in the fast lane only."""
    return lambda limits=None: serving(limits, fast_lane=True)


@asynccontextmanager
async def serving(
    limits: Limits | None,
    *,
    fast_lane: bool,
    detach: bool = True,
    ssl_context: ssl.SSLContext | None = None,
) -> AsyncIterator[Site]:
    """A site, started and stopped. `detach=False`: its application finds no way to."""
    table = RouteTable()
    observed: list[tuple[str, str, int]] = []

    def observe(method: str, pattern: str, status: int, seconds: float) -> None:
        observed.append((method, pattern, status))

    app = starlette_app(table)
    server = Server(
        app if detach else plain_asgi(app),
        handlers=table,
        limits=limits,
        fast_lane=fast_lane,
        ssl_context=ssl_context,
        trust="dc1.consul",
        observe=observe,
    )
    site = Site(server, observed=observed)
    for pattern, handler in (
        ("/echo", site.echo),
        ("/below/", site.echo),
        ("/park", site.park),
        ("/stream", site.stream),
        ("/detach", site.detach),
        ("/large", site.large),
        ("/broken", site.broken),
        ("/slow", site.slow),
        ("/header", site.header),
    ):
        table.add(Route(handler, pattern=pattern, body_bytes_max=512 * 1024))
    await server.start()
    try:
        yield site
    finally:
        site.gate.set()
        await server.stop(drain_s=1.0)


def starlette_app(table: RouteTable) -> Asgi:
    """An application whose routes are the table's, mounted at the first request."""
    mounted: list[Starlette] = []

    async def app(scope, receive, send):  # type: ignore[no-untyped-def]
        if not mounted:
            routes = [
                StarletteRoute(
                    f"{route.pattern}{{rest:path}}"
                    if route.pattern.endswith("/")
                    else route.pattern,
                    endpoint(route),
                    methods=["GET", "PUT", "POST", "HEAD", "OPTIONS", "DELETE"],
                )
                for route in table
            ]
            mounted.append(Starlette(routes=routes))
        await mounted[0](scope, receive, send)

    return app
