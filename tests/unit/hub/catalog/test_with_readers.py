"""The catalog's topics as the readers of a hub get them."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator

import pytest
from tests.harness.eventually import eventually
from tests.harness.hub_stand import MemoryHistory, Pipe
from tests.harness.told_catalog import ALL, Hub, Log, wanting

from callboard.catalog.commands import Deregister, KeyValueSet, Register
from callboard.catalog.objects import Node
from callboard.events.parser import Parser
from callboard.hub.cursor import CatalogPlace, Cursor, parse
from callboard.hub.event import Format
from callboard.hub.matching.index import Index
from callboard.hub.ports import Selector, Subscription
from callboard.hub.subscribers.polls import POLL_BYTES
from callboard.hub.subscribers.reader import PUMP_BYTES, State
from callboard.hub.subscribers.readers import Readers
from callboard.serve.exchange import Answer
from callboard.serve.timerwheel import TimerWheel

LOG_AND_LEADER = wanting(*ALL, "/cluster/leader")


class Stand:
    """A hub's catalog that stands at index 3, and its readers."""

    def __init__(self) -> None:
        self.log = Log()
        for number in range(3):
            self.log.commit(Register(Node(name=f"n{number}", address="10.0.0.1")))
        self.hub = Hub(self.log)
        self.hub.snapshot(3)
        self.hub.beat()
        self.wheel = TimerWheel(asyncio.get_running_loop())
        self.readers = Readers(
            MemoryHistory(), self.hub.topics, Index(), wheel=self.wheel, rng=random.Random(1)
        )

    async def resume(self, id: str, selector: Selector, format: Format) -> Pipe:
        """A reader that shows the last id it was sent."""
        subscription = Subscription(selector, format, parse(id))
        return Pipe().open((await self.readers.open(subscription)).sink)

    async def poll(
        self,
        id: str,
        wait_s: float,
        selector: Selector = LOG_AND_LEADER,
        format: Format = Format.SSE,
    ) -> Answer:
        """The answer of a long poll that goes on after an id."""
        asked = Subscription(selector, format, parse(id), greets=True)
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.readers.poll(await self.readers.open(asked), wait_s).start(answered.set_result)
        return await answered

    async def open(self, index: int | None, selector: Selector = LOG_AND_LEADER) -> Pipe:
        """A reader that resumes after an index; None: it is new."""
        cursor = None
        if index is not None:
            cursor = Cursor(catalog=CatalogPlace(self.hub.topics.place.epoch, index))
        opened = await self.readers.open(Subscription(selector, cursor=cursor))
        return Pipe().open(opened.sink)

    def change(self, name: str) -> None:
        """One more node, told at once."""
        self.log.commit(Register(Node(name=name, address="10.0.0.1")))
        self.hub.tell(self.log.index)
        self.hub.make()


@pytest.fixture
async def stand() -> AsyncIterator[Stand]:
    made = Stand()
    yield made
    await made.readers.stop()
    made.wheel.close()


def told(pipe: Pipe) -> list[str]:
    """The topics of what a reader was sent, in order."""
    return [str(json.loads(data)["Topic"]) for data in pipe.messages()]


def answered_id(answer: Answer) -> str:
    """The cursor at the end of a long poll."""
    if answer.content_type == Format.NDJSON.value:
        return str(json.loads(answer.body.splitlines()[-1])["id"])
    parser = Parser()
    parser.feed(answer.body)
    return parser.last_event_id


def last_id(pipe: Pipe, format: Format) -> str:
    """What a client would resume after; of the catalog's part, "" while there is none."""
    if format is Format.SSE:
        id = pipe.cursor()
    else:
        lines = [json.loads(line) for line in pipe.body.splitlines() if line]
        id = next((line["id"] for line in reversed(lines) if "id" in line), "")
    return id if "~" in id else ""


async def test_a_reader_ahead_of_a_hub_gets_what_it_has_not_seen_and_no_more(stand: Stand) -> None:
    pipe = await stand.open(5, wanting(*ALL))
    for number in range(4, 8):
        stand.change(f"n{number}")
        await asyncio.sleep(0)
    await eventually(lambda: told(pipe) == ["/catalog/nodes/n6", "/catalog/nodes/n7"])
    stand.change("n8")
    await eventually(lambda: told(pipe)[2:] == ["/catalog/nodes/n8"])


async def test_a_new_reader_gets_the_state_once_and_then_changes(stand: Stand) -> None:
    pipe = await stand.open(None, wanting("/catalog/nodes/{n}", "/cluster/leader"))
    nodes = [f"/catalog/nodes/n{number}" for number in range(4)]
    await eventually(lambda: len(told(pipe)) >= 4)
    stand.change("n3")
    await eventually(lambda: nodes[3] in told(pipe))
    assert told(pipe) == [*nodes[:3], "/cluster/leader", nodes[3]]


@pytest.mark.parametrize("topics", [ALL, (*ALL, "/cluster/leader"), (*ALL, "/builds")])
@pytest.mark.parametrize("format", Format)
async def test_whoever_leaves_after_the_state_and_before_a_change_does_not_get_it_again(
    stand: Stand, format: Format, topics: tuple[str, ...]
) -> None:
    pipe = await stand.resume("", wanting(*topics), format)
    await eventually(lambda: b"/catalog/nodes/n2" in pipe.body and last_id(pipe, format))
    again = await stand.resume(last_id(pipe, format), wanting(*topics), format)
    stand.change("n3")
    await eventually(lambda: b"/catalog/nodes/n3" in again.body)
    assert b"/catalog/nodes/n2" not in again.body
    assert stand.readers.gaps == 0


async def test_a_leader_that_changed_while_a_reader_stood_still_is_told_to_it(stand: Stand) -> None:
    pipe = await stand.open(3)
    await eventually(lambda: told(pipe) == ["/cluster/leader"])
    pipe.sink.behind()  # type: ignore[union-attr]
    stand.hub.beat(leader="", term=1)  # (an election moves no index before it is won)
    await eventually(lambda: not stand.readers.delivery._beside)
    pipe.sink.drained()  # type: ignore[union-attr]
    await eventually(lambda: told(pipe) == ["/cluster/leader"] * 2)
    assert json.loads(pipe.messages()[-1])["Value"]["Leader"] == ""


async def test_a_leader_that_is_back_is_told_to_who_saw_the_other_one(stand: Stand) -> None:
    pipe = await stand.open(3)
    await eventually(lambda: told(pipe) == ["/cluster/leader"])
    stand.hub.beat(leader="", term=1)
    await eventually(lambda: len(told(pipe)) == 2)
    pipe.sink.behind()  # type: ignore[union-attr]
    stand.hub.beat()
    await eventually(lambda: not stand.readers.delivery._beside)
    pipe.sink.drained()  # type: ignore[union-attr]
    await eventually(lambda: len(told(pipe)) == 3)
    first, _, last = pipe.messages()
    assert first == last


@pytest.mark.parametrize("format", Format)
async def test_long_polls_wait_for_another_leader_than_they_were_told_of(
    stand: Stand, format: Format
) -> None:
    first = await stand.poll("", 30.0, format=format)
    assert b"cluster/leader" in first.body
    second = await stand.poll(answered_id(first), 0.2)
    assert b"cluster/leader" not in second.body
    assert answered_id(second) == answered_id(first)


async def test_a_long_poll_has_the_whole_state_however_long_it_is(stand: Stand) -> None:
    for number in range(3, 2000):
        stand.change(f"n{number}")
    first = await stand.poll("", 30.0, wanting(*ALL))
    assert len(first.body) > POLL_BYTES
    assert first.body.count(b'"Topic":') == 2000
    stand.change("last")
    second = await stand.poll(answered_id(first), 30.0, wanting(*ALL))
    assert second.body.count(b'"Topic":') == 1


async def test_a_long_poll_that_is_told_of_a_gap_has_the_state_after_it(stand: Stand) -> None:
    before = await stand.poll("", 30.0, wanting(*ALL))
    stand.hub.snapshot(stand.log.commit(Deregister("n0")))
    after = await stand.poll(answered_id(before), 30.0, wanting(*ALL))
    assert b"hub.gap" in after.body
    assert after.body.count(b'"Topic":') == 2
    last = await stand.poll(answered_id(after), 0.2, wanting(*ALL))
    assert b"hub.gap" not in last.body


@pytest.mark.parametrize("topics", [("/cluster/leader",), ("/cluster/{what}", *ALL)])
async def test_a_leader_that_changed_between_two_long_polls_is_told_by_the_second(
    stand: Stand, topics: tuple[str, ...]
) -> None:
    wanted = wanting(*topics)
    before = await stand.poll("", 30.0, wanted)
    stand.hub.beat(leader="", term=1)  # (an election moves no index before it is won)
    await eventually(lambda: not stand.readers.delivery._beside)
    after = await stand.poll(answered_id(before), 30.0, wanted)
    assert b"cluster/leader" in after.body
    assert b"cluster/members" not in after.body
    last = await stand.poll(answered_id(after), 0.2, wanted)
    assert b"cluster/leader" not in last.body


async def test_members_that_changed_between_two_long_polls_are_told_long_after(
    stand: Stand,
) -> None:
    wanted = wanting("/cluster/members")
    before = await stand.poll("", 30.0, wanted)
    stand.hub.beat(members=())
    for _ in range(20):
        stand.hub.beat(members=())
    stand.change("n3")  # (whoever is there is taken to know of them by now)
    place = stand.hub.topics.place
    id = f"#~{place.epoch}.{place.index}~{answered_id(before).rpartition('~')[2]}"
    after = await stand.poll(id, 30.0, wanted)
    assert b"cluster/members" in after.body
    assert b"cluster/members" not in (await stand.poll(answered_id(after), 0.2, wanted)).body


async def test_a_leader_that_changed_during_a_long_poll_is_told_once(stand: Stand) -> None:
    before = await stand.poll("", 30.0)
    waiting = asyncio.ensure_future(stand.poll(answered_id(before), 30.0))
    await eventually(lambda: any(each.state is State.LIVE for each in stand.readers.all()))
    stand.hub.beat(leader="10.0.0.2:8300", term=2)
    assert (await waiting).body.count(b"10.0.0.2:8300") == 1
    again = await stand.poll(answered_id(await waiting), 0.2)
    assert b"cluster/leader" not in again.body


async def test_a_long_poll_goes_on_at_another_hub_that_heard_of_the_leader_later(
    stand: Stand,
) -> None:
    first = await stand.poll("", 30.0)
    stand.hub.beat(leader="10.0.0.2:8300", term=2)
    second = await stand.poll(answered_id(first), 30.0)
    other = Stand()
    other.change("n3")
    other.hub.beat(leader="10.0.0.2:8300", term=2)
    await eventually(lambda: not other.readers.delivery._beside)
    third = await other.poll(answered_id(second), 30.0)
    await other.readers.stop()
    other.wheel.close()
    assert b"cluster/leader" not in third.body
    assert b"/catalog/nodes/n3" in third.body


async def test_a_leader_that_changed_is_told_though_a_change_after_it_waits_for_its_pass(
    stand: Stand,
) -> None:
    stand.change("n4")
    stand.hub.beat(leader="10.0.0.2:8300", term=2)
    await eventually(lambda: stand.readers.delivery.floor_catalog == stand.hub.topics.place)
    stand.change("n5")  # (whose pass has not begun when the reader comes up)
    pipe = await stand.open(3)
    await eventually(lambda: "/catalog/nodes/n5" in told(pipe))
    assert told(pipe) == ["/catalog/nodes/n4", "/cluster/leader", "/catalog/nodes/n5"]


async def test_a_leader_that_changed_is_told_to_who_catches_up_in_several_turns(
    stand: Stand,
) -> None:
    stand.change("n4")
    stand.hub.beat(leader="10.0.0.2:8300", term=2)
    for number in range(5, 805):
        stand.change(f"n{number}")
    await eventually(lambda: stand.readers.delivery.floor_catalog == stand.hub.topics.place)
    pipe = await stand.open(3)
    await eventually(lambda: "/catalog/nodes/n804" in told(pipe))
    assert len(pipe.body) > 2 * PUMP_BYTES, "or it was one turn"
    assert told(pipe).count("/cluster/leader") == 1


async def test_a_snapshot_that_says_the_same_later_is_no_gap_to_anybody(stand: Stand) -> None:
    pipe = await stand.open(3)
    await eventually(lambda: told(pipe) == ["/cluster/leader"])
    for _ in range(5):
        stand.log.commit(KeyValueSet("k", b"v"))
    stand.hub.snapshot(8)
    stand.hub.beat()
    stand.change("n4")
    await eventually(lambda: "/catalog/nodes/n4" in told(pipe))
    assert told(pipe) == ["/cluster/leader", "/catalog/nodes/n4"]
    assert stand.readers.gaps == 0


async def test_a_snapshot_that_differs_is_a_gap_and_the_state(stand: Stand) -> None:
    pipe = await stand.open(3, wanting(*ALL))
    stand.hub.snapshot(stand.log.commit(Deregister("n0")))
    await eventually(lambda: told(pipe) == ["/catalog/nodes/n1", "/catalog/nodes/n2"])
    assert stand.readers.gaps == 1
