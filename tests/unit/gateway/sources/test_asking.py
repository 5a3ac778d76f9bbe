"""Requests to a control port, and how they fail."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from tests.harness.certified import CA, material
from tests.harness.sockets import free_port

from callboard.gateway.sources.asking import ANSWER_BYTES_MAX, Asking, reason_in
from callboard.gateway.sources.instances import Instance
from callboard.gateway.sources.keeping import ControlError, Gone
from callboard.pki.contexts import client_context, server_context
from callboard.pki.roles import names_for


async def _echo(request: web.Request) -> web.Response:
    return web.Response(status=201, body=request.method.encode() + b" " + await request.read())


async def _large(request: web.Request) -> web.Response:
    return web.Response(body=bytes(ANSWER_BYTES_MAX + 1))


async def _hangs(request: web.Request) -> web.Response:
    await asyncio.Event().wait()
    raise AssertionError


async def _cuts(request: web.Request) -> web.Response:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


@asynccontextmanager
async def control(tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A real HTTP server; its port."""
    app = web.Application()
    app.router.add_route("*", "/echo", _echo)
    for path, handler in (("/large", _large), ("/hangs", _hangs), ("/cuts", _cuts)):
        app.router.add_get(path, handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@asynccontextmanager
async def asking(
    port: int, *, server_name: str = "", tls: ssl.SSLContext | None = None
) -> AsyncIterator[Asking]:
    instance = Instance("sidecar-1", "127.0.0.1", port, server_name)
    made = Asking(instance, tls=tls, answer_s=0.3)
    try:
        yield made
    finally:
        await made.close()


async def test_an_answer_has_a_status_and_a_body() -> None:
    async with control() as port, asking(port) as ask:
        assert await ask.request("PUT", "/echo", b"{}") == (201, b"PUT {}")
        assert await ask.request("GET", "/echo") == (201, b"GET ")
        status, body = await ask.request("GET", "/nothing")
        assert reason_in(status, body) == "404 404: Not Found"


async def test_where_nobody_listens_the_sidecar_is_gone() -> None:
    async with asking(free_port()) as ask:
        with pytest.raises(Gone):
            await ask.request("GET", "/echo")


async def test_a_connection_that_is_cut_means_that_it_is_gone() -> None:
    async with control() as port, asking(port) as ask:
        with pytest.raises(Gone):
            await ask.request("GET", "/cuts")


async def test_no_answer_in_time_is_an_error_that_may_pass() -> None:
    async with control() as port, asking(port) as ask:
        with pytest.raises(ControlError, match="in time") as failed:
            await ask.request("GET", "/hangs")
        assert not isinstance(failed.value, Gone)


async def test_an_answer_that_is_too_long_is_refused() -> None:
    async with control() as port, asking(port) as ask:
        with pytest.raises(ControlError, match="octets"):
            await ask.request("GET", "/large")


async def test_what_is_no_http_is_an_error() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"nonsense\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server, asking(server.sockets[0].getsockname()[1]) as ask:
        with pytest.raises(ControlError):
            await ask.request("GET", "/echo")


async def test_by_mutual_tls_the_sidecar_must_be_one(tmp_path: Path) -> None:
    authority = CA(constraints=None)

    def of(role: str) -> ssl.SSLContext:
        files = material(tmp_path / role, authority.leaf(names_for(role, "")), authority)
        return server_context(files, client=ssl.CERT_REQUIRED)

    own = material(tmp_path / "own", authority.leaf(names_for("gateway", "")), authority)
    name = "sidecar.service.dc1.consul"
    shown = client_context(own)
    async with (
        control(of("sidecar")) as port,
        asking(port, server_name=name, tls=shown) as ask,
    ):
        assert await ask.request("GET", "/echo") == (201, b"GET ")
        told: list[bytes] = []

        def refuse(certificate: bytes) -> str:
            told.append(certificate)
            return "it was revoked"

        ask.judge(refuse)
        assert len(told) == 1
        assert await ask.request("GET", "/echo") == (201, b"GET ")  # by a new connection
    async with control(of("hub")) as port, asking(port, server_name=name, tls=shown) as ask:
        with pytest.raises(ControlError, match=r"(?i)hostname"):
            await ask.request("GET", "/echo")
