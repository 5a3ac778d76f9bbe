"""What a client's certificate says reaches handlers; connections end when it ceases to count."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.harness.certified import CA, material
from tests.harness.eventually import eventually
from tests.harness.raw_http import RawClient, request_bytes
from tests.unit.serve.conftest import ParkedWait, starlette_app

from callboard.pki.accepting import HANDSHAKES_MAX
from callboard.pki.contexts import Material, client_context, server_context
from callboard.pki.reasons import explain
from callboard.pki.roles import Peer, names_for
from callboard.serve import Answer, Outcome, Request, Route, RouteTable, Server, peers
from callboard.serve.core import Message

HUB = names_for("hub", "hub-1")


@dataclass
class Tls:
    """Files of a server and of a client of one CA, and contexts of both."""

    server: Material
    client: Material

    def context(self) -> ssl.SSLContext:
        """The client's."""
        return client_context(self.client)


@pytest.fixture
def tls(tmp_path: Path) -> Tls:
    """The hub as client of an agent."""
    authority = CA()
    return Tls(
        material(tmp_path / "agent", authority.leaf(), authority),
        material(tmp_path / "hub", authority.leaf(HUB), authority),
    )


@dataclass
class Served:
    """A running server and what it was asked."""

    server: Server
    requests: list[Request]
    parked: list[ParkedWait]


@asynccontextmanager
async def serving(tls: Tls, **settings: Any) -> AsyncIterator[Served]:
    requests: list[Request] = []
    parked: list[ParkedWait] = []

    def handler(request: Request) -> Outcome:
        requests.append(request)
        if request.path == "/park":
            parked.append(ParkedWait())
            return parked[-1]
        return Answer(200, b"ok")

    table = RouteTable(Route(handler))
    context = server_context(tls.server, client=ssl.CERT_REQUIRED)
    app = settings.pop("app", starlette_app(table))
    server = Server(app, handlers=table, ssl_context=context, trust="dc1.consul", **settings)
    await server.start()
    try:
        yield Served(server, requests, parked)
    finally:
        await server.stop(drain_s=1.0)


async def connect(port: int, context: ssl.SSLContext) -> RawClient:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname="server.dc1.consul"
    )
    return RawClient(reader, writer)


async def test_request_says_who_asks(tls: Tls) -> None:
    async with serving(tls) as served:
        client = await connect(served.server.port, tls.context())
        assert (await client.request("GET", "/")).status == 200
        peer = served.requests[0].peer
        assert peer is not None
        assert peer == Peer(frozenset({"hub"}), "hub-1")


async def test_application_is_told_who_asks(tls: Tls) -> None:
    scopes: list[Message] = []

    async def app(scope: Message, receive: Any, send: Any) -> None:
        scopes.append(scope)
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async with serving(tls, app=app, fast_lane=False) as served:
        client = await connect(served.server.port, tls.context())
        assert (await client.request("GET", "/")).status == 204
        assert scopes[0]["extensions"]["callboard"]["peer"].roles == {"hub"}


async def test_client_without_a_certificate_is_told_so_counted_and_logged(
    tls: Tls, caplog: pytest.LogCaptureFixture
) -> None:
    bare = ssl.create_default_context(cafile=str(tls.server.authorities))
    async with serving(tls) as served:
        with caplog.at_level("INFO"), pytest.raises((ssl.SSLError, ConnectionError)) as caught:
            client = await connect(served.server.port, bare)
            await client.request("GET", "/")
        assert "wants a certificate of us" in explain(caught.value)
        await eventually(lambda: served.server.handshakes_failed == 1)
        assert served.requests == []
        reasons = [getattr(record, "reason", "") for record in caplog.records]
        assert "it showed no certificate" in reasons


async def test_many_failing_clients_write_few_lines(
    tls: Tls, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tls) as served:
        with caplog.at_level("INFO"):
            for _ in range(20):
                reader, writer = await asyncio.open_connection("127.0.0.1", served.server.port)
                writer.write(b"GET / HTTP/1.0\r\n\r\n")
                await reader.read()
                writer.close()
            await eventually(lambda: served.server.handshakes_failed == 20)
        assert len([one for one in caplog.records if one.message == "connection failed"]) == 1


async def test_silent_clients_that_come_all_at_once_hold_few_slots_and_are_counted_off(
    tls: Tls,
) -> None:
    async with serving(tls) as served:
        port = served.server.port
        silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(3 * HANDSHAKES_MAX)]
        try:
            await eventually(lambda: served.server.handshakes_failed == 2 * HANDSHAKES_MAX)
            client = await connect(port, tls.context())
            assert (await client.request("GET", "/")).status == 200
        finally:
            for one in silent:
                one.close()
        client.writer.close()
        await eventually(lambda: not served.server._clients)


async def test_parked_request_of_a_client_that_is_judged_anew_is_cut(tls: Tls) -> None:
    async with serving(tls) as served:
        client = await connect(served.server.port, tls.context())
        await client.send(request_bytes("GET", "/park"))
        await eventually(lambda: served.parked)
        served.server.judge(lambda der: None)
        await client.send(request_bytes("GET", "/"))
        assert not served.parked[0].cancelled
        served.server.judge(lambda der: "revoked")
        await eventually(lambda: served.parked[0].cancelled)
        assert served.server.cut == 1


async def test_old_connection_ends_with_its_next_answer(
    tls: Tls, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(tls) as served:
        client = await connect(served.server.port, tls.context())
        assert ("Connection", "close") not in (await client.request("GET", "/")).headers
        monkeypatch.setattr(peers, "CONNECTION_AGE_MAX_S", -1.0)
        answer = await client.request("GET", "/")
        assert answer.status == 200
        assert ("Connection", "close") in answer.headers
