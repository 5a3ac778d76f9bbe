"""Janus' API on the wire: HTTP long polls, WebSockets, who may come in."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator

import aiohttp
import pytest
from tests.harness.eventually import eventually
from tests.unit.gateway.janus.stand import BY, JanusStand, client, janus_standing

from callboard.chassis.guards import HostGuard
from callboard.chassis.lifecycle import Lifecycle, StartRefused
from callboard.gateway.janus.gate import Gate
from callboard.gateway.janus.listening import JanusListeners
from callboard.gateway.janus.long_polls import LongPolls
from callboard.gateway.janus.messages import BYTES_MAX
from callboard.gateway.janus.websockets import SUBPROTOCOL, UNREAD_MAX, WebSockets
from callboard.serve import Server

PAGE = "http://127.0.0.1:9000"
FOREIGN = "https://elsewhere.example"
CREATE = {"janus": "create", "transaction": "t"}


@pytest.fixture
async def stand() -> AsyncIterator[JanusStand]:
    async with janus_standing() as stand:
        yield stand


# ---------------------------------------------------------------------- HTTP


async def test_info_is_read_without_a_session(stand: JanusStand) -> None:
    async with stand.gateway.client.get(stand.http + "/info") as answer:
        info = await answer.json()
    assert info["janus"] == "server_info"
    assert "janus.plugin.streaming" in info["plugins"]


async def test_path_says_what_is_meant(stand: JanusStand) -> None:
    session = (await stand.post(CREATE))["data"]["id"]
    kept = {"janus": "keepalive", "transaction": "t", "session_id": session}
    assert (await stand.post(kept, f"/{session}"))["janus"] == "ack"
    assert (await stand.post(kept))["error"]["code"] == 457
    assert (await stand.post(kept, f"/{session}/5"))["error"]["code"] == 459
    assert (await stand.post(kept, f"/{session + 1}"))["error"]["code"] == 458


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "", 404, 457),
        ("GET", "/5", 404, 458),
        ("GET", "/5/6", 404, 457),
        ("GET", "/5?maxev=0", 400, 467),
        ("GET", "/5?maxev=x", 400, 467),
        ("GET", "/songs", 404, 457),
        ("POST", "/99999999999999999999", 404, 457),
        ("POST", "/9999999999999999999", 200, 467),
        ("POST", "", 200, 454),
        ("PUT", "", 405, 457),
        ("DELETE", "/5", 405, 457),
    ],
)
async def test_wrong_request_is_answered_in_json(
    stand: JanusStand, method: str, path: str, status: int, code: int
) -> None:
    data = b"{" if method == "POST" and not path else b'{"janus": "x", "transaction": "t"}'
    async with stand.gateway.client.request(method, stand.http + path, data=data) as answer:
        assert answer.status == status
        assert (await answer.json())["error"]["code"] == code


async def test_message_that_is_too_long_is_refused(stand: JanusStand) -> None:
    async with stand.gateway.client.post(stand.http, data=b"x" * (BYTES_MAX + 1)) as answer:
        assert answer.status == 413


async def test_poll_gives_one_event_or_a_list(stand: JanusStand) -> None:
    async with client(stand, "long polls") as speaking:
        for _ in range(3):
            await speaking.message("stop")
        url = f"{stand.http}/{speaking.session}"
        async with stand.gateway.client.get(url) as answer:
            assert (await answer.json())["janus"] == "event"
        async with stand.gateway.client.get(url + "?maxev=5&rid=1") as answer:
            assert [each["janus"] for each in await answer.json()] == ["event", "event"]


async def test_poll_waits_for_an_event(stand: JanusStand) -> None:
    async with client(stand, "long polls") as speaking:
        waiting = asyncio.create_task(speaking.until("event", "stopping"))
        await eventually(lambda: speaking.session in stand.janus.driver._pollers)
        await speaking.message("stop")
        assert (await waiting)["sender"] == speaking.handle


async def test_poll_without_events_is_answered_by_a_keepalive(stand: JanusStand) -> None:
    polls = LongPolls(stand.janus.driver, Gate(None), keepalive_s=0.05)
    server = Server(_unreached, handlers=polls.routes())
    await server.start()
    try:
        session = (await stand.post(CREATE))["data"]["id"]
        url = f"http://127.0.0.1:{server.port}/janus/{session}"
        async with stand.gateway.client.get(url) as answer:
            assert await answer.json() == {"janus": "keepalive"}
        async with stand.gateway.client.get(url + "?maxev=2") as answer:
            assert await answer.json() == [{"janus": "keepalive"}]
    finally:
        await server.stop(1.0)


async def _unreached(scope: object, receive: object, send: object) -> None:
    raise AssertionError("the routes answer every path")


async def test_second_poll_of_a_session_ends_the_first(stand: JanusStand) -> None:
    session = (await stand.post(CREATE))["data"]["id"]
    pollers = stand.janus.driver._pollers

    async def poll() -> object:
        async with stand.gateway.client.get(f"{stand.http}/{session}") as answer:
            return await answer.json()

    first = asyncio.create_task(poll())
    await eventually(lambda: session in pollers)
    second = asyncio.create_task(poll())
    assert await first == {"janus": "keepalive"}
    await stand.post({"janus": "destroy", "transaction": "t"}, f"/{session}")
    assert await second == {"janus": "keepalive"}
    assert not pollers


async def test_poll_whose_client_has_gone_waits_no_longer(stand: JanusStand) -> None:
    async with client(stand, "long polls") as speaking:
        pollers = stand.janus.driver._pollers
        polling = asyncio.create_task(speaking.wire.event())
        await eventually(lambda: speaking.session in pollers)
        polling.cancel()
        await asyncio.gather(polling, return_exceptions=True)
        await eventually(lambda: not pollers)
        await speaking.message("stop")
        assert (await speaking.until("event"))["sender"] == speaking.handle


# ---------------------------------------------------------------------- pages and names


async def test_page_of_the_same_host_may_call_from_any_port(stand: JanusStand) -> None:
    preflight = {"Origin": PAGE, "Access-Control-Request-Method": "POST"}
    async with stand.gateway.client.options(stand.http, headers=preflight) as answer:
        assert answer.status == 204
        assert answer.headers["Access-Control-Allow-Origin"] == PAGE
        assert "Content-Type" in answer.headers["Access-Control-Allow-Headers"]
    async with stand.gateway.client.post(
        stand.http, json=CREATE, headers={"Origin": PAGE}
    ) as answer:
        assert answer.status == 200
        assert answer.headers["Access-Control-Allow-Origin"] == PAGE
        assert answer.headers["Vary"] == "Origin"


@pytest.mark.parametrize("origin", [FOREIGN, "null", "http://[", ""])
async def test_page_of_another_site_may_not(stand: JanusStand, origin: str) -> None:
    headers = {"Origin": origin}
    async with stand.gateway.client.post(stand.http, json=CREATE, headers=headers) as answer:
        assert answer.status == 403
        assert (await answer.json())["error"]["code"] == 403
        assert "Access-Control-Allow-Origin" not in answer.headers
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await stand.gateway.client.ws_connect(
            stand.websocket, protocols=[SUBPROTOCOL], headers=headers
        )
    assert refused.value.status == 403


@pytest.mark.parametrize("allowed", ["*", FOREIGN])
async def test_page_of_another_site_may_if_it_is_allowed(allowed: str) -> None:
    headers = {"Origin": FOREIGN}
    async with janus_standing(allowed_origins=[allowed]) as stand:
        assert (await stand.post(CREATE, headers=headers))["janus"] == "success"
        async with stand.gateway.client.ws_connect(
            stand.websocket, protocols=[SUBPROTOCOL], headers=headers
        ) as socket:
            await socket.send_json(CREATE)
            assert (await socket.receive_json())["janus"] == "success"


async def test_name_that_is_not_ours_is_refused() -> None:
    hosts = HostGuard(names=(), domains=(), is_node=lambda name: False)
    async with janus_standing(hosts=hosts) as stand:
        answer = await stand.post(CREATE, headers={"Host": "rebound.example"})
        assert answer["error"]["code"] == 403
        assert (await stand.post(CREATE))["janus"] == "success"


@pytest.mark.parametrize("by", BY)
async def test_token_is_needed_if_there_is_one(by: str) -> None:
    async with janus_standing(token="open-sesame") as stand:
        with pytest.raises(KeyError):
            async with client(stand, by):
                pass
        right = {**CREATE, "token": "open-sesame"}
        session = (await stand.post(right))["data"]["id"]
        async with stand.gateway.client.get(f"{stand.http}/{session}?token=wrong") as answer:
            assert answer.status == 403
            assert (await answer.json())["error"]["code"] == 403


# ---------------------------------------------------------------------- WebSockets


async def test_subprotocol_is_needed(stand: JanusStand) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await stand.gateway.client.ws_connect(stand.websocket, protocols=["mqtt"])
    assert refused.value.status == 400
    url = stand.websocket.replace("ws:", "http:")
    async with stand.gateway.client.get(url) as answer:
        assert answer.status == 426
        assert SUBPROTOCOL in await answer.text()


async def test_what_is_no_json_is_answered_and_the_connection_stays(stand: JanusStand) -> None:
    async with stand.gateway.client.ws_connect(stand.websocket, protocols=[SUBPROTOCOL]) as socket:
        assert socket.protocol == SUBPROTOCOL
        for _ in range(2):
            await socket.send_str("[" * 50_000)
            assert (await socket.receive_json())["error"]["code"] == 454
        await socket.send_bytes(b"\x00")
        assert (await socket.receive_json())["error"]["code"] == 454
        await socket.send_json(CREATE)
        assert (await socket.receive_json())["janus"] == "success"


async def test_message_that_is_too_long_ends_the_websocket(stand: JanusStand) -> None:
    async with stand.gateway.client.ws_connect(stand.websocket, protocols=[SUBPROTOCOL]) as socket:
        await socket.send_str("x" * (BYTES_MAX + 1))
        said = await socket.receive(timeout=10)
        assert said.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
        assert socket.close_code == aiohttp.WSCloseCode.MESSAGE_TOO_BIG


async def test_garbage_leaves_the_listeners_alive(stand: JanusStand) -> None:
    rng = random.Random(6)
    assert stand.janus.http is not None
    assert stand.janus.websockets is not None
    for port in (stand.janus.http.port, stand.janus.websockets.port):
        for _ in range(50):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(rng.randbytes(rng.randrange(1, 400)) + b"\r\n\r\n")
            writer.write_eof()
            async with asyncio.timeout(10):
                await reader.read()
            writer.close()
    async with client(stand, "websocket") as speaking:
        assert (await speaking.ask("keepalive"))["janus"] == "ack"
    async with client(stand, "long polls") as speaking:
        assert (await speaking.ask("keepalive"))["janus"] == "ack"


async def test_connection_without_a_request_is_closed(stand: JanusStand) -> None:
    gate = Gate(None)
    server = WebSockets(stand.janus.driver, gate, "127.0.0.1", 0, head_timeout_s=0.1)
    await server.start()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET / HTTP/1.1\r\n")
        async with asyncio.timeout(10):
            assert await reader.read() == b""
        writer.close()
    finally:
        await server.stop()


async def test_websockets_are_bounded(stand: JanusStand) -> None:
    server = WebSockets(stand.janus.driver, Gate(None), "127.0.0.1", 0, connections_max=1)
    await server.start()
    url, session = f"ws://127.0.0.1:{server.port}/", stand.gateway.client
    try:
        async with session.ws_connect(url, protocols=[SUBPROTOCOL]):
            with pytest.raises(aiohttp.ClientError):
                await session.ws_connect(url, protocols=[SUBPROTOCOL])
        assert not await _refused(session, url)
    finally:
        await server.stop()


async def _refused(session: aiohttp.ClientSession, url: str) -> bool:
    """Whether a connection is, in the end: the one before may still be on its way out."""

    async def comes() -> bool:
        try:
            async with session.ws_connect(url, protocols=[SUBPROTOCOL]):
                return True
        except aiohttp.ClientError:
            return False

    came: bool = await eventually(comes)
    return not came


async def test_client_that_reads_nothing_is_read_no_further_and_loses_its_place(
    stand: JanusStand,
) -> None:
    """Its requests wait in the kernel; events that are too many for it cut it."""
    assert stand.janus.websockets is not None
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", stand.janus.websockets.port, limit=1024
    )
    writer.write(
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        b"Sec-WebSocket-Protocol: janus-protocol\r\n\r\n"
    )
    links = stand.janus.websockets._links
    await eventually(lambda: len(links) == 1)
    (link,) = links
    for _ in range(UNREAD_MAX + 1):  # in one turn of the loop: nothing is written meanwhile
        link.send({"janus": "event", "session_id": 1})
    await eventually(lambda: not links)
    writer.close()
    del reader


async def test_websockets_are_told_when_the_gateway_stops() -> None:
    async with janus_standing() as stand:
        socket = await stand.gateway.client.ws_connect(stand.websocket, protocols=[SUBPROTOCOL])
        await socket.send_json(CREATE)
        assert (await socket.receive_json())["janus"] == "success"
        assert stand.janus.websockets is not None
        await stand.janus.websockets.stop()
        said = await socket.receive(timeout=10)
        assert said.type is aiohttp.WSMsgType.CLOSE
        await socket.close()


async def test_port_that_is_taken_says_so(stand: JanusStand) -> None:
    assert stand.janus.http is not None
    for ports in ((stand.janus.http.port, -1), (-1, stand.janus.http.port)):
        life = Lifecycle()
        try:
            with pytest.raises(StartRefused, match=r"cannot listen on 127\.0\.0\.1"):
                await JanusListeners(stand.gateway.sessions).start(life, "127.0.0.1", *ports)
        finally:
            await life.stop_all()


async def test_answers_are_ascii_whatever_was_said(stand: JanusStand) -> None:
    odd = {"janus": "ü\ud800", "transaction": "ü\ud800"}
    data = json.dumps(odd).encode()
    async with stand.gateway.client.post(stand.http, data=data) as answer:
        raw = await answer.read()
    assert raw.isascii()
    assert json.loads(raw)["transaction"] == "ü\ud800"
