"""A client agent forwards what is replicated, and answers itself what is its own."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from tests.harness.api import ApiSite, api_site
from tests.harness.eventually import eventually
from tests.harness.raw_http import RawClient, connect, request_bytes

from callboard.agent.http.forward import Forwarder
from callboard.agent.rpc.errors import RpcFailed, RpcUnreachable
from callboard.agent.settings import HttpSettings
from callboard.serve import Request


class DirectCalls:
    """The rpc channel, without a network: calls a server's handler in the same process."""

    def __init__(self, server: ApiSite) -> None:
        self.server = server
        self.addresses: list[str] = ["server:8300"]
        self.failure: Exception | None = None
        self.calls: list[tuple[str, float]] = []

    def servers(self) -> Sequence[str]:
        return self.addresses

    async def call(self, address: str, method: str, body: bytes, timeout_s: float) -> bytes:
        assert method == "http"
        self.calls.append((address, timeout_s))
        if self.failure is not None:
            raise self.failure
        if address == "dead:8300":
            raise RpcUnreachable("dead:8300 does not answer", sent=False)
        return await self.server.api.serve_forwarded(body)


@asynccontextmanager
async def client_agent() -> AsyncIterator[tuple[ApiSite, ApiSite, DirectCalls, RawClient]]:
    """A server agent, a client agent in front of it, and a connection to the latter."""
    async with api_site() as server:
        calls = DirectCalls(server)
        async with (
            api_site(forwarding=calls, node_name="agent-4", server=False) as client,
            connect(client.port) as connection,
        ):
            yield server, client, calls, connection


async def test_write_and_read_go_to_the_server() -> None:
    async with client_agent() as (server, client, _, connection):
        assert (await connection.request("PUT", "/v1/kv/a%20b?flags=3", b"x")).json is True
        answer = await connection.request("GET", "/v1/kv/a%20b?raw")
        assert answer.body == b"x" and answer.header("X-Consul-Index") == "1"
        assert answer.header("Content-Security-Policy") == "sandbox"
        assert server.store.key("a b") is not None and client.store.key("a b") is None


async def test_agents_own_endpoints_are_not_forwarded() -> None:
    async with client_agent() as (_, _, calls, connection):
        document = (await connection.request("GET", "/v1/agent/self")).json
        assert isinstance(document, dict) and document["Config"]["NodeName"] == "agent-4"
        assert document["Config"]["Server"] is False
        assert not calls.calls


async def test_errors_come_through_as_they_are() -> None:
    async with client_agent() as (server, _, _, connection):
        answer = await connection.request("GET", "/v1/kv/a?index=x")
        assert (answer.status, answer.text) == (400, "Invalid index")
        assert (await connection.request("POST", "/v1/kv/a")).status == 405
        server.engine.leader = None
        answer = await connection.request("GET", "/v1/catalog/nodes")
        assert (answer.status, answer.text) == (500, "No cluster leader")


async def test_client_agent_finishes_the_answer_once() -> None:
    async with client_agent() as (_, _, _, connection):
        answer = await connection.request(
            "GET", "/v1/catalog/datacenters?pretty", None, {"Accept-Encoding": "gzip"}
        )
        assert gzip.decompress(answer.body) == b'[\n    "dc1"\n]\n'
        assert [name for name, _ in answer.headers].count("Vary") == 1


async def test_blocking_query_is_forwarded_and_woken() -> None:
    async with client_agent() as (server, client, calls, connection):
        await connection.request("PUT", "/v1/kv/a", b"1")
        async with connect(client.port) as waiting:
            await waiting.send(request_bytes("GET", "/v1/kv/a?index=1&wait=1m"))
            await eventually(lambda: server.store.waiting() == 1)
            await connection.request("PUT", "/v1/kv/a", b"2")
            assert (await waiting.answer()).header("X-Consul-Index") == "2"
        assert any(timeout_s > 60 for _, timeout_s in calls.calls)


async def test_client_that_goes_frees_the_query_parked_at_the_server() -> None:
    async with client_agent() as (server, client, _, connection):
        await connection.request("PUT", "/v1/kv/a", b"1")
        async with connect(client.port) as waiting:
            await waiting.send(request_bytes("GET", "/v1/kv/a?index=1&wait=1m"))
            await eventually(lambda: server.store.waiting() == 1)
        await eventually(lambda: server.store.waiting() == 0, timeout_s=1.0)


async def test_dead_server_is_passed_over() -> None:
    async with client_agent() as (_, _, calls, connection):
        calls.addresses = ["dead:8300", "server:8300"]
        for _ in range(6):
            assert (await connection.request("GET", "/v1/kv/?keys")).status == 200


async def test_without_servers_a_request_is_held_and_then_refused() -> None:
    async with client_agent() as (_, _, calls, connection):
        calls.addresses = []
        answer = await connection.request("GET", "/v1/catalog/nodes")
        assert (answer.status, answer.text) == (500, "No known Consul servers")


async def test_server_found_while_held_answers() -> None:
    async with client_agent() as (_, _, calls, connection):
        calls.addresses = []
        asked = asyncio.ensure_future(connection.request("GET", "/v1/catalog/nodes"))
        await asyncio.sleep(0)
        calls.addresses = ["server:8300"]
        assert (await asked).status == 200


async def test_write_that_may_have_been_done_is_not_sent_twice() -> None:
    async with client_agent() as (_, _, calls, connection):
        calls.failure = RpcUnreachable("connection lost", sent=True)
        assert (await connection.request("PUT", "/v1/kv/a", b"x")).status == 500
        assert len(calls.calls) == 1


async def test_servers_failure_is_500_with_its_text() -> None:
    async with client_agent() as (_, _, calls, connection):
        calls.failure = RpcFailed("no such method")
        answer = await connection.request("GET", "/v1/catalog/nodes")
        assert (answer.status, answer.text) == (500, "no such method")


async def test_forwarded_request_to_an_agents_own_endpoint_is_refused() -> None:
    async with client_agent() as (server, client, calls, _):
        assert client.context.forwarding is calls
        request = Request("GET", "/v1/agent/self", b"", {}, {}, b"", ("127.0.0.1", 1))
        answer = await Forwarder(client.context, calls).answer(request)
        assert answer.status == 400
        assert server.port


async def test_guards_are_the_client_agents() -> None:
    async with client_agent() as (_, _, calls, connection):
        fields = {"Host": "evil.example"}
        assert (await connection.request("GET", "/v1/kv/a", None, fields)).status == 403
        assert not calls.calls


@pytest.mark.parametrize("wait", ["10m", "1h"])
async def test_timeout_of_a_call_covers_the_longest_wait(wait: str) -> None:
    async with client_agent() as (server, client, calls, _):
        async with connect(client.port) as waiting:
            await waiting.send(request_bytes("GET", f"/v1/kv/a?index=1&wait={wait}"))
            await eventually(lambda: server.store.waiting() == 1)
        assert calls.calls[0][1] > HttpSettings().max_query_time_s * 17 / 16
