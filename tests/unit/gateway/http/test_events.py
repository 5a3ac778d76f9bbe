"""WHEP's server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiortc.rtp import RtcpReceiverInfo, RtcpRrPacket
from tests.harness.eventually import eventually
from tests.unit.gateway.http.stand import (
    Feed,
    Reply,
    Stand,
    receiving,
    ssrc_of,
    standing,
)
from tests.unit.gateway.sdp.conftest import client_offer

OFFER = client_offer("chromium-viewer")


async def watch(stand: Stand) -> Reply:
    """A session."""
    reply = await stand.ask("POST", "/whep/test", OFFER, "application/sdp")
    assert reply.status == 201
    return reply


def entry(reply: Reply) -> str:
    """Where event streams of a session are made, as its Link says."""
    link = next(each for each in reply.links if "server-sent-events" in each)
    assert 'events="active,inactive,viewercount' in link
    return link[1 : link.index(">")]


@asynccontextmanager
async def reading(stand: Stand, where: str) -> AsyncIterator[list[tuple[str, str]]]:
    """The events of a stream, as they come; ("end", "") is its end."""
    events: list[tuple[str, str]] = []

    async def read(answer: aiohttp.ClientResponse) -> None:
        name = ""
        async for line in answer.content:
            field, _, value = line.decode().strip().partition(": ")
            if field == "event":
                name = value
            elif field == "data":
                events.append((name, value))
        events.append(("end", ""))

    timeout = aiohttp.ClientTimeout(sock_read=30)
    async with stand.client.get(stand.origin + where, timeout=timeout) as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        task = asyncio.get_running_loop().create_task(read(answer))
        try:
            yield events
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def begun(stand: Stand) -> Feed:
    feed = stand.stream()
    feed.frame()
    return feed


async def test_a_reader_is_told_what_is_and_what_changes() -> None:
    async with standing() as stand:
        feed = begun(stand)
        session = await watch(stand)
        made = await stand.ask("POST", entry(session))
        assert made.status == 201
        async with reading(stand, made.headers["Location"]) as events:
            assert await eventually(lambda: len(events) == 2)
            assert events == [("active", "{}"), ("viewercount", '{"viewercount": 1}')]
            await watch(stand)
            assert await eventually(lambda: events[2:] == [("viewercount", '{"viewercount": 2}')])
            feed.live.offline("for a test", 0.0)
            assert await eventually(lambda: events[3:] == [("inactive", "{}")])
            feed.frame()
            assert await eventually(lambda: events[4:] == [("active", "{}")])


async def test_a_reader_is_told_of_what_it_asked_for_alone() -> None:
    async with standing() as stand:
        feed = begun(stand)
        wanted = json.dumps(["inactive", "layers"])
        made = await stand.ask("POST", entry(await watch(stand)), wanted, "application/json")
        async with reading(stand, made.headers["Location"]) as events:
            feed.live.offline("for a test", 0.0)
            assert await eventually(lambda: events == [("inactive", "{}")])


async def test_a_reader_is_told_that_its_link_is_too_slow() -> None:
    async with standing() as stand:
        await stand.playing()
        async with receiving(stand) as (client, session):
            made = await stand.ask("POST", entry(session), b'["slow"]', "application/json")
            (viewer,) = stand.sessions.viewers("test")
            ssrc = ssrc_of(session.text, "video")
            assert await eventually(lambda: ssrc in client.received)
            async with reading(stand, made.headers["Location"]) as events:

                def lossy() -> bool:
                    block = RtcpReceiverInfo(ssrc, 128, 9, 9, 0, 0, 0)
                    now = asyncio.get_running_loop().time()
                    viewer.take_rtcp(bytes(RtcpRrPacket(1, [block])), now)
                    return len(events) > 0

                assert await eventually(lossy)
                name, data = events[0]
                assert name == "slow" and 0 < json.loads(data)["gets"] < json.loads(data)["needs"]


async def test_an_event_stream_ends_with_its_session() -> None:
    async with standing() as stand:
        begun(stand)
        session = await watch(stand)
        where = (await stand.ask("POST", entry(session))).headers["Location"]
        async with reading(stand, where) as events:
            assert await eventually(lambda: len(events) == 2)
            await stand.ask("DELETE", session.headers["Location"])
            assert await eventually(lambda: events[-1] == ("end", ""))
        assert (await stand.ask("GET", where)).status == 404


async def test_an_event_stream_can_be_deleted_alone() -> None:
    async with standing() as stand:
        begun(stand)
        session = await watch(stand)
        where = (await stand.ask("POST", entry(session))).headers["Location"]
        async with reading(stand, where) as events:
            assert (await stand.ask("DELETE", where)).status == 200
            assert await eventually(lambda: events[-1:] == [("end", "")])
        for method in ("GET", "DELETE"):
            assert (await stand.ask(method, where)).status == 404
        assert (await stand.ask("GET", session.headers["Location"])).status == 204


async def test_an_event_stream_needs_no_token_as_an_event_source_can_show_none() -> None:
    async with standing(watch_token="s3cret", allowed_origins=["https://a.example"]) as stand:
        begun(stand)
        right = {"Authorization": "Bearer s3cret"}
        session = await stand.ask("POST", "/whep/test", OFFER, "application/sdp", **right)
        made = await stand.ask("POST", entry(session), **right)
        async with (
            reading(stand, made.headers["Location"]) as events,
            stand.client.get(
                stand.origin + made.headers["Location"], headers={"Origin": "https://a.example"}
            ) as answer,
        ):
            assert await eventually(lambda: len(events) > 0)
            assert answer.headers["Access-Control-Allow-Origin"] == "https://a.example"


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"[1]", "application/json", 400),
        (b"{}", "application/json", 400),
        (b"[" * 5000, "application/json", 400),
        (b"[]", "text/plain", 415),
    ],
)
async def test_what_is_no_list_of_events_is_refused(body: bytes, kind: str, status: int) -> None:
    async with standing() as stand:
        begun(stand)
        where = entry(await watch(stand))
        assert (await stand.ask("POST", where, body, kind)).status == status
        assert (await stand.ask("POST", where + "x")).status == 404


async def test_a_session_has_a_few_event_streams_at_most() -> None:
    async with standing() as stand:
        begun(stand)
        where = entry(await watch(stand))
        statuses = [(await stand.ask("POST", where)).status for _ in range(5)]
        assert statuses == [201, 201, 201, 201, 429]


async def test_the_server_stops_while_events_are_read() -> None:
    async with standing() as stand:
        begun(stand)
        made = await stand.ask("POST", entry(await watch(stand)))
        async with reading(stand, made.headers["Location"]) as events:
            assert await eventually(lambda: len(events) == 2)
            await stand.sessions.stop()
            assert await eventually(lambda: events[-1] == ("end", ""))
