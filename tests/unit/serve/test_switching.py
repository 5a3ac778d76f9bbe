"""Connections that become WebSockets are the server's until they end."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.harness.certified import CA, material
from tests.harness.eventually import eventually
from tests.harness.raw_http import RawClient, connect, request_bytes
from tests.unit.serve.conftest import starlette_app

from callboard.pki.contexts import client_context, server_context
from callboard.pki.roles import names_for
from callboard.serve import Answer, Limits, Route, RouteTable, Server

UPGRADE = request_bytes(
    "GET", "/echo", headers={"Connection": "keep-alive, Upgrade", "Upgrade": "websocket"}
)
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"


class Echo(asyncio.Protocol):
    """A protocol as uvicorn has them for WebSockets: it is given the request again, then bytes."""

    transport: asyncio.Transport
    fails = False
    lost = 0
    """Of all, how many were told that their connection is."""

    def __init__(self, config: Any, server_state: Any, app_state: dict[str, Any]) -> None:
        self.peer = app_state["peer"]
        self.asked = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if not self.asked:
            self.asked, data = data, SWITCHED
        self.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        Echo.lost += 1

    def shutdown(self) -> None:
        if self.fails:
            raise LookupError("a mistake of ours")
        self.transport.write(b"going away")
        self.transport.close()


@asynccontextmanager
async def serving(limits: Limits | None = None, **settings: Any) -> AsyncIterator[Server]:
    table = RouteTable(Route(lambda request: Answer(200, b"ok")))
    server = Server(starlette_app(table), handlers=table, limits=limits, **settings)
    await server.start()
    server._config.ws_protocol_class = Echo
    try:
        yield server
    finally:
        await server.stop(drain_s=1.0)


async def switch(client: RawClient, behind: bytes = b"") -> None:
    """Become a WebSocket."""
    await client.send(UPGRADE + behind)
    assert await client.reader.readexactly(len(SWITCHED)) == SWITCHED


async def test_bytes_behind_the_request_are_the_websockets() -> None:
    async with serving() as server, connect(server.port) as client:
        assert (await client.request("GET", "/")).body == b"ok"
        await switch(client, b"early")
        assert await client.reader.readexactly(5) == b"early"
        await client.send(b"late")
        assert await client.reader.readexactly(4) == b"late"


async def test_websocket_counts_for_the_limits_until_it_ends_and_is_told_so() -> None:
    limits, before = Limits(connections_per_client_max=1), Echo.lost
    async with serving(limits) as server:
        async with connect(server.port) as client:
            await switch(client)
            assert server.connections == 1
            async with connect(server.port) as refused:
                assert b" 429 " in await refused.closed()
        await eventually(lambda: server.connections == 0)
        await eventually(lambda: Echo.lost == before + 1)
        assert not server._clients
        async with connect(server.port) as client:
            assert (await client.request("GET", "/")).body == b"ok"


async def test_websocket_is_told_when_the_server_stops() -> None:
    async with serving() as server, connect(server.port) as client:
        await switch(client)
        await server.stop(drain_s=5.0)
        assert await client.closed() == b"going away"


async def test_websocket_that_fails_at_the_stop_is_cut(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Echo, "fails", True)
    async with serving() as server, connect(server.port) as client:
        await switch(client)
        await server.stop(drain_s=5.0)
        assert await client.closed() == b""
    assert "WebSocket failed" in caplog.messages


async def test_websocket_is_judged_until_it_ends(tmp_path: Path) -> None:
    authority = CA()
    end = material(tmp_path / "agent", authority.leaf(), authority)
    asking = client_context(
        material(tmp_path / "hub", authority.leaf(names_for("hub", "hub-1")), authority)
    )
    context = server_context(end, client=ssl.CERT_REQUIRED)
    async with serving(ssl_context=context, trust="dc1.consul") as server:
        clients = []
        for _ in range(2):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", server.port, ssl=asking, server_hostname="server.dc1.consul"
            )
            clients.append(RawClient(reader, writer))
            await switch(clients[-1])
        clients[0].writer.transport.abort()
        await eventually(lambda: server.connections == 1)
        server.judge(lambda der: None)
        assert server.cut == 0
        server.judge(lambda der: "revoked")
        assert server.cut == 1
        assert await clients[1].closed() == b""
        await eventually(lambda: server.connections == 0)
        clients[1].writer.transport.abort()
