"""Readers that come together do not come back together: lives and reconnection times are spread."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tests.harness.hub_stand import MemoryHistory, NaiveIndex, Pipe, topics

from callboard.hub.ports import Subscription
from callboard.hub.subscribers import readers as module
from callboard.hub.subscribers.limits import Times
from callboard.hub.subscribers.readers import Readers
from callboard.serve.timerwheel import TimerWheel

LIFE_S = 600.0


@asynccontextmanager
async def readers_of_a_hub(times: Times | None = None) -> AsyncIterator[Readers]:
    """Readers, and none yet."""
    wheel = TimerWheel(asyncio.get_running_loop())
    made = Readers(
        MemoryHistory(), None, NaiveIndex(), wheel=wheel, times=times, rng=random.Random(1)
    )
    yield made
    await made.stop()
    wheel.close()


async def connect(readers: Readers, count: int) -> None:
    """So many streams begin, and stay."""
    for _ in range(count):
        Pipe().open((await readers.open(Subscription(topics("/a")))).sink)


async def retries_ms(readers: Readers, count: int = 200) -> list[int]:
    """The reconnection times of those who come next; they have no connection, and do not count."""
    return [(await readers.open(Subscription(topics("/a")))).sink.retry_ms for _ in range(count)]


async def test_lives_of_readers_that_begin_together_differ_by_a_fifth_at_most() -> None:
    loop = asyncio.get_running_loop()
    async with readers_of_a_hub(Times(life_s=LIFE_S)) as readers:
        first = loop.time()
        await connect(readers, 500)
        last = loop.time()
        ends_at = sorted(each.ends_at for each in readers.all())
    assert first + 0.8 * LIFE_S <= ends_at[0]
    assert ends_at[-1] <= last + 1.2 * LIFE_S
    # whatever the beginnings took of it, the ends are nearly the two fifths apart, and not in heaps
    assert ends_at[-1] - ends_at[0] > (last - first) + 0.35 * LIFE_S
    widest = max(then - now for now, then in itertools.pairwise(ends_at))
    assert widest < 0.05 * LIFE_S


async def test_a_life_without_end_is_not_spread() -> None:
    async with readers_of_a_hub(Times(life_s=0.0)) as readers:
        await connect(readers, 3)
        assert {each.ends_at for each in readers.all()} == {float("inf")}


async def test_the_more_readers_there_are_the_longer_they_are_spread_over() -> None:
    async with readers_of_a_hub() as readers:
        alone = await retries_ms(readers)
        await connect(readers, 5_000)
        crowded = await retries_ms(readers)
    assert 1_000 <= min(alone) < max(alone) <= 5_000
    assert 1_000 <= min(crowded) < max(crowded) <= 10_000
    assert sum(each > 5_001 for each in crowded) > 80  # (five ninths of them, by chance)
    assert max(crowded) > 9_000


async def test_no_reader_waits_longer_than_the_longest_reconnection_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "READERS_PER_RETRY_S", 1)  # 100 stand for 100,000
    async with readers_of_a_hub() as readers:
        await connect(readers, 100)
        retries = await retries_ms(readers)
    assert 14_000 < max(retries) <= 15_000
    assert min(retries) < 2_000
