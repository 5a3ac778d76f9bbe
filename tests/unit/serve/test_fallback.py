"""A detaching handler under middleware, and under servers that cannot detach."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

import httpx
import pytest
import uvicorn
from fastapi import FastAPI, Request, Response
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from tests.harness.eventually import eventually
from tests.harness.plain_asgi import plain_asgi
from tests.harness.raw_http import connect, request_bytes
from tests.unit.serve.conftest import RecordingSink

from callboard.serve import Answer, Detach, Detached, Server
from callboard.serve.core import Asgi
from callboard.serve.fallback import Detaching
from callboard.serve.wire import LAST_CHUNK, chunk

ORIGIN = "https://page.example"
KINDS = ("text/event-stream", "application/x-ndjson")


@dataclass
class App:
    """An application with much middleware and one stream."""

    sinks: list[RecordingSink] = field(default_factory=list)
    kind: str = KINDS[0]
    broken: bool = False

    def build(self) -> FastAPI:
        app = FastAPI()

        @app.get("/stream")
        async def stream() -> Response:
            self.sinks.append(RecordingSink())
            return Detaching(Detach(Answer(200, b"first", [], self.kind), self.sinks[-1]))

        @app.middleware("http")
        async def mark(
            request: Request, call_next: Callable[[Request], Awaitable[Response]]
        ) -> Response:
            response = await call_next(request)
            if self.broken:
                raise LookupError("a mistake of ours")
            response.headers["X-Marked"] = "yes"
            return response

        app.add_middleware(GZipMiddleware, minimum_size=0)
        app.add_middleware(CORSMiddleware, allow_origins=[ORIGIN])
        return app


@asynccontextmanager
async def under_serve(app: App, *, detach: bool) -> AsyncIterator[Server]:
    built = cast(Asgi, app.build())
    server = Server(built if detach else plain_asgi(built))
    await server.start()
    try:
        yield server
    finally:
        await server.stop(drain_s=1.0)


@asynccontextmanager
async def under_uvicorn(app: App) -> AsyncIterator[uvicorn.Server]:
    config = uvicorn.Config(
        app.build(), port=0, http="httptools", ws="none", lifespan="off", log_config=None
    )
    server = uvicorn.Server(config)
    serving = asyncio.ensure_future(server.serve())
    try:
        await eventually(lambda: server.started)
        yield server
    finally:
        server.should_exit = True
        await asyncio.wait_for(serving, 10.0)


def port_of(server: uvicorn.Server) -> int:
    return int(server.servers[0].sockets[0].getsockname()[1])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("detach", [True, False], ids=["detached", "streamed"])
async def test_head_is_as_middleware_has_made_it(kind: str, detach: bool) -> None:
    app = App(kind=kind)
    headers = {"Origin": ORIGIN, "Accept-Encoding": "gzip" if detach else "identity"}
    async with under_serve(app, detach=detach) as server, connect(server.port) as client:
        await client.send(request_bytes("GET", "/stream", headers=headers))
        head = await asyncio.wait_for(client.reader.readuntil(b"\r\n\r\n"), 10.0)
        assert b"X-Marked: yes\r\n" in head
        assert b"Access-Control-Allow-Origin: %b\r\n" % ORIGIN.encode() in head
        assert b"Content-Encoding" not in head
        assert b"Detaches" not in head
        await eventually(lambda: app.sinks[0].connection)
        app.sinks[0].write(b"second")
        assert await client.chunk() + await client.chunk() == b"firstsecond"
        core = server._core
        assert core is not None
        await eventually(lambda: bool(core.tasks) is not detach)
        app.sinks[0].at.close()
        await asyncio.wait_for(client.reader.readuntil(LAST_CHUNK), 10.0)
        await eventually(lambda: app.sinks[0].told == ["start", "gone"])


async def test_middleware_that_keeps_the_head_until_there_is_a_body_lets_it_go() -> None:
    sink, app = RecordingSink(), FastAPI()

    @app.get("/stream")
    async def stream() -> Response:
        return Detaching(Detach(Answer(200, b"first", [], KINDS[1]), sink))

    app.add_middleware(GZipMiddleware, minimum_size=0)
    server = Server(cast(Asgi, app))
    await server.start()
    try:
        async with connect(server.port) as client:
            asked = request_bytes("GET", "/stream", headers={"Accept-Encoding": "gzip"})
            await client.send(asked)
            head = await asyncio.wait_for(client.reader.readuntil(b"\r\n\r\n"), 10.0)
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
            assert await client.chunk() == b"first"
    finally:
        await server.stop(drain_s=1.0)


@pytest.mark.parametrize("detach", [True, False], ids=["detached", "streamed"])
async def test_middleware_that_fails_gets_its_500_and_the_sink_is_told(detach: bool) -> None:
    app = App(broken=True)
    async with under_serve(app, detach=detach) as server, connect(server.port) as client:
        assert (await client.request("GET", "/stream")).status == 500
        await eventually(lambda: app.sinks[0].told[-1] == "gone")
        assert app.sinks[0].told.count("gone") == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_uvicorn_streams_what_the_sink_writes_until_it_closes(kind: str) -> None:
    app = App(kind=kind)
    async with under_uvicorn(app) as server, connect(port_of(server)) as client:
        await client.send(request_bytes("GET", "/stream"))
        await asyncio.wait_for(client.reader.readuntil(b"\r\n\r\n"), 10.0)
        assert await client.chunk() == b"first"
        sink = app.sinks[0]
        sink.write(b"second")
        assert await client.chunk() == b"second"
        sink.at.close(b"last")
        assert await client.reader.readuntil(LAST_CHUNK) == chunk(b"last") + LAST_CHUNK
        await eventually(lambda: sink.told == ["start", "gone"])


async def test_sink_under_uvicorn_is_told_that_its_client_is_behind_and_then_gone() -> None:
    app = App()
    async with under_uvicorn(app) as server:
        async with connect(port_of(server)) as client:
            await client.send(request_bytes("GET", "/stream"))
            await eventually(lambda: app.sinks and app.sinks[0].connection)
            sink, written = app.sinks[0], 0

            def fill() -> bool:
                nonlocal written
                written += 65_536
                sink.write(bytes(65_536))
                return "behind" in sink.told and sink.at.waiting_bytes() > 65_536

            await eventually(fill, interval_s=0.001)
            await asyncio.wait_for(client.reader.readuntil(b"\r\n\r\n"), 10.0)
            got = 0
            while got < written + len(b"first"):
                got += len(await client.chunk())
            await eventually(lambda: sink.told[-1] == "drained")
            assert sink.at.acknowledged_bytes() == got
        await eventually(lambda: sink.told[-1] == "gone")


async def test_sink_under_uvicorn_is_rid_of_a_client_that_takes_nothing() -> None:
    app = App()
    async with under_uvicorn(app) as server, connect(port_of(server)) as client:
        await client.send(request_bytes("GET", "/stream"))
        await eventually(lambda: app.sinks and app.sinks[0].connection)
        sink = app.sinks[0]

        def fill() -> bool:
            sink.write(bytes(65_536))
            return "behind" in sink.told and sink.at.waiting_bytes() > 1 << 20

        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await eventually(fill, interval_s=0.001)
        sink.at.abort()
        await eventually(lambda: sink.told == ["start", "behind", "gone"])


@pytest.mark.parametrize("kind", KINDS)
async def test_stream_says_good_bye_when_uvicorn_stops(kind: str) -> None:
    app = App(kind=kind)
    async with under_uvicorn(app) as server, connect(port_of(server)) as client:
        await client.send(request_bytes("GET", "/stream"))
        await eventually(lambda: app.sinks and app.sinks[0].connection)
        server.should_exit = True
        assert (await client.closed()).endswith(chunk(b"bye") + LAST_CHUNK)
        await eventually(lambda: app.sinks[0].told == ["start", "stopping", "gone"])


async def test_server_that_starts_after_another_has_stopped_streams() -> None:
    app = App()
    for _ in range(2):
        async with under_uvicorn(app) as server, connect(port_of(server)) as client:
            await client.send(request_bytes("GET", "/stream"))
            await asyncio.wait_for(client.reader.readuntil(chunk(b"first")), 10.0)
            assert app.sinks[-1].told == ["start"]
            server.should_exit = True
            assert (await client.closed()).endswith(LAST_CHUNK)
    assert [sink.told[:2] for sink in app.sinks] == [["start", "stopping"]] * 2


async def test_client_that_calls_the_application_gets_what_a_sink_wrote() -> None:
    class Greeting(RecordingSink):
        def start(self, connection: Detached) -> None:
            connection.write(b"second")
            connection.close(b"last")

    app = FastAPI()

    @app.get("/stream")
    async def stream() -> Response:
        return Detaching(Detach(Answer(200, b"first", [], KINDS[0]), Greeting()))

    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://hub") as client:
        assert (await client.get("/stream")).content == b"firstsecondlast"
        assert (await client.head("/stream")).status_code == 405
