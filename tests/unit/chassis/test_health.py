"""The health listener: what it answers, and what it does not fall for."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator

import pytest
from tests.harness.eventually import eventually

from callboard.chassis import health
from callboard.chassis.health import HealthServer
from callboard.chassis.metrics import Metrics


@pytest.fixture
async def server() -> AsyncIterator[HealthServer]:
    serving = HealthServer("127.0.0.1", 0, Metrics())
    await serving.start()
    yield serving
    await serving.stop()


async def sent(server: HealthServer, request: bytes) -> bytes:
    """Everything the server says to these bytes, until it hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(request)
    async with asyncio.timeout(5):
        answer = await reader.read()
    writer.close()
    return answer


async def got(server: HealthServer, path: str, method: str = "GET") -> tuple[int, bytes]:
    answer = await sent(server, f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), body


async def test_livez_is_ok_while_the_loop_runs(server: HealthServer) -> None:
    assert await got(server, "/livez") == (200, b"ok\n")


async def test_readyz_is_ok_when_every_check_is(server: HealthServer) -> None:
    server.ready_when("raft", lambda: None)
    assert await got(server, "/readyz") == (200, b"ok\n")


async def test_readyz_says_more_when_there_is_more_to_say(server: HealthServer) -> None:
    server.remark("catalog", lambda: "7 s old")
    server.remark("quiet", lambda: None)
    assert await got(server, "/readyz") == (200, b"ok\ncatalog: 7 s old\n")


async def test_readyz_names_what_is_missing(server: HealthServer) -> None:
    server.ready_when("raft", lambda: "no leader")
    server.ready_when("dns", lambda: None)
    server.ready_when("feed", lambda: "copy is 90 s old")
    assert await got(server, "/readyz") == (503, b"raft: no leader\nfeed: copy is 90 s old\n")


async def test_a_check_that_raises_is_not_ready(server: HealthServer) -> None:
    def broken() -> str | None:
        raise RuntimeError("broken")

    server.ready_when("raft", broken)
    assert await got(server, "/readyz") == (503, b"raft: RuntimeError: broken\n")


async def test_metrics_are_shown(server: HealthServer) -> None:
    status, body = await got(server, "/metrics")
    assert status == 200
    assert b"process_resident_memory_bytes" in body


async def test_a_program_adds_pages(server: HealthServer) -> None:
    server.page("/v1/dns/status", lambda: {"index": 7})
    status, body = await got(server, "/v1/dns/status?pretty")
    assert (status, json.loads(body)) == (200, {"index": 7})


async def test_a_page_that_raises_is_500(server: HealthServer) -> None:
    server.page("/v1/broken", lambda: 1 // 0)
    assert await got(server, "/v1/broken") == (500, b"internal error\n")


async def test_head_has_no_body(server: HealthServer) -> None:
    assert await got(server, "/livez", "HEAD") == (200, b"")


async def test_other_paths_and_methods_are_refused(server: HealthServer) -> None:
    assert (await got(server, "/"))[0] == 404
    assert (await got(server, "/livez", "POST"))[0] == 405


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        b"\r\n\r\n",
        b"GET /livez\r\n\r\n",
        b"GET /livez HTTP/2\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET  /livez  HTTP/1.1\r\n\r\n",
    ],
)
async def test_what_is_no_request_is_400(server: HealthServer, request_bytes: bytes) -> None:
    assert (await sent(server, request_bytes)).startswith(b"HTTP/1.1 400 ")
    assert await got(server, "/livez") == (200, b"ok\n")


async def test_a_head_without_end_is_refused(server: HealthServer) -> None:
    flood = b"GET /livez HTTP/1.1\r\nX: " + b"a" * (3 * health.HEAD_BYTES_MAX)
    try:
        answer = await sent(server, flood)
    except ConnectionResetError:
        answer = b"HTTP/1.1 431 "  # it hung up while we were still sending
    assert answer.startswith(b"HTTP/1.1 431 ")


async def test_a_head_that_trickles_ends_at_the_timeout(
    server: HealthServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "HEAD_TIMEOUT_S", 0.05)
    assert await sent(server, b"GET /livez HTTP/1.1\r\nHost:") == b""


async def test_the_number_of_connections_is_bounded(server: HealthServer) -> None:
    held = [
        await asyncio.open_connection("127.0.0.1", server.port)
        for _ in range(health.CONNECTIONS_MAX)
    ]
    await eventually(lambda: len(server._connections) == health.CONNECTIONS_MAX)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await reader.readexactly(1)
    writer.close()
    for _, held_writer in held:
        held_writer.close()
    await eventually(lambda: not server._connections)
    assert await got(server, "/livez") == (200, b"ok\n")


async def test_stop_hangs_up_on_idle_connections(server: HealthServer) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    await eventually(lambda: server._connections)
    await server.stop()
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await reader.readexactly(1)
    writer.close()


async def test_a_taken_address_is_an_error(server: HealthServer) -> None:
    with pytest.raises(OSError, match="address already in use"):
        await HealthServer("127.0.0.1", server.port).start()


@pytest.mark.parametrize("seed", range(30))
async def test_garbage_never_keeps_it_from_answering(server: HealthServer, seed: int) -> None:
    garbage = random.Random(seed).randbytes(seed * 7) + b"\r\n\r\n"
    answer = await sent(server, garbage)
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 405 "))
