"""Both clients subscribe and publish alike; each test runs with the async and the blocking one."""

from __future__ import annotations

import asyncio
import gc
import logging
import ssl
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
from tests.harness import sse_server
from tests.harness.eventually import eventually
from tests.harness.handmade import make
from tests.harness.scripted_http import refusing_address
from tests.harness.sse_server import Peer, Script, SseServer, answer
from tests.harness.sse_taking import Taking

from callboard.events import (
    EventTooLong,
    Gap,
    NotAStream,
    Refused,
    Unreachable,
    client,
    synchronous,
)
from callboard.events.encoder import block
from callboard.pki.contexts import server_context

HELLO = b'retry: 20\nid: #a.0\nevent: hub.hello\ndata: {"cursor":"#a.0"}\n\n'


@pytest.fixture(params=["async", "sync"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def stream(*parts: bytes, stay: bool = True, reset: bool = False) -> Script:
    """A hub's stream: a greeting, and these parts."""
    return sse_server.stream(HELLO, *parts, stay=stay, reset=reset)


def event(number: int) -> bytes:
    return block(str(number).encode(), id=f"#a.{number}")


async def published(kind: str, *arguments: Any, **options: Any) -> str:
    if kind == "async":
        return await client.publish(*arguments, **options)
    return await asyncio.to_thread(synchronous.publish, *arguments, **options)


# -------------------------------------------------------------------------------- subscribing


async def test_events_come_as_they_are_sent(kind: str) -> None:
    parts = (b"event: tick\ndata: hello\ndata: world\n", b"\n", event(2))
    with SseServer(stream(*parts)) as server:
        async with Taking(kind, "builds", hub=server.url, token="secret") as taking:
            await taking.until("hello\nworld", "2")
            assert [each.type for each in taking.events] == ["tick", "message"]
            await eventually(lambda: taking.stream.last_event_id == "#a.2")
    (asked,) = server.asked
    assert asked.target == "/t/builds?beat=10"
    assert asked.headers["authorization"] == "Bearer secret"


@pytest.mark.parametrize("reset", [False, True])
async def test_a_stream_that_ends_is_resumed_and_nothing_is_repeated(
    kind: str, reset: bool
) -> None:
    first = stream(event(1), event(2), stay=False, reset=reset)
    # (1 again as well: a reset may have lost both on their way)
    again = (event(1), event(2)) if reset else (event(2),)
    second = stream(*again, event(3), stay=False)
    third = stream(event(3), event(4))
    with SseServer(first, second, third) as server:
        async with Taking(kind, "builds", hub=server.url, last_event_id="#a.0") as taking:
            await taking.until("1", "2", "3", "4")
    seen = [asked.headers["last-event-id"] for asked in server.asked]
    # what was on its way when the connection was reset may be lost: it is asked for again
    assert seen == ["#a.0", "#a.2", "#a.3"] or (reset and seen[0] == "#a.0")


async def test_chunked_answers_are_read_as_they_come(kind: str) -> None:
    def serve(peer: Peer) -> None:
        peer.head(headers={"Transfer-Encoding": "chunked"})
        for part in (HELLO, event(1)[:3], event(1)[3:], event(2)):
            peer.send(b"%x\r\n%b\r\n" % (len(part), part))
        peer.send(b"0\r\n\r\n")

    with SseServer(serve, stream()) as server:
        async with Taking(kind, "builds", hub=server.url) as taking:
            await taking.until("1", "2")
            await eventually(lambda: len(server.asked) == 2)


async def test_a_hub_that_is_away_is_waited_for(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    away = answer(503, Retry_After="0")
    with SseServer(away, away, stream(event(1))) as server:
        async with Taking(kind, ["builds", "b"], hub=server.url, token="secret") as taking:
            await taking.until("1")
    (line,) = [record for record in caplog.records if record.name.startswith("callboard.events")]
    assert line.getMessage() == "lost the stream of events"
    assert line.__dict__["url"] == f"{server.url}/.well-known/mercure"


async def test_nobody_to_be_reached_is_raised_to_the_impatient(kind: str) -> None:
    hub = f"http://{refusing_address()}"
    async with Taking(kind, "builds", hub=hub, patient=False) as taking:
        problem = await taking.failure()
    assert isinstance(problem, Unreachable)
    assert str(problem).startswith(f"{hub}/t/builds: ")


@pytest.mark.parametrize("status", [400, 401, 403])
async def test_a_refusal_is_raised_with_the_hubs_words(kind: str, status: int) -> None:
    challenge = 'Bearer error="invalid_token", error_description="the token has expired"'
    with SseServer(answer(status, b"no\n", WWW_Authenticate=challenge)) as server:
        async with Taking(kind, "builds", hub=server.url) as taking:
            problem = await taking.failure()
    assert isinstance(problem, Refused)
    assert str(problem).endswith(": invalid_token: the token has expired: no")
    assert len(server.asked) == 1


async def test_a_page_is_no_stream(kind: str) -> None:
    with SseServer(lambda peer: peer.whole(200, b"<p>", "text/html")) as server:
        async with Taking(kind, "builds", hub=server.url) as taking:
            assert isinstance(await taking.failure(), NotAStream)


async def test_an_event_without_end_is_raised(kind: str) -> None:
    def serve(peer: Peer) -> None:
        peer.head()
        for _ in range(20):
            peer.send(b"x" * (1 << 20))

    with SseServer(serve) as server:
        async with Taking(kind, "builds", hub=server.url) as taking:
            assert isinstance(await taking.failure(30.0), EventTooLong)


async def test_204_ends_the_iterator(kind: str) -> None:
    with SseServer(stream(event(1), stay=False), answer(204)) as server:
        async with Taking(kind, "builds", hub=server.url) as taking:
            await taking.end()
            assert taking.data == ["1"]


async def test_a_gap_is_shown_where_it_is(kind: str) -> None:
    gap = block(b'{"lost":3,"oldest":"#a.4"}', id="#a.4", type="hub.gap")
    with SseServer(stream(event(1), gap, event(5))) as server:
        async with Taking(kind, "builds", hub=server.url) as taking:
            await eventually(lambda: len(taking.events) == 3)
    shown = taking.events[1]
    assert isinstance(shown, Gap)
    assert (shown.lost, shown.oldest) == (3, "#a.4")


async def test_a_token_is_renewed_when_the_hub_says_good_bye(kind: str) -> None:
    tokens = iter(["first", "second", "third"])
    bye = block(b'{"reason":"token","ends_in":30}', type="hub.bye")
    with SseServer(stream(event(1), bye), stream(event(2))) as server:
        async with Taking(kind, "builds", hub=server.url, token=lambda: next(tokens)) as taking:
            await taking.until("1", "2")
    given = [asked.headers["authorization"] for asked in server.asked]
    assert given == ["Bearer first", "Bearer second"]
    assert server.asked[1].headers["last-event-id"] == "#a.1"


async def test_a_renewer_of_tokens_that_all_end_soon_is_not_asked_without_end(kind: str) -> None:
    tokens: list[str] = []
    often = threading.Event()

    def renew() -> str:
        tokens.append(f"token {len(tokens)}")
        if len(tokens) > 3:
            often.set()
        return tokens[-1]

    bye = block(b'{"reason":"token","ends_in":20}', type="hub.bye")
    with SseServer(stream(event(1), bye), stream(event(2), bye)) as server:
        async with Taking(kind, "builds", hub=server.url, token=renew) as taking:
            await taking.until("1", "2")
            assert not await asyncio.to_thread(often.wait, 0.5)
    assert len(tokens) == len(server.asked) == 2


async def test_a_token_is_renewed_while_the_stream_goes_on(kind: str) -> None:
    """Beats and events do not put the renewal off; what came is not asked for again."""
    tokens = iter(["first", "second", "third"])
    bye = block(b'{"reason":"token","ends_in":2}', type="hub.bye")

    def busy(peer: Peer) -> None:
        stream(event(2), bye, event(3), stay=False)(peer)
        while not peer.leaves(0.01):
            peer.send(b": busy\n\n")

    with SseServer(stream(event(1), bye), busy, stream(event(4))) as server:
        began = time.monotonic()
        async with Taking(kind, "builds", hub=server.url, token=lambda: next(tokens)) as taking:
            await taking.until("1", "2", "3", "4")
    assert time.monotonic() - began >= 1.0
    seen = [asked.headers.get("last-event-id") for asked in server.asked]
    assert seen == [None, "#a.1", "#a.3"]


async def test_a_token_that_is_refused_is_renewed_once(kind: str) -> None:
    tokens = iter(["first", "second", "third"])
    with SseServer(answer(401), stream(event(2), stay=False), answer(401), answer(401)) as server:
        async with Taking(
            kind, "builds", hub=server.url, token=lambda: next(tokens, "x")
        ) as taking:
            assert isinstance(await taking.failure(), Refused)
            assert taking.data == ["2"]
    assert len(server.asked) == 4


async def test_an_async_callable_gives_tokens() -> None:
    async def renew() -> str:
        await asyncio.sleep(0)
        return "fresh"

    with SseServer(stream(event(1))) as server:
        async with Taking("async", "builds", hub=server.url, token=renew) as taking:
            await taking.until("1")
    assert server.asked[0].headers["authorization"] == "Bearer fresh"


@pytest.mark.slow
async def test_missing_beats_are_a_reason_to_connect_again(kind: str) -> None:
    with SseServer(stream(event(1)), stream(event(2))) as server:
        began = time.monotonic()
        async with Taking(kind, "builds", hub=server.url, beat_s=1) as taking:
            await taking.until("1", "2")
    assert 2.4 <= time.monotonic() - began < 6.0


@pytest.mark.slow
async def test_where_streams_are_held_back_it_polls_with_the_same_cursor(kind: str) -> None:

    def kept(peer: Peer) -> None:
        peer.stay()

    def polls(peer: Peer) -> None:
        peer.whole(200, event(1) + block(None, id="#a.3"), "text/event-stream")

    def more(peer: Peer) -> None:
        peer.whole(200, event(4), "text/event-stream")

    with SseServer(kept, polls, more, kept) as server:
        async with Taking(kind, "builds", hub=server.url, last_event_id="#a.0") as taking:
            await taking.until("1", "4")
            await eventually(lambda: len(server.asked) == 4)
    targets = [asked.target for asked in server.asked]
    assert targets == ["/t/builds?beat=10", *["/t/builds?poll=25"] * 3]
    cursors = [asked.headers["last-event-id"] for asked in server.asked]
    assert cursors == ["#a.0", "#a.0", "#a.3", "#a.4"]


async def test_any_event_stream_is_read_by_its_url(kind: str) -> None:
    def serve(peer: Peer) -> None:
        peer.head()
        peer.send(b": welcome\n\nid: 1\ndata: x\n\n")
        peer.stay()

    with SseServer(serve) as server:
        async with Taking(kind, f"{server.url}/stream?a=b", beat_s=0) as taking:
            await taking.until("x")
    assert server.asked[0].target == "/stream?a=b"


async def test_json_lines_tell_topics_and_times(kind: str) -> None:
    def serve(peer: Peer) -> None:
        peer.head(kind="application/x-ndjson")
        peer.send(b'{"type":"hub.hello","data":"{}","id":"#a.0"}\n')
        peer.send(b'\n{"type":"message","data":"x","id":"#a.1","topics":["/b"],"time":5}\n')
        peer.stay()

    with SseServer(serve) as server:
        async with Taking(kind, ["b", "c"], hub=server.url, lines=True) as taking:
            await taking.until("x")
    assert (taking.events[0].topics, taking.events[0].time_ms) == (("/b",), 5)
    assert server.asked[0].headers["accept"] == "application/x-ndjson"


async def test_a_cursor_of_any_text_travels(kind: str) -> None:
    with SseServer(stream(event(1))) as server:
        async with Taking(kind, "builds", hub=server.url, last_event_id="ü 1") as taking:
            await taking.until("1")
    assert server.asked[0].headers["last-event-id"] == "ü 1"


async def test_tls_is_verified(kind: str, tmp_path: Path) -> None:
    made = make(tmp_path / "made")
    with SseServer(stream(event(1)), tls=server_context(made.server)) as server:
        trusted = ssl.create_default_context(cafile=made.ca)
        async with Taking(kind, "builds", hub=server.url, tls=trusted, patient=False) as taking:
            await taking.until("1")
        async with Taking(kind, "builds", hub=server.url, patient=False) as taking:
            problem = await taking.failure()
    assert isinstance(problem, Unreachable)
    assert "certificate verify failed" in str(problem)


async def test_what_was_taken_is_where_to_resume(kind: str) -> None:
    """Events that came in one piece, but were not taken, are asked for again."""
    with SseServer(stream(event(1) + event(2) + event(3))) as server:
        if kind == "async":
            async with client.subscribe("builds", hub=server.url) as taken:
                assert (await anext(taken)).data == "1"
                assert taken.last_event_id == "#a.1"
        else:
            with synchronous.subscribe("builds", hub=server.url) as events:
                first = await asyncio.to_thread(next, events)
                assert first.data == "1"
                assert events.last_event_id == "#a.1"


async def test_an_iterator_that_is_left_hangs_up(kind: str) -> None:
    left = asyncio.Event()
    loop = asyncio.get_running_loop()

    def serve(peer: Peer) -> None:
        stream(event(1))(peer)
        loop.call_soon_threadsafe(left.set)

    with SseServer(serve) as server:
        if kind == "async":
            async for each in client.subscribe("builds", hub=server.url):
                assert each.data == "1"
                break
        else:
            for each in synchronous.subscribe("builds", hub=server.url):
                assert each.data == "1"
                break
        gc.collect()
        await asyncio.wait_for(left.wait(), 5)


async def test_a_blocking_iterator_is_ended_by_another_thread() -> None:
    with SseServer(stream(event(1))) as server:
        async with Taking("sync", "builds", hub=server.url) as taking:
            await taking.until("1")
            began = time.monotonic()
            await taking.stop()
            assert taking.problem is None
            assert time.monotonic() - began < 2.0


# -------------------------------------------------------------------------------- publishing


async def test_a_publication_gives_its_id(kind: str) -> None:
    with SseServer(answer(200, b"#a.5\n")) as server:
        options = {"hub": server.url, "token": "secret", "type": "tick", "private": True}
        assert await published(kind, "a b", "ü\n", **options) == "#a.5"
    (asked,) = server.asked
    assert (asked.method, asked.path) == ("POST", "/t/a%20b")
    assert asked.query == {"type": "tick", "private": "on"}
    assert asked.body == "ü\n".encode()
    assert asked.headers["authorization"] == "Bearer secret"
    assert asked.headers["idempotency-key"]


async def test_a_publication_to_several_topics_is_one(kind: str) -> None:
    with SseServer(answer(200, b"#a.5")) as server:
        await published(kind, ["a", "b"], b"x", hub=server.url)
    form = parse_qsl(server.asked[0].body.decode())
    assert form == [("topic", "/a"), ("topic", "/b"), ("data", "x")]


async def test_a_publication_is_tried_again_with_the_same_key(kind: str) -> None:
    """The second attempt's answer never came; a hub knows the third by its key."""
    scripts = (answer(503, Retry_After="0"), lambda peer: None, answer(200, b"#a.5"))
    with SseServer(*scripts) as server:
        assert await published(kind, "builds", "x", hub=server.url) == "#a.5"
    assert len(server.asked) == 3
    assert len({asked.headers["idempotency-key"] for asked in server.asked}) == 1


async def test_each_publication_has_a_key_of_its_own(kind: str) -> None:
    with SseServer(answer(200, b"#a.5")) as server:
        await published(kind, "builds", "x", hub=server.url)
        await published(kind, "builds", "x", hub=server.url)
        await published(kind, "builds", "x", hub=server.url, idempotency_key="mine")
    keys = [asked.headers["idempotency-key"] for asked in server.asked]
    assert keys[2] == "mine"
    assert len(set(keys)) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 413, 507])
async def test_a_publication_that_is_refused_is_not_tried_again(kind: str, status: int) -> None:
    refusal = pytest.raises(Refused, match=f"{status} .*: the reason")
    with SseServer(answer(status, b"the reason\n")) as server, refusal:
        await published(kind, "builds", "x", hub=server.url)
    assert len(server.asked) == 1


async def test_a_publication_that_reaches_nobody_fails_in_time(kind: str) -> None:
    began = time.monotonic()
    with pytest.raises(Unreachable, match="/t/builds: "):
        await published(kind, "builds", "x", hub=f"http://{refusing_address()}", timeout_s=0.5)
    assert time.monotonic() - began < 2.0


async def test_a_hub_that_does_not_answer_is_given_up_in_time(kind: str) -> None:
    with SseServer(lambda peer: peer.stay()) as server:
        began = time.monotonic()
        with pytest.raises(Unreachable):
            await published(kind, "builds", "x", hub=server.url, timeout_s=0.5)
        assert time.monotonic() - began < 2.0


async def test_a_publisher_keeps_its_connection_and_survives_its_loss(kind: str) -> None:
    with SseServer(answer(200, b"#a.5")) as server:  # every answer ends its connection
        if kind == "async":
            async with client.Publisher(server.url) as publisher:
                assert [await publisher.publish("b", "x") for _ in range(3)] == ["#a.5"] * 3
        else:

            def publish() -> list[str]:
                with synchronous.Publisher(server.url) as publisher:
                    return [publisher.publish("b", "x") for _ in range(3)]

            assert await asyncio.to_thread(publish) == ["#a.5"] * 3
    assert len(server.asked) == 3


@pytest.mark.parametrize("key", ["a\r\nX: y", "a\nb"])
async def test_a_key_cannot_end_its_header(kind: str, key: str) -> None:
    with SseServer(answer(200, b"#a.5")) as server, pytest.raises(ValueError):
        await published(kind, "builds", "x", hub=server.url, idempotency_key=key)
    assert not server.asked
