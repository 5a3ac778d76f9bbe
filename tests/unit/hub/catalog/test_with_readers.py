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
from callboard.hub.cursor import CatalogPlace, Cursor
from callboard.hub.matching.index import Index
from callboard.hub.ports import Selector, Subscription
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


async def test_long_polls_wait_for_another_leader_than_there_is(stand: Stand) -> None:
    cursor = Cursor(catalog=stand.hub.topics.place)
    answers: list[Answer] = []
    opened = await stand.readers.open(Subscription(LOG_AND_LEADER, cursor=cursor))
    stand.readers.poll(opened, 0.2).start(answers.append)
    await eventually(lambda: answers)
    assert b"cluster/leader" not in answers[0].body
    opened = await stand.readers.open(Subscription(LOG_AND_LEADER, cursor=cursor))
    stand.readers.poll(opened, 30.0).start(answers.append)
    stand.hub.beat(leader="", term=1)
    await eventually(lambda: len(answers) == 2)
    assert b"cluster/leader" in answers[1].body


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
