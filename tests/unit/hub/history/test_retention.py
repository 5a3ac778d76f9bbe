"""What is kept, and what readers are told of what is not: bounds by prefix, keys, purging."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.harness.eventually import eventually
from tests.harness.histories import Beginning, Clock, Exact, Running, Wants, running, wants

from callboard.hub.cursor import Cursor, Place
from callboard.hub.event import Update
from callboard.hub.history.ring import Ring
from callboard.hub.history.store import Acknowledge, Bound, Retention

PREFIXES = Retention(
    Bound(count=100), {"stats/": Bound(count=3), "stats/cpu/": Bound(count=5), "log/": Bound()}
)


def in_memory(one: Running, after: int = 0) -> list[int]:
    """The offsets that readers get from memory."""
    return [update.offset for update in one.history.recent(after, 1 << 30) or ()]


def test_the_longest_prefix_is_a_topics_own() -> None:
    assert PREFIXES.prefix_of("stats/cpu/1") == "stats/cpu/"
    assert PREFIXES.prefix_of("stats/mem") == "stats/"
    assert PREFIXES.prefix_of("other") == ""
    assert PREFIXES.bound("stats/") == Bound(count=3)
    assert PREFIXES.bound("") == Bound(count=100)


async def test_each_prefix_keeps_its_own_count(tmp_path: Path) -> None:
    async with running(tmp_path / "h", retention=PREFIXES) as one:
        topics = ["stats/mem", "stats/cpu/1", "log/x", "other"]
        await one.publish_all([(f"{n}", topics[n % 4]) for n in range(480)])
        await one.trim()
        kept = await one.all()
        count = {topic: sum(u.topics == (topic,) for u in kept) for topic in topics}
        assert count == {"stats/mem": 3, "stats/cpu/1": 5, "log/x": 120, "other": 100}
        assert [u.data for u in kept if u.topics == ("stats/mem",)] == [b"468", b"472", b"476"]
        assert one.history.head == 480


async def test_bytes_bound_what_is_kept(tmp_path: Path) -> None:
    async with running(tmp_path / "h") as one:
        size = (await one.publish("x" * 100)).size
    async with running(tmp_path / "h", retention=Retention(Bound(bytes=10 * size))) as one:
        await one.publish_all([("x" * 100, "t")] * 50)
        await one.trim()
        assert [u.offset for u in await one.all()] == list(range(42, 52))


async def test_age_bounds_what_is_kept_without_any_publication(tmp_path: Path) -> None:
    clock = Clock()
    async with running(tmp_path / "h", retention=Retention(Bound(age_s=60)), clock=clock) as one:
        await one.publish_all([("x", "t")] * 5)
        clock.now += 50
        await one.publish_all([("x", "t")] * 5)
        clock.now += 20
        await one.trim()
        assert [u.offset for u in await one.all()] == [6, 7, 8, 9, 10]
        clock.now += 100
        await eventually(lambda: one.history.oldest == 11)
        assert one.history.head == 10
    async with running(tmp_path / "h", retention=Retention(Bound(age_s=60)), clock=clock) as one:
        assert (one.history.oldest, one.history.head) == (11, 10)
        assert (await one.publish()).offset == 11


async def test_trimming_goes_in_slices(tmp_path: Path) -> None:
    async with running(tmp_path / "h", retention=Retention(Bound(count=10))) as one:
        await one.publish_all([("x", "t")] * 1700)
        slices = 1
        while (await one.store.trim(0)).more:
            slices += 1
        assert slices == 4
        assert len(await one.all()) == 10


async def test_a_reader_of_what_was_trimmed_is_told_of_a_gap(tmp_path: Path) -> None:
    async with running(tmp_path / "h", retention=PREFIXES, ring=Ring(count_max=5)) as one:
        await one.publish_all([(f"{n}", f"stats/{n % 2}") for n in range(20)])
        await one.publish_all([("x", "log/x")] * 10)
        await one.trim()
        await one.history.read(0, 1)
        cursor = Cursor(Place(one.history.epoch, 4))
        found = await one.history.locate(cursor, wants("stats/0"))
        assert found.after == 4
        assert found.gap is not None
        assert found.gap.requested == f"#{one.history.epoch}.4"
        assert found.gap.oldest == f"#{one.history.epoch}.17"
        assert found.gap.newest == f"#{one.history.epoch}.30"
        assert found.gap.lost == 13
        reads_on = Cursor(Place(one.history.epoch, 17))
        assert (await one.history.locate(reads_on, wants("stats/0"))).gap is None


async def test_a_hole_is_no_gap_for_readers_of_other_topics(tmp_path: Path) -> None:
    async with running(tmp_path / "h", retention=PREFIXES, ring=Ring(count_max=5)) as one:
        await one.publish_all([("x", "log/x"), *[("x", "stats/a")] * 20, ("y", "log/x")])
        await one.publish_all([("x", "stats/cpu/a")] * 10)
        await one.trim()
        cursor = Cursor(Place(one.history.epoch, 1))
        for selector in (wants("log/x"), wants("other"), Wants((Beginning("log/"),))):
            assert (await one.history.locate(cursor, selector)).gap is None
            assert one.history.trimmed(selector) == 0
        for selector, mark in (
            (wants("stats/a"), 18),
            (wants("log/x", "stats/b"), 18),
            (wants("stats/cpu/q"), 27),
            (Wants((Beginning("stats/cpu/a/"),)), 27),
            (Wants((Beginning("stats/c"),)), 27),
            (Wants((Beginning("stats/m"),)), 18),
            (Wants((Beginning(""),)), 27),
            (Wants((Beginning("log/", kind="urlpattern"),)), 27),
        ):
            await one.history.read(0, 1)
            assert one.history.trimmed(selector) == mark, selector
        gap = one.history.gap(1, 18)
        assert gap.oldest == f"#{one.history.epoch}.18"
        assert gap.lost is None


async def test_memory_serves_what_is_kept_and_a_gap_is_told(tmp_path: Path) -> None:
    async with running(tmp_path / "h", retention=Retention(Bound(count=1))) as one:
        await one.publish_all([("x", "t")] * 20)
        await one.trim()
        found = await one.history.locate(Cursor(Place(one.history.epoch, 3)), wants("t"))
        assert found.gap is not None
        assert found.gap.lost == 16
        assert in_memory(one, 3) == [20]


async def test_memory_forgets_what_is_too_old_whatever_it_has_room_for(tmp_path: Path) -> None:
    clock = Clock()
    retention = Retention(Bound(), {"age/": Bound(age_s=2)})
    async with running(tmp_path / "h", retention=retention, clock=clock) as one:
        await one.publish_all([("x", "age/1"), ("x", "age/2")])
        clock.now += 3
        # by the history's own task
        await eventually(lambda: one.history.recent(0, 1 << 20) is None)
        assert await one.all() == []
        assert (await one.history.locate(Cursor(earliest=True))).after == 2
        assert await one.history.since(0) == 2
        assert await one.history.last(10, wants("age/1")) == 2
        assert await one.history.last(10, Wants((Beginning("age/"),))) == 2
        found = await one.history.locate(Cursor(Place(one.history.epoch, 1)), wants("age/2"))
        assert found.gap is not None
        await one.publish_all([("y", "age/1"), ("y", "other")])
        assert in_memory(one) == [3, 4]
        clock.now += 3
        await eventually(lambda: in_memory(one) == [4])
        assert await one.history.since(0) == 3
        assert await one.history.last(10, Wants((Beginning(""),))) == 3


async def test_memory_forgets_by_count_and_prefix_what_the_store_does(tmp_path: Path) -> None:
    async with running(tmp_path / "h", retention=PREFIXES) as one:
        topics = ["stats/mem", "stats/cpu/1", "log/x stats/mem", "other"]
        for _ in range(3):
            await one.publish_all([(f"{n}", topics[n % 4]) for n in range(480)])
            await one.trim()
            kept = [update.offset for update in await one.all()]
            assert in_memory(one) == kept
            assert one.history.ring.bytes == sum(update.size for update in await one.all())
        template = Wants((Beginning("stats/c"),))
        exact = await one.history.last(100, wants("stats/cpu/1"))
        assert await one.history.last(100, template) == exact == 1440 - 3 - 4 * 4


async def test_memory_forgets_by_bytes(tmp_path: Path) -> None:
    async with running(tmp_path / "h") as one:
        size = (await one.publish("x" * 100)).size
    async with running(tmp_path / "h", retention=Retention(Bound(bytes=10 * size))) as one:
        await one.publish_all([("x" * 100, "t")] * 50)
        await one.trim()
        assert in_memory(one) == list(range(42, 52))
        assert one.history.ring.bytes == 10 * size


async def test_what_is_not_written_yet_stays_in_memory_whatever_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    retention = Retention(Bound(count=2))
    async with running(tmp_path / "h", Acknowledge.MEMORY, retention) as one:
        await one.publish_all([("x", "t")] * 10)
        await one.history._flushed()
        with monkeypatch.context() as patch:
            may_write = asyncio.Event()
            write = one.store.write

            async def later(batch: Sequence[tuple[Update, str]]) -> None:
                await may_write.wait()
                await write(batch)

            patch.setattr(one.store, "write", later)
            await one.publish_all([("x", "t")] * 10)
            await one.trim()
            assert in_memory(one) == list(range(9, 21))
            may_write.set()
            await one.history._flushed()
            await one.trim()
            assert in_memory(one) == [19, 20]


async def test_what_was_purged_at_the_end_is_not_waited_for_in_memory(tmp_path: Path) -> None:
    async with running(tmp_path / "h") as one:
        await one.publish_all([("x", "t"), ("x", "gone"), ("x", "gone")])
        await one.history.purge("gone")
        assert one.history.recent(1, 1 << 20) is None
        assert await one.history.read(1, 1 << 20) == []
        assert one.history.recent(3, 1 << 20) == ()


async def test_an_update_that_is_trimmed_counts_for_all_its_topics(tmp_path: Path) -> None:
    async with running(tmp_path / "h", retention=PREFIXES, ring=Ring(count_max=1)) as one:
        await one.publish_all([("x", "stats/a log/also")] * 5)
        await one.trim()
        await one.history.read(0, 1)
        assert one.history.trimmed(wants("log/also")) == 2
        assert one.history.trimmed(wants("other")) == 0


async def test_what_was_trimmed_is_known_after_a_start(tmp_path: Path) -> None:
    async with running(tmp_path / "h", retention=PREFIXES) as one:
        await one.publish_all([("x", "stats/a")] * 5)
        await one.trim()
    async with running(tmp_path / "h", retention=PREFIXES) as one:
        assert one.history.trimmed(wants("stats/a")) == 2
        assert one.history.oldest == 3


async def test_other_prefixes_at_a_start_sort_what_is_kept_anew(tmp_path: Path) -> None:
    before = Retention(Bound(), {"a/": Bound(count=3), "b/": Bound()})
    after = Retention(Bound(), {"a/x/": Bound(count=1), "b/": Bound(count=2)})
    async with running(tmp_path / "h", retention=before) as one:
        await one.publish_all([("x", topic) for topic in ("a/x/1", "a/y", "b/1", "c") * 4])
        await one.trim()
        assert len(await one.all()) == 11
    async with running(tmp_path / "h", retention=after) as one:
        assert one.history.trimmed(wants("a/x/1")) == 9
        assert one.history.trimmed(wants("a/y")) == 9
        assert one.history.trimmed(wants("b/1")) == 0
        assert one.history.trimmed(Wants((Exact("c"),))) == 9
        await one.trim()
        kept = [u.topics[0] for u in await one.all()]
        assert {t: kept.count(t) for t in set(kept)} == {"a/x/1": 1, "a/y": 2, "b/1": 2, "c": 4}


async def test_keys_are_forgotten_by_count_and_by_age(tmp_path: Path) -> None:
    clock = Clock()
    retention = Retention(keys_count=10, keys_age_s=60)
    for mode in Acknowledge:
        async with running(tmp_path / mode.value, mode, retention, clock=clock) as one:
            await one.publish(idempotency_key="k")
            await one.publish_all([("x", "t")] * 9)
            await one.trim()
            assert (await one.publish(idempotency_key="k")).offset == 1
            await one.publish(idempotency_key="l")
            await one.history._flushed()
            await one.trim()
            assert (await one.publish(idempotency_key="k")).offset == 12
            clock.now += 61
            await one.publish(idempotency_key="m")
            await one.history._flushed()
            await one.trim()
            assert (await one.publish(idempotency_key="l")).offset == 14


# ---------------------------------------------------------------------------- purge


@pytest.mark.parametrize("mode", list(Acknowledge))
async def test_a_purged_topic_is_forgotten_in_memory_and_on_the_disk(
    tmp_path: Path, mode: Acknowledge
) -> None:
    async with running(tmp_path / "h", mode) as one:
        await one.publish_all([("keep", "a"), ("secret-1", "gone"), ("secret-2", "b gone")])
        await one.publish("secret-3", "gone c", own_id="mine")
        assert await one.history.purge("gone") == 3
        assert await one.data() == ["keep"]
        assert [u.data for u in one.history.recent(0, 1 << 20) or ()] == [b"keep"]
        assert (await one.history.locate(Cursor(own_id="mine"))).gap is not None
        assert (await one.publish()).offset == 5
        held = b"".join(p.read_bytes() for p in (tmp_path / "h").iterdir())
        assert b"secret" not in held
    async with running(tmp_path / "h", mode) as one:
        assert [u.offset for u in await one.all()] == [1, 5]


@pytest.mark.parametrize("mode", list(Acknowledge))
async def test_what_is_published_while_a_topic_is_purged_stays(
    tmp_path: Path, mode: Acknowledge
) -> None:
    async with running(tmp_path / "h", mode) as one:
        await one.publish_all([("x", "gone")] * 3000)
        purging = asyncio.create_task(one.history.purge("gone"))
        later: list[int] = []
        while not purging.done():
            if len(later) < 5_000:  # (in memory mode nobody waits for the disk)
                later.append((await one.publish("y", "gone")).offset)
            await asyncio.sleep(0)
        kept = [update.offset for update in await one.all()]
        assert kept == [offset for offset in later if offset >= kept[0]]
        assert [u.offset for u in one.history.recent(0, 1 << 30) or ()] == kept


async def test_a_purge_is_no_gap(tmp_path: Path) -> None:
    async with running(tmp_path / "h", ring=Ring(count_max=1)) as one:
        await one.publish_all([("x", "gone")] * 5 + [("x", "t")] * 5)
        await one.history.purge("gone")
        found = await one.history.locate(Cursor(Place(one.history.epoch, 2)), wants("gone", "t"))
        assert (found.after, found.gap) == (2, None)


async def test_a_purge_of_many_goes_in_slices(tmp_path: Path) -> None:
    async with running(tmp_path / "h") as one:
        await one.publish_all([("x", "gone" if n % 3 else "t") for n in range(3000)])
        assert await one.history.purge("gone") == 2000
        assert await one.history.purge("gone") == 0
        assert len(await one.all()) == 1000
        assert one.store._database.prefixes.kept(0)[0] == 1000
