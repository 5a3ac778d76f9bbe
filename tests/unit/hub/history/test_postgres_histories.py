"""Two hubs' histories over one PostgreSQL server: what a reader gets from either."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from tests.harness.capabilities import require
from tests.harness.eventually import eventually
from tests.harness.histories import Clock, publishing
from tests.harness.postgres import PostgresServer, serving

from callboard.hub.cursor import Cursor, Place, parse
from callboard.hub.event import Publication, Update
from callboard.hub.history.postgres import PostgresStore
from callboard.hub.history.ring import Ring
from callboard.hub.history.store import Bound, Retention
from callboard.hub.history.stored import StoredHistory
from callboard.hub.ports import HistoryBusy

LARGE = 1 << 30

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    require("postgres")
    with serving() as server:
        yield server


@asynccontextmanager
async def history(
    url: str, ring: Ring | None = None, retention: Retention | None = None
) -> AsyncIterator[StoredHistory]:
    """A hub's history."""
    reasons: list[str] = []
    retention = retention or Retention()
    made = StoredHistory(
        PostgresStore(url, retention),
        retention,
        clock=Clock(),
        fatal=reasons.append,
        ring=ring,
    )
    await made.start()
    try:
        yield made
    finally:
        await made.close()
    assert reasons == []


async def publish(at: StoredHistory, text: str) -> Update:
    return await publishing(at, Publication(("/t",), text.encode()))


async def following(at: StoredHistory, cursor: Cursor | None) -> list[str]:
    """What a reader gets that comes back with a cursor, told from memory or the store."""
    assert cursor is not None
    resume = await at.locate(cursor)
    assert resume.gap is None
    after, got = resume.after, list[str]()
    while after < at.head:
        page: Sequence[Update] | None = at.recent(after, LARGE)
        page = page if page is not None else await at.read(after, LARGE)
        got += [update.data.decode() for update in page]
        after = page[-1].offset
    return got


async def test_what_is_published_at_either_hub_is_read_at_both_in_one_order(
    server: PostgresServer,
) -> None:
    url = server.database()
    async with history(url) as first, history(url) as second:
        seen: tuple[list[str], list[str]] = ([], [])
        first.listen(lambda updates: seen[0].extend(u.id for u in updates))
        second.listen(lambda updates: seen[1].extend(u.id for u in updates))
        published = await asyncio.gather(
            *(publish(hub, f"{n}") for n in range(64) for hub in (first, second))
        )
        await eventually(lambda: len(seen[0]) == len(seen[1]) == 128)
        assert seen[0] == seen[1]
        assert sorted(seen[0]) == sorted(update.id for update in published)
        assert await following(first, Cursor(earliest=True)) == await following(
            second, Cursor(earliest=True)
        )


@pytest.mark.parametrize("count_max", [1, 1000])
async def test_a_reader_of_a_hub_that_died_resumes_on_another_without_gap_or_repeat(
    server: PostgresServer, count_max: int
) -> None:
    """With what it needs in the other one's memory, and without."""
    url = server.database()
    async with history(url, Ring(count_max=count_max)) as survivor:
        async with AsyncExitStack() as stack:
            dying = await stack.enter_async_context(history(url))
            updates = [await publish((dying, survivor)[n % 2], f"{n}") for n in range(10)]
        await publish(survivor, "after")
        for n, update in enumerate(updates):
            rest = [f"{m}" for m in range(n + 1, 10)]
            assert await following(survivor, parse(update.id)) == [*rest, "after"]


async def test_a_hub_that_has_not_seen_a_place_yet_waits_for_it(server: PostgresServer) -> None:
    url = server.database()
    async with history(url) as first, history(url) as second:
        for number in range(20):
            update = await publish(first, f"{number}")
            assert await following(second, parse(update.id)) == []


async def test_what_is_purged_at_one_hub_is_forgotten_at_both(server: PostgresServer) -> None:
    url = server.database()
    async with history(url) as first, history(url) as second:
        for text in ("a", "b"):
            await publish(first, text)
        await eventually(lambda: second.head == 2)
        assert await first.purge("/t") == 2
        assert not first.recent(0, LARGE)
        await eventually(lambda: not second.recent(0, LARGE))
        await publish(second, "c")
        assert await following(second, Cursor(earliest=True)) == ["c"]
        await eventually(lambda: first.head == 3)
        assert await following(first, Cursor(earliest=True)) == ["c"]


async def test_what_one_hub_trims_is_forgotten_at_both(server: PostgresServer) -> None:
    url = server.database()
    few = Retention(Bound(count=2))
    async with history(url) as first, history(url, retention=few) as second:
        for number in range(5):
            update = await publish(first, f"{number}")
        await eventually(lambda: second.head == 5)
        await second.trim()
        for at in (first, second):
            await eventually(lambda at=at: at.oldest == 4)  # type: ignore[misc]
            assert [u.data for u in at.recent(0, LARGE) or ()] == [b"3", b"4"]
            assert (await at.locate(Cursor(Place(update.epoch, 1)))).gap is not None
            assert await following(at, Cursor(earliest=True)) == ["3", "4"]


async def test_memory_keeps_what_a_hub_put_under_a_prefix_that_it_knows(
    server: PostgresServer,
) -> None:
    url = server.database()
    other = Retention(Bound(), {"/t": Bound(count=2)})
    async with history(url) as first, history(url, retention=other) as second:
        for number in range(5):
            await publish(first, f"{number}")
        await eventually(lambda: second.head == 5)
        await second.trim()
        kept = await second.read(0, LARGE)
        assert [u.offset for u in second.recent(0, LARGE) or ()] == [u.offset for u in kept]
        assert len(kept) == 5


async def test_readers_keep_what_memory_has_while_the_server_is_away(
    server: PostgresServer,
) -> None:
    url = server.database()
    async with history(url) as hub:
        update = await publish(hub, "a")
        await publish(hub, "b")
        server.kill()
        assert await following(hub, parse(update.id)) == ["b"]
        server.start()
        await eventually(server.answers)

        async def taken() -> Update | None:
            try:
                return await publish(hub, "c")
            except HistoryBusy:
                return None

        last: Update | None = await eventually(taken)
        assert last is not None
        assert last.offset == 3
        assert await following(hub, parse(update.id)) == ["b", "c"]


async def test_a_read_that_finds_the_server_away_goes_on_when_it_is_back(
    server: PostgresServer,
) -> None:
    async with history(server.database(), Ring(count_max=1)) as hub:
        update = await publish(hub, "a")
        await publish(hub, "b")
        await publish(hub, "c")
        server.kill()
        reading = asyncio.create_task(following(hub, parse(update.id)))
        server.start()
        assert await reading == ["b", "c"]
