"""Streams: what they begin with, how they catch up, when they end."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable
from typing import cast

import pytest
from tests.harness.eventually import eventually
from tests.harness.hub_stand import (
    MemoryCatalog,
    MemoryHistory,
    NaiveIndex,
    Pipe,
    Topics,
    topics,
)

from callboard.hub.cursor import parse
from callboard.hub.event import Format
from callboard.hub.ports import Rights, Subscription
from callboard.hub.subscribers.limits import ReaderLimits, Times
from callboard.hub.subscribers.readers import Readers, Refused
from callboard.serve.exchange import Answer
from callboard.serve.timerwheel import TimerWheel

WALL_S = 1_000_000.0


class Stand:
    """Readers and what is round them."""

    def __init__(
        self,
        ring: int = 1_000_000,
        catalog: MemoryCatalog | None = None,
        times: Times | None = None,
        limits: ReaderLimits | None = None,
        wheel: TimerWheel | None = None,
    ) -> None:
        self.history = MemoryHistory(ring)
        self.catalog = catalog
        self.wheel = wheel if wheel is not None else TimerWheel(asyncio.get_running_loop())
        self.readers = Readers(
            self.history,
            catalog,
            NaiveIndex(),
            wheel=self.wheel,
            times=times,
            limits=limits,
            now=lambda: WALL_S,
            rng=random.Random(1),
        )

    async def open(
        self, selector: Topics, cursor: str = "", *, pipe: Pipe | None = None, **more: object
    ) -> Pipe:
        subscription = Subscription(selector, cursor=parse(cursor), **more)  # type: ignore[arg-type]
        opened = await self.readers.open(subscription)
        pipe = pipe or Pipe()
        pipe.id = opened.last_event_id  # type: ignore[attr-defined]
        return pipe.open(opened.sink)


@pytest.fixture
async def stand() -> AsyncIterator[Stand]:
    made = Stand()
    yield made
    await made.readers.stop()
    made.wheel.close()


async def test_an_event_reaches_those_who_asked_for_its_topic(stand: Stand) -> None:
    one, other = await stand.open(topics("/a")), await stand.open(topics("/b"))
    stand.history.publish("/a", b"hello")
    await eventually(lambda: one.messages() == ["hello"])
    assert other.messages() == []


async def test_a_stream_begins_with_a_reconnection_time_and_its_cursor(stand: Stand) -> None:
    stand.history.publish("/a")
    pipe = await stand.open(topics("/a"))
    assert pipe.cursor() == "#e1.1"
    assert pipe.body.startswith(b"id: #e1.1\nretry: ")
    assert 1_000 <= int(pipe.body.split(b"retry: ")[1].split()[0]) <= 5_001


async def test_reconnection_times_differ(stand: Stand) -> None:
    times = {(await stand.open(topics("/a"))).body for _ in range(20)}
    assert len(times) > 10


async def test_a_stream_that_greets_says_hello_first(stand: Stand) -> None:
    pipe = await stand.open(topics("/a"), greets=True)
    (hello,) = pipe.events()
    assert hello.type == "hub.hello"
    assert json.loads(hello.data)["cursor"] == hello.id == "#e1.0"


async def test_events_between_the_request_and_the_stream_are_not_lost(stand: Stand) -> None:
    opened = await stand.readers.open(Subscription(topics("/a")))
    stand.history.publish("/a", b"early")
    pipe = Pipe().open(opened.sink)
    stand.history.publish("/a", b"later")
    await eventually(lambda: pipe.messages() == ["early", "later"])


async def test_events_before_the_request_are_not_sent_though_others_have_not_had_them_yet() -> None:
    catalog = MemoryCatalog()
    stand = Stand(catalog=catalog)
    before = await stand.open(topics("/a"), "#e1.0")
    stand.history.publish("/a", b"before")
    catalog.change(web=b"1")
    pipe = await stand.open(topics("/a"))
    place = await stand.open(topics("/catalog/services/web"), f"#~c1.{catalog.index}")
    await eventually(lambda: before.messages() == ["before"])
    assert pipe.messages() == place.messages() == []
    stand.history.publish("/a", b"after")
    catalog.change(web=b"2")
    await eventually(lambda: pipe.messages() == ["after"])
    await eventually(lambda: place.messages() == ["2"])
    await stand.readers.stop()


async def test_a_reader_resumes_after_its_cursor(stand: Stand) -> None:
    for number in range(10):
        stand.history.publish("/a", b"%d" % number)
    pipe = await stand.open(topics("/a"), "#e1.7")
    await eventually(lambda: pipe.messages() == ["7", "8", "9"])
    assert pipe.id == "#e1.7"  # type: ignore[attr-defined]


async def test_a_reader_resumes_from_the_store_where_memory_ends() -> None:
    stand = Stand(ring=5)
    for number in range(500):
        stand.history.publish("/a", b"%d" % number)
    pipe = await stand.open(topics("/a"), "#e1.0")
    stand.history.publish("/a", b"500")
    await eventually(lambda: pipe.messages() == [str(each) for each in range(501)])
    assert stand.history.reads > 0
    await stand.readers.stop()


async def test_the_last_events_and_those_since_a_time_are_replayed(stand: Stand) -> None:
    for number in range(10):
        stand.history.publish("/a" if number % 2 else "/b", b"%d" % number)
    by_count = await stand.open(topics("/a"), last=2)
    by_time = await stand.open(topics("/a"), since_ms=1_006)
    await eventually(lambda: by_count.messages() == ["7", "9"])
    await eventually(lambda: by_time.messages() == ["7", "9"])


async def test_an_unknown_cursor_is_told_as_a_gap(stand: Stand) -> None:
    stand.history.publish("/a", b"old")
    pipe = await stand.open(topics("/a"), "#other.7")
    await eventually(lambda: pipe.messages() == ["old"])
    gap = pipe.events()[0]
    assert gap.type == "hub.gap"
    assert json.loads(gap.data)["requested"] == "#other.7"
    assert pipe.id == "earliest"  # type: ignore[attr-defined]


async def test_a_gap_at_the_beginning_is_told_once() -> None:
    stand = Stand(ring=2)
    for number in range(10):
        stand.history.publish("/a", b"%d" % number)
    stand.history.gone = 5
    pipe = await stand.open(topics("/a"), "#e1.1")
    await eventually(lambda: pipe.messages() == ["5", "6", "7", "8", "9"])
    assert [each.type for each in pipe.events()].count("hub.gap") == 1
    assert stand.history.reads
    await stand.readers.stop()


@pytest.mark.parametrize("asked", [{"cursor": "earliest"}, {"last": 7}, {"since_ms": 0}])
async def test_who_asks_for_what_there_is_is_told_of_no_gap(asked: dict[str, object]) -> None:
    stand = Stand(ring=2)
    for number in range(10):
        stand.history.publish("/a", b"%d" % number)
    stand.history.thinned = 5
    pipe = await stand.open(topics("/a"), **asked)  # type: ignore[arg-type]
    await eventually(lambda: pipe.messages()[-1:] == ["9"])
    assert "hub.gap" not in [each.type for each in pipe.events()]
    await stand.readers.stop()


async def test_a_stream_of_the_catalog_that_has_not_come_yet_has_no_cursor() -> None:
    catalog = MemoryCatalog()
    catalog.ready = False
    stand = Stand(catalog=catalog, times=Times(heartbeat_s=1.0))
    answers: list[Answer] = []
    pipe = await stand.open(topics("/catalog/services/web"), greets=True, beat_s=0.05)
    opened = await stand.readers.open(Subscription(topics("/catalog/services/web")))
    stand.readers.poll(opened, 0.1).start(answers.append)
    await eventually(lambda: len(answers) == 1 and len(pipe.events()) > 2)
    assert pipe.cursor() == ""
    assert b"id:" not in answers[0].body
    await stand.readers.stop()


async def test_what_was_trimmed_while_a_reader_lagged_is_told_as_a_gap() -> None:
    stand = Stand(ring=3)
    pipe = await stand.open(topics("/a"), pipe=Pipe(room=100))
    texts = [f"{number}".zfill(50_000) for number in range(20)]
    for text in texts:
        stand.history.publish("/a", text.encode())
    await eventually(lambda: pipe.full)
    seen = pipe.messages()
    assert 0 < len(seen) < 10
    stand.history.gone = 15
    pipe.take(1 << 30)
    await eventually(lambda: pipe.messages()[-1:] == texts[-1:])
    assert pipe.messages() == [*seen, *texts[15:]]
    (gap,) = [json.loads(each.data) for each in pipe.events() if each.type == "hub.gap"]
    assert gap["lost"] == 15 - len(seen)
    assert stand.readers.gaps == 1
    await stand.readers.stop()


async def test_what_was_taken_out_of_memory_while_a_reader_lagged_is_told_as_a_gap() -> None:
    stand = Stand()
    pipe = await stand.open(topics("/a"), pipe=Pipe(room=100))
    texts = [f"{number}".zfill(50_000) for number in range(20)]
    for text in texts:
        stand.history.publish("/a", text.encode())
    await eventually(lambda: pipe.full)
    seen = len(pipe.messages())
    assert 0 < seen < 10
    stand.history.thinned = 15
    pipe.take(1 << 30)
    await eventually(lambda: pipe.messages()[-1:] == texts[-1:])
    (gap,) = [json.loads(each.data) for each in pipe.events() if each.type == "hub.gap"]
    assert gap["lost"] == 15 - seen
    assert stand.history.reads == 0, "all of it came from memory"
    await stand.readers.stop()


async def test_a_reader_that_stands_still_keeps_its_cursor_only(stand: Stand) -> None:
    pipe = await stand.open(topics("/a"), pipe=Pipe(room=1000))
    for _ in range(200):
        stand.history.publish("/a", b"x" * 1000)
    await eventually(lambda: pipe.full)
    await asyncio.sleep(0)
    assert len(pipe.sent) < 400_000
    assert stand.readers.lag()[0] == 1
    pipe.take(1 << 30)
    await eventually(lambda: len(pipe.messages()) == 200)
    assert stand.readers.lag() == (0, 0)


async def test_a_reader_that_resumes_from_the_store_and_stands_still_has_one_page() -> None:
    stand = Stand(ring=5)
    for _ in range(1000):
        stand.history.publish("/a", b"x" * 1000)
    pipe = await stand.open(topics("/a"), "#e1.0", pipe=Pipe(room=1000))
    await eventually(lambda: pipe.full)
    await asyncio.sleep(0)
    assert stand.history.reads == 1
    assert 64 * 1024 < len(pipe.sent) < 128 * 1024  # of 256 KiB as the history counts
    pipe.take(1 << 30)
    await eventually(lambda: len(pipe.messages()) == 1000)
    await stand.readers.stop()


async def test_a_reader_that_takes_nothing_for_too_long_is_cut() -> None:
    stand = Stand(times=Times(stall_s=1.0))
    still = await stand.open(topics("/a"), pipe=Pipe(room=1000))
    slow = await stand.open(topics("/a"), pipe=Pipe(room=1000))
    for _ in range(200):
        stand.history.publish("/a", b"x" * 1000)

    def cut() -> bool:
        slow.take(10)
        return still.aborted

    await eventually(cut)
    assert not slow.aborted
    assert stand.readers.counts.ended["stalled"] == 1
    await stand.readers.stop()


async def test_an_update_that_is_private_goes_to_the_authorised_only(stand: Stand) -> None:
    without = await stand.open(topics("/a"))
    granted = await stand.open(topics("/a", private=True))
    late = await stand.open(topics("/a"), "earliest")
    stand.history.publish("/a", b"secret", private=True)
    stand.history.publish("/a", b"open")
    await eventually(lambda: granted.messages() == ["secret", "open"])
    assert without.messages() == late.messages() == ["open"]


async def test_a_stream_ends_in_order_when_the_server_drains(stand: Stand) -> None:
    pipe = await stand.open(topics("/a"), pipe=Pipe(chunked=True))
    assert pipe.sink is not None
    pipe.sink.stopping()
    assert pipe.closed
    assert pipe.sent.endswith(b"0\r\n\r\n")
    assert pipe.events()[-1].type == "hub.bye"
    assert len(stand.readers) == 0


async def test_a_stream_has_its_life() -> None:
    stand = Stand(times=Times(heartbeat_s=1.0, life_s=0.5))
    pipe = await stand.open(topics("/a"))
    await eventually(lambda: pipe.closed)
    assert json.loads(pipe.events()[-1].data)["reason"] == "life"
    await stand.readers.stop()


async def test_the_end_of_a_token_is_announced_and_kept(stand: Stand) -> None:
    soon = Rights(expires_at=WALL_S + 0.5)
    pipe = await stand.open(topics("/a"), rights=soon)
    later = await stand.open(topics("/a"), rights=Rights(expires_at=WALL_S + 100))
    await eventually(lambda: pipe.closed)
    first, last = (json.loads(e.data) for e in pipe.events() if e.type == "hub.bye")
    assert first["reason"] == last["reason"] == "token"
    assert (first["ends_in"] > 0, last["ends_in"]) == (True, 0)
    assert not later.closed


class HandClock:
    """The part of an event loop that a timer wheel needs; time passes when told."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._calls: list[tuple[float, asyncio.TimerHandle]] = []

    def time(self) -> float:
        return self.now_s

    def call_at(self, when_s: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        loop = asyncio.get_running_loop()
        handle = asyncio.TimerHandle(when_s, callback, (), loop)
        self._calls.append((when_s, handle))
        return handle

    def pass_until(self, when_s: float) -> None:
        while due := [each for each in self._calls if each[0] <= when_s]:
            call = min(due, key=lambda each: each[0])
            self._calls.remove(call)
            self.now_s = max(self.now_s, call[0])
            if not call[1].cancelled():
                call[1]._run()
        self.now_s = when_s


async def test_the_end_of_a_token_is_announced_half_a_minute_before() -> None:
    clock = HandClock()
    stand = Stand(wheel=TimerWheel(cast("asyncio.AbstractEventLoop", clock)))
    token = Rights(expires_at=WALL_S + 100)
    pipes = [await stand.open(topics("/a"), rights=token) for _ in range(20)]

    def announced() -> list[float]:
        events = [each for pipe in pipes for each in pipe.events()]
        return [json.loads(each.data)["ends_in"] for each in events if each.type == "hub.bye"]

    clock.pass_until(59.9)
    assert not announced()
    clock.pass_until(70.1)
    assert len(announced()) == len(pipes)
    assert all(30 <= ends_in <= 40 for ends_in in announced())
    clock.pass_until(99.9)
    assert not any(pipe.closed for pipe in pipes)
    clock.pass_until(100.1)
    assert all(pipe.closed for pipe in pipes)
    await stand.readers.stop()


async def test_beats_tell_the_cursor_and_the_age_of_the_catalog() -> None:
    stand = Stand(catalog=MemoryCatalog())
    pipe = await stand.open(topics("/a"), beat_s=0.05)
    stand.history.publish("/b")
    await eventually(lambda: sum(e.type == "hub.beat" for e in pipe.events()) >= 2)
    beat = pipe.events()[-1]
    assert json.loads(beat.data) == {"cursor": "#e1.1", "time": 1_000_000_000, "catalog_age": 0.5}
    assert beat.id == "#e1.1"
    await stand.readers.stop()


async def test_a_quiet_stream_moves_its_cursor_at_heartbeats() -> None:
    stand = Stand(times=Times(heartbeat_s=1.0))
    pipe = await stand.open(topics("/a"))
    for _ in range(5):
        stand.history.publish("/b")
    await eventually(lambda: pipe.cursor() == "#e1.5")
    assert pipe.messages() == []
    await stand.readers.stop()


async def test_one_stream_too_many_is_refused() -> None:
    stand = Stand(limits=ReaderLimits(readers_max=3, per_client_max=1))
    await stand.open(topics("/a"), client="192.0.2.1")
    with pytest.raises(Refused, match="this address"):
        await stand.open(topics("/a"), client="192.0.2.1")
    pipe = await stand.open(topics("/a"), client="192.0.2.2")
    await stand.open(topics("/a"), client="192.0.2.3")
    with pytest.raises(Refused, match="as many subscribers"):
        await stand.open(topics("/a"), client="192.0.2.4")
    pipe.lose()
    await stand.open(topics("/a"), client="192.0.2.4")
    await stand.readers.stop()


async def test_readers_that_ask_the_same_get_the_same_bytes(stand: Stand) -> None:
    pipes = [await stand.open(topics("/a")) for _ in range(3)]
    lines = await stand.open(topics("/a"), format=Format.NDJSON)
    stand.history.publish("/a", b"one\ntwo")
    await eventually(lambda: all(pipe.messages() == ["one\ntwo"] for pipe in pipes))
    assert json.loads(lines.body) == {
        "type": "message", "data": "one\ntwo", "id": "#e1.1", "topics": ["/a"], "time": 1000,
    }  # fmt: skip


async def test_readers_that_ask_the_same_keep_one_selector(stand: Stand) -> None:
    one, other = topics("/a"), topics("/a")
    assert one is not other
    pipes = [await stand.open(one), await stand.open(other)]
    kept = {id(each.subscription.selector) for each in stand.readers.all()}
    assert kept == {id(one)}
    assert len(pipes) == len(stand.readers)


async def test_a_long_poll_waits_for_the_first_event(stand: Stand) -> None:
    answers: list[Answer] = []
    opened = await stand.readers.open(Subscription(topics("/a"), cursor=parse("#e1.0")))
    stand.readers.poll(opened, 30.0).start(answers.append)
    await eventually(lambda: len(stand.readers) == 1)
    assert not answers
    stand.history.publish("/a", b"1")
    stand.history.publish("/a", b"2")
    await eventually(lambda: len(answers) == 1)
    assert b"data: 1\n\n" in answers[0].body
    assert answers[0].body.endswith(b"id: #e1.2\n\n")
    assert len(stand.readers) == 0


async def test_a_long_poll_without_events_answers_with_its_cursor(stand: Stand) -> None:
    answers: list[Answer] = []
    for _ in range(3):
        stand.history.publish("/b")
    opened = await stand.readers.open(Subscription(topics("/a"), cursor=parse("#e1.1")))
    stand.readers.poll(opened, 0.05).start(answers.append)
    await eventually(lambda: len(answers) == 1)
    assert answers[0].body.endswith(b"id: #e1.3\n\n")


async def test_a_reader_whose_client_goes_is_forgotten(stand: Stand) -> None:
    pipe = await stand.open(topics("/a"), beat_s=0.01)
    other = await stand.open(topics("/a"), beat_s=0.01)
    pipe.lose()
    stand.history.publish("/a")
    await eventually(lambda: sum(e.type == "hub.beat" for e in other.events()) > 2)
    assert len(stand.readers) == 1
    assert stand.readers.counts.ended["gone"] == 1
