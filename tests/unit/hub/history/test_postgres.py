"""The store of several hubs, against a real server: what is appended, told and read."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import psycopg
import pytest
from tests.harness.capabilities import require
from tests.harness.eventually import eventually
from tests.harness.postgres import PostgresServer, serving
from tests.harness.postgres_stores import NOW_MS, Hub, draft, hubs, seen

from callboard.hub.event import Publication, Update
from callboard.hub.history.postgres import PostgresStore
from callboard.hub.history.store import Bound, Draft, Retention

LARGE = 1 << 30

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    require("postgres")
    with serving() as server:
        yield server


@pytest.fixture
def url(server: PostgresServer) -> str:
    """A database of the test's own."""
    return server.database()


async def everything(hub: Hub) -> list[Update]:
    return list((await hub.store.read(0, LARGE, 100_000)).updates)


# ---------------------------------------------------------------------------- appending


async def test_an_empty_database_becomes_a_history_of_one_epoch(url: str) -> None:
    async with hubs(url) as [hub]:
        assert (hub.standing.head, hub.standing.oldest) == (0, 1)
        assert [epoch.first for epoch in hub.standing.epochs] == [1]
        assert len(hub.standing.epochs[0].name) == 12


async def test_an_update_comes_back_as_it_was_published(url: str) -> None:
    publication = Publication(
        ("/a", "/b"), b"\0\xc3\xa9\n", "alarm", "own", private=True, retry_ms=3000
    )
    async with hubs(url) as [hub]:
        [given] = await hub.store.append([Draft(publication, NOW_MS)])
        [kept] = await everything(hub)
    for update in (given, kept, hub.told[0]):
        assert seen(update) == (1, "own", NOW_MS, ("/a", "/b"), b"\0\xc3\xa9\n")
        assert (update.type, update.private, update.retry_ms) == ("alarm", True, 3000)


async def test_what_one_hub_appends_all_are_told_with_the_same_ids(url: str) -> None:
    async with hubs(url, 3) as all_hubs:
        for number in range(6):
            await all_hubs[number % 3].publish(str(number))
        await eventually(lambda: all(len(hub.told) == 6 for hub in all_hubs))
        assert all_hubs[0].seen == all_hubs[1].seen == all_hubs[2].seen
        assert all_hubs[0].offsets == [1, 2, 3, 4, 5, 6]


async def test_64_concurrent_appends_of_two_hubs_leave_no_gap(url: str) -> None:
    async with hubs(url, 2) as [first, second]:
        answers = await asyncio.gather(
            *(hub.publish(f"{n}.0", f"{n}.1") for n in range(32) for hub in (first, second))
        )
        await eventually(lambda: len(first.told) == len(second.told) == 128)
        assert first.offsets == list(range(1, 129))
        assert first.seen == second.seen
        assert sorted(u.offset for batch in answers for u in batch) == first.offsets
        assert [seen(u) for u in await everything(first)] == first.seen


async def test_an_append_was_told_by_the_time_it_is_answered(url: str) -> None:
    async with hubs(url, 2) as [first, second]:

        async def publish(hub: Hub) -> None:
            for number in range(20):
                [update] = await hub.publish(str(number))
                assert hub.told[-1].offset >= update.offset

        await asyncio.gather(publish(first), publish(second))


async def test_time_never_goes_backwards(url: str) -> None:
    async with hubs(url, 2) as [first, second]:
        await first.store.append([draft("a", time_ms=NOW_MS)])
        [late] = await second.store.append([draft("b", time_ms=NOW_MS - 5000)])
        assert late.time_ms == NOW_MS


async def test_a_key_that_is_known_gets_the_first_ones_update_on_any_hub(url: str) -> None:
    async with hubs(url, 2) as [first, second]:
        [one] = await first.store.append([draft("a", key="k", own_id="mine")])
        again, new = await second.store.append([draft("b", key="k"), draft("c")])
        assert (again.offset, again.id, again.time_ms) == (one.offset, "mine", one.time_ms)
        assert again.data == b"b"
        assert new.offset == 2
        await eventually(lambda: len(second.told) == 2)
        assert [u.data for u in second.told] == [b"a", b"c"]


async def test_a_key_that_comes_twice_in_one_batch_makes_one_update(url: str) -> None:
    async with hubs(url) as [hub]:
        drafts = [draft("a", key="k"), draft("b", key="k"), draft("c", key="l"), draft("d")]
        answers = await hub.store.append(drafts)
        assert [u.offset for u in answers] == [1, 1, 2, 3]
        assert [u.data for u in answers] == [b"a", b"b", b"c", b"d"]
        assert [u.data for u in hub.told] == [b"a", b"c", b"d"]


async def test_a_batch_of_repeats_alone_tells_nobody_anything(url: str) -> None:
    async with hubs(url) as [hub]:
        await hub.store.append([draft("a", key="k")])
        [again] = await hub.store.append([draft("a", key="k")])
        assert (again.offset, hub.offsets) == (1, [1])


async def test_a_key_is_forgotten_after_so_many_publications_or_so_long(url: str) -> None:
    retention = Retention(keys_count=3, keys_age_s=60.0)
    async with hubs(url, 1, retention) as [hub]:
        await hub.store.append([draft("a", key="many"), draft("b", key="long")])
        await hub.publish("c", "d")
        answers = await hub.store.append([draft("e", key="many"), draft("f", key="long")])
        assert [u.offset for u in answers] == [5, 2]
        [late] = await hub.store.append([draft("g", key="many", time_ms=NOW_MS + 61_000)])
        assert late.offset == 6


async def test_a_repeated_own_id_is_an_update_of_its_own_and_found_at_the_first(url: str) -> None:
    async with hubs(url) as [hub]:
        await hub.store.append([draft("a", own_id="x"), draft("b", own_id="x"), draft("c")])
        assert [await hub.store.find(own_id) for own_id in ("x", "y", "")] == [1, None, None]


# ---------------------------------------------------------------------------- reading


async def test_a_page_ends_at_either_limit_and_has_one_update_at_least(url: str) -> None:
    async with hubs(url) as [hub]:
        updates = await hub.publish("a", "b", "c", "d")
        size = updates[0].size

        async def page(after: int, bytes_max: int, count_max: int) -> list[int]:
            found = await hub.store.read(after, bytes_max, count_max)
            return [update.offset for update in found.updates]

        assert await page(0, LARGE, 10) == [1, 2, 3, 4]
        assert await page(1, LARGE, 2) == [2, 3]
        assert await page(1, 2 * size, 10) == [2, 3]
        assert await page(1, 1, 10) == [2]
        assert await page(4, LARGE, 10) == []


async def test_the_newest_are_of_no_more_than_either_limit(url: str) -> None:
    async with hubs(url) as [hub]:
        updates = await hub.publish("a", "b", "c", "d")
        for limits, offsets in (
            ((LARGE, 10), [1, 2, 3, 4]),
            ((LARGE, 2), [3, 4]),
            ((3 * updates[0].size, 10), [2, 3, 4]),
            ((1, 10), []),
        ):
            assert [u.offset for u in await hub.store.newest(*limits)] == offsets


async def test_headers_come_newest_first_of_all_topics_or_of_some(url: str) -> None:
    async with hubs(url) as [hub]:
        await hub.store.append(
            [draft("1", "/a"), draft("2", "/b"), draft("3", "/a", "/c"), draft("4", "/c")]
        )
        for topics, offsets in (
            ((), [3, 2, 1]),
            (("/a",), [3, 1]),
            (("/a", "/b", "/c"), [3, 2, 1]),
        ):
            assert [h.offset for h in await hub.store.headers(4, 10, topics)] == offsets
        [header] = await hub.store.headers(4, 1, ("/c", "/a"))
        assert (header.offset, header.topics, header.private) == (3, ("/a", "/c"), False)


async def test_a_time_is_found_at_the_first_update_that_is_not_before_it(url: str) -> None:
    async with hubs(url) as [hub]:
        for after_ms in (0, 10, 10, 20):
            await hub.store.append([draft("x", time_ms=NOW_MS + after_ms)])
        found = [await hub.store.at_time(NOW_MS + ms) for ms in (-1, 0, 1, 10, 11, 21)]
        assert found == [1, 1, 2, 2, 4, 5]


# ---------------------------------------------------------------------------- trimming


async def test_trimming_keeps_what_the_longest_prefix_says(url: str) -> None:
    retention = Retention(Bound(count=3), {"/log": Bound(count=1), "/log/kept": Bound()})
    async with hubs(url, 1, retention) as [hub]:
        for topic in ("/log/a", "/log/kept", "/x", "/log/b", "/x", "/x", "/x"):
            await hub.publish("-", topic=topic)
        trimmed = await hub.store.trim(NOW_MS)
        assert trimmed.trimmed == {"": 3, "/log": 1, "/log/kept": 0}
        assert (trimmed.oldest, trimmed.more) == (2, False)
        assert [u.offset for u in await everything(hub)] == [2, 4, 5, 6, 7]


async def test_bytes_and_age_bound_too(url: str) -> None:
    async with hubs(url) as [hub]:
        size = (await hub.publish("a", "b", "c", "d"))[0].size
    for bound, oldest in (
        (Bound(bytes=3 * size), 2),
        (Bound(bytes=3 * size - 1), 3),
        (Bound(age_s=1.0), 5),
    ):
        async with hubs(url, 1, Retention(bound)) as [hub]:
            assert (await hub.store.trim(NOW_MS + 1001)).oldest == oldest


async def test_an_update_that_is_trimmed_counts_for_the_prefix_of_each_of_its_topics(
    url: str,
) -> None:
    retention = Retention(Bound(), {"/short": Bound(count=0), "/long": Bound()})
    async with hubs(url, 1, retention) as [hub]:
        await hub.store.append([draft("a", "/short", "/long/x"), draft("b", "/other")])
        assert (await hub.store.trim(NOW_MS)).trimmed == {"": 0, "/long": 1, "/short": 1}
        assert await hub.store.headers(9, 9, ("/long/x",)) == []


async def test_trimming_comes_in_slices(url: str) -> None:
    async with hubs(url, 1, Retention(Bound(count=0))) as [hub]:
        await hub.publish(*("x" * 1200))
        slices = [await hub.store.trim(NOW_MS) for _ in range(3)]
        assert [(s.oldest, s.more) for s in slices] == [(501, True), (1001, True), (1201, False)]


async def test_what_one_hub_trims_the_other_learns_with_its_next_page(url: str) -> None:
    async with hubs(url, 2, Retention(Bound(count=1))) as [first, second]:
        await first.publish("a", "b", "c")
        await first.store.trim(NOW_MS)
        page = await second.store.read(0, LARGE, 10)
        assert (page.oldest, page.trimmed, [u.offset for u in page.updates]) == (3, {"": 2}, [3])


async def test_offsets_go_on_after_all_was_trimmed_and_all_hubs_ended(url: str) -> None:
    async with hubs(url, 1, Retention(Bound(count=0))) as [hub]:
        await hub.publish("a", "b")
        await hub.store.trim(NOW_MS)
    async with hubs(url) as [hub]:
        assert (hub.standing.head, hub.standing.oldest) == (2, 3)
        assert [u.offset for u in await hub.publish("c")] == [3]


async def test_what_was_trimmed_stays_known_when_the_prefixes_change(url: str) -> None:
    short = Bound(count=0)
    async with hubs(url, 1, Retention(Bound(), {"/a": short})) as [hub]:
        for topic in ("/a/b/c", "/a/x", "/y"):
            await hub.publish("-", topic=topic)
        await hub.store.trim(NOW_MS)
    for prefixes, trimmed in (
        (("/a/b",), {"": 2, "/a/b": 2}),
        (("/a", "/z"), {"": 2, "/a": 2, "/z": 2}),
        ((), {"": 2}),
    ):
        async with hubs(url, 1, Retention(Bound(), dict.fromkeys(prefixes, short))) as [hub]:
            assert hub.standing.trimmed == trimmed


async def test_counts_follow_when_the_prefixes_change(url: str) -> None:
    async with hubs(url) as [hub]:
        for topic in ("/a", "/b", "/a", "/b", "/a"):
            await hub.publish("-", topic=topic)
    async with hubs(url, 1, Retention(Bound(), {"/a": Bound(count=1)})) as [hub]:
        await hub.store.trim(NOW_MS)
        assert [u.offset for u in await everything(hub)] == [2, 4, 5]


async def test_hubs_that_know_other_prefixes_hide_no_trimming_from_each_other(url: str) -> None:
    async with (
        hubs(url, 1, Retention(Bound(), {"/a": Bound()})) as [first],
        hubs(url, 1, Retention(Bound(count=0))) as [second],
    ):
        await first.publish("x", topic="/a/b")
        await second.store.trim(NOW_MS)
        assert (await first.store.read(0, LARGE, 9)).trimmed == {"": 1, "/a": 1}


async def test_hubs_that_ended_long_ago_are_forgotten(url: str) -> None:
    async with hubs(url) as [hub]:
        await hub.publish("a")
    week_ms = 7 * 86_400_000
    async with hubs(url) as [hub]:
        for now_ms, writers in ((NOW_MS + week_ms, 2), (NOW_MS + week_ms + 1, 1)):
            await hub.store.append([draft("b", time_ms=now_ms)])
            await hub.store.trim(NOW_MS)
            with psycopg.connect(url) as connection:
                counted = connection.execute("SELECT count(*) FROM callboard_hub.writers")
                assert counted.fetchone() == (writers,)


# ---------------------------------------------------------------------------- purging


async def test_a_purge_takes_whole_updates_and_no_others(url: str) -> None:
    async with hubs(url, 2) as [first, second]:
        await first.store.append([draft("1", "/a"), draft("2", "/b", "/a"), draft("3", "/b")])
        assert await first.store.purge("/a") == 2
        assert await first.store.purge("/a") == 0
        assert [u.offset for u in await everything(second)] == [3]
        await eventually(lambda: second.purged == [("/a", 3)])
        assert (await second.store.trim(NOW_MS)).trimmed == {"": 0}
        assert [u.offset for u in await first.publish("4")] == [4]


async def test_a_purge_of_many_takes_all(url: str) -> None:
    async with hubs(url) as [hub]:
        await hub.publish(*("x" * 1200))
        assert await hub.store.purge("/t") == 1200
        assert await everything(hub) == []


async def test_bounds_do_not_count_what_was_purged(url: str) -> None:
    async with hubs(url, 1, Retention(Bound(count=2))) as [hub]:
        await hub.publish("a", "b", topic="/gone")
        await hub.publish("c", "d")
        await hub.store.purge("/gone")
        await hub.store.trim(NOW_MS)
        assert [u.offset for u in await everything(hub)] == [3, 4]


# ---------------------------------------------------------------------------- beginning


async def test_hubs_that_start_together_make_one_history(url: str) -> None:
    made = [Hub(url) for _ in range(12)]
    await asyncio.gather(*(hub.open() for hub in made))
    try:
        assert len({hub.standing.epochs for hub in made}) == 1
    finally:
        for hub in made:
            await hub.store.close()


async def test_a_hub_that_comes_later_is_told_what_follows_its_standing(url: str) -> None:
    async with hubs(url) as [first]:
        await first.publish("a", "b")
        async with hubs(url) as [second]:
            assert second.standing.head == 2
            await first.publish("c")
            await eventually(lambda: second.offsets == [3])


@pytest.mark.parametrize("setting", ["synchronous_commit = off"])
async def test_a_server_that_would_lose_updates_is_refused(
    server: PostgresServer, setting: str
) -> None:
    with pytest.raises(ValueError, match=r"synchronous_commit is off: a power cut would lose"):
        await Hub(server.database(setting)).open()


async def test_a_server_without_fsync_is_refused() -> None:
    require("postgres")
    refused = pytest.raises(ValueError, match=r"fsync is off: a power cut would lose")
    with serving("fsync=off") as careless, refused:
        await Hub(careless.url()).open()


async def test_a_database_of_another_encoding_is_refused(server: PostgresServer) -> None:
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
    with pytest.raises(ValueError, match=r"encoding is LATIN1, and must be UTF8"):
        await Hub(server.url("latin")).open()


async def test_another_format_is_refused(url: str) -> None:
    async with hubs(url):
        pass
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE callboard_hub.state SET format = 2")
    with pytest.raises(ValueError, match=r"the format is 2, and this program knows 1"):
        await Hub(url).open()


async def test_a_user_without_rights_is_told_so(server: PostgresServer, url: str) -> None:
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute("CREATE ROLE guest LOGIN")
    with pytest.raises(OSError, match="permission denied for database"):
        await Hub(url.replace("callboard@", "guest@")).open()


@pytest.mark.parametrize("text", ["postgresql://[::1/", "nonsense", "postgresql://h/?no=1"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not an address of PostgreSQL"):
        PostgresStore(text, Retention())
