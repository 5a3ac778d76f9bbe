"""Readers that come, go, stall and resume at random: each event once, and in order."""

from __future__ import annotations

import asyncio
import random

import pytest
from tests.harness.eventually import eventually
from tests.harness.hub_stand import MemoryCatalog, MemoryHistory, NaiveIndex, Pipe, Topics, topics

from callboard.hub.cursor import parse
from callboard.hub.ports import Subscription
from callboard.hub.subscribers import delivery
from callboard.hub.subscribers.reader import State
from callboard.hub.subscribers.readers import Readers
from callboard.serve.timerwheel import TimerWheel

NAMES = ["/a", "/b", "/catalog/services/web", "/catalog/services/db"]


class Course:
    """A hub's readers, and for each the chain of connections that a client resumes by."""

    def __init__(self, rng: random.Random, *, forgets: bool) -> None:
        self.rng = rng
        self.forgets = forgets
        self.history = MemoryHistory(rng.choice([1, 4, 1000]))
        self.catalog = MemoryCatalog()
        wheel = TimerWheel(asyncio.get_running_loop())
        self.readers = Readers(self.history, self.catalog, NaiveIndex(), wheel=wheel, rng=rng)
        self.beginning = f"#e1.0~c1.{self.catalog.first}"
        self.standing: list[tuple[int, Pipe]] = []
        self.wanted: dict[int, Topics] = {}
        self.seen: dict[int, list[str]] = {}

    async def come(self, chain: int, cursor: str) -> None:
        pipe = Pipe(chunked=self.rng.random() < 0.5, room=self.rng.choice([200, 2_000, 1 << 40]))
        subscription = Subscription(self.wanted[chain], cursor=parse(cursor))
        pipe.open((await self.readers.open(subscription)).sink)
        self.standing.append((chain, pipe))

    def keep(self, chain: int, pipe: Pipe) -> None:
        """What the client of a connection has read."""
        if not pipe.chunked:
            del pipe.sent[pipe.room :]
        self.seen[chain] += pipe.messages()

    async def step(self, number: int) -> None:
        rng, chosen = self.rng, self.rng.random()
        if chosen < 0.5:
            self.history.publish(rng.choice(["/a", "/b"]), b"%d" % number * 20)
        elif chosen < 0.65:
            some = rng.sample(["web", "db"], rng.randint(1, 2))
            self.catalog.change(**{name: b"%s=%d" % (name.encode(), number) for name in some})
        elif chosen < 0.75:
            self.wanted[number] = topics(*rng.sample(NAMES, rng.randint(1, 3)))
            self.seen[number] = []
            await self.come(number, self.beginning)
        elif chosen < 0.85 and self.standing:
            chain, pipe = self.standing.pop(rng.randrange(len(self.standing)))
            self.keep(chain, pipe)
            cursor = pipe.cursor()
            pipe.lose()
            await self.come(chain, cursor or self.beginning)
        elif chosen < 0.95 and self.standing:
            rng.choice(self.standing)[1].take(rng.choice([50, 500, 5_000]))
        elif chosen < 0.99:
            for reader in self.readers.all():
                reader.keep_alive()
        elif self.forgets:
            self.catalog.forget()
        if rng.random() < 0.3:
            await asyncio.sleep(0)

    async def finish(self) -> None:
        for _, pipe in self.standing:
            pipe.take(1 << 41)
        done, head = self.readers.delivery, self.history.head
        await eventually(lambda: (done.floor, done.floor_catalog) == (head, self.catalog.place))
        await eventually(lambda: self.readers.lag()[0] == 0)
        for chain, pipe in self.standing:
            self.keep(chain, pipe)


@pytest.mark.parametrize("seed", range(60))
async def test_whoever_comes_goes_and_stalls_gets_every_event_once_and_in_order(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(seed)
    monkeypatch.setattr(delivery, "SLICE", rng.choice([1, 2, 256]))
    course = Course(rng, forgets=seed % 3 == 0)
    for number in range(200):
        await course.step(number)
    await course.finish()
    for chain, selector in course.wanted.items():
        published = course.history.updates
        hub = [u.data.decode() for u in published if selector.wants(u.topics, u.private)]
        assert [data for data in course.seen[chain] if "=" not in data] == hub
        if not course.forgets:
            changes = [e for e in course.catalog.events if selector.wants_catalog(e.topic)]
            told = [data for data in course.seen[chain] if "=" in data]
            assert told == [e.data.decode() for e in changes]
    assert all(each.state is State.LIVE for each in course.readers.all())
    await course.readers.stop()
