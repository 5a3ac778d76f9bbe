"""Where readers stand: cursors, times, the last so many; and pages of the store."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.harness.histories import Beginning, Clock, Exact, Wants, publishing, running, wants

from callboard.hub.cursor import CatalogPlace, Cursor, Place, parse
from callboard.hub.event import Publication
from callboard.hub.history.ring import Ring
from callboard.hub.history.store import Acknowledge
from callboard.hub.history.stored import READ_COUNT, SCAN_MAX
from callboard.hub.ports import HistoryError

MODES = list(Acknowledge)


def small() -> Ring:
    """A memory of five updates: the store is asked."""
    return Ring(count_max=5)


async def test_a_reader_reads_all_in_pages(tmp_path: Path) -> None:
    async with running(tmp_path / "h", ring=small()) as one:
        await one.publish_all([(f"{n}", "t") for n in range(300)])
        assert one.history.recent(0, 1 << 20) is None
        size = one.seen[10].size
        page = await one.history.read(10, 7 * size)
        assert [u.offset for u in page] == list(range(11, 18))
        assert [u.offset for u in await one.history.read(10, 1)] == [11]
        assert await one.data() == [f"{n}" for n in range(300)]


async def test_a_page_is_bounded_by_count(tmp_path: Path) -> None:
    async with running(tmp_path / "h", ring=small()) as one:
        await one.publish_all([("", "t")] * (READ_COUNT + 10))
        assert len(await one.history.read(0, 1 << 30)) == READ_COUNT


async def test_memory_begins_with_the_newest_of_the_store(tmp_path: Path) -> None:
    async with running(tmp_path / "h") as one:
        await one.publish_all([(f"{n}", "t") for n in range(20)])
    async with running(tmp_path / "h") as one:
        assert [u.offset for u in one.history.recent(15, 1 << 20) or ()] == [16, 17, 18, 19, 20]
        assert len(one.history.ring) == 20


@pytest.mark.parametrize("mode", MODES)
async def test_an_id_of_the_history_is_a_place(tmp_path: Path, mode: Acknowledge) -> None:
    async with running(tmp_path / "h", mode, ring=small()) as one:
        updates = await one.publish_all([("x", "t")] * 20)
        for text in (updates[6].id, updates[6].id.removeprefix("#")):
            cursor = parse(text)
            assert cursor is not None
            assert await one.history.locate(cursor, wants("t")) == await one.history.locate(cursor)
            found = await one.history.locate(cursor)
            assert (found.after, found.gap) == (7, None)


@pytest.mark.parametrize("mode", MODES)
async def test_an_id_of_a_publisher_is_a_place_the_first_one(
    tmp_path: Path, mode: Acknowledge
) -> None:
    async with running(tmp_path / "h", mode, ring=small()) as one:
        await one.publish()
        await one.publish(own_id="mine")
        again = await one.publish(own_id="mine")
        assert again.offset == 3
        found = await one.history.locate(Cursor(own_id="mine"))
        assert (found.after, found.gap) == (2, None)


async def test_a_publishers_id_that_looks_like_ours_is_found(tmp_path: Path) -> None:
    async with running(tmp_path / "h") as one:
        await one.publish(own_id="build.12")
        cursor = parse("build.12")
        assert cursor is not None and cursor.place is not None
        assert (await one.history.locate(cursor)).after == 1


@pytest.mark.parametrize(
    "text", ["nobody", "#zzzzzzzzzzzz.3", "zzzzzzzzzzzz.3", "#zzzzzzzzzzzz.3~abc.7.1"]
)
async def test_an_unknown_id_is_a_gap_that_begins_at_the_oldest(tmp_path: Path, text: str) -> None:
    async with running(tmp_path / "h") as one:
        await one.publish_all([("x", "t")] * 4)
        cursor = parse(text)
        assert cursor is not None
        found = await one.history.locate(cursor)
        assert found.after == 0
        assert found.gap is not None
        assert found.gap.requested == text.partition("~")[0]
        assert found.gap.oldest == f"#{one.history.epoch}.0"
        assert found.gap.newest == f"#{one.history.epoch}.4"
        assert found.gap.lost is None


async def test_an_offset_that_was_never_given_is_unknown(tmp_path: Path) -> None:
    async with running(tmp_path / "h") as one:
        await one.publish()
        found = await one.history.locate(Cursor(Place(one.history.epoch, 99)))
        assert (found.after, found.gap is not None) == (0, True)


async def test_earliest_is_all_there_is_and_no_gap(tmp_path: Path) -> None:
    async with running(tmp_path / "h") as one:
        await one.publish_all([("x", "t")] * 4)
        found = await one.history.locate(Cursor(earliest=True))
        assert (found.after, found.gap) == (0, None)


async def test_a_cursor_of_the_catalog_alone_stands_at_the_head(tmp_path: Path) -> None:
    async with running(tmp_path / "h") as one:
        await one.publish_all([("x", "t")] * 4)
        found = await one.history.locate(Cursor(catalog=CatalogPlace("abc", 7)))
        assert (found.after, found.gap) == (4, None)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("in_memory", [True, False])
async def test_a_time_is_the_place_before_the_first_update_not_older(
    tmp_path: Path, mode: Acknowledge, in_memory: bool
) -> None:
    clock = Clock()
    begin = int(clock.now * 1000)
    async with running(
        tmp_path / "h", mode, clock=clock, ring=None if in_memory else small()
    ) as one:
        assert await one.history.since(begin) == 0
        for _ in range(10):
            await one.publish_all([("x", "t")] * 3)
            clock.now += 10
        assert await one.history.since(begin - 1) == 0
        assert await one.history.since(begin) == 0
        assert await one.history.since(begin + 1) == 3
        assert await one.history.since(begin + 50_000) == 15
        assert await one.history.since(begin + 90_000) == 27
        assert await one.history.since(begin + 90_001) == 30


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("kind", ["exact", "template"])
async def test_the_last_so_many_of_what_a_selector_wants(
    tmp_path: Path, mode: Acknowledge, in_memory: bool, kind: str
) -> None:
    selector = Wants((Exact("odd/1") if kind == "exact" else Beginning("odd/"),))
    async with running(tmp_path / "h", mode, ring=None if in_memory else small()) as one:
        await one.publish_all([("x", f"also odd/{n % 2}") for n in range(20)])
        if kind == "exact":
            assert await one.history.last(3, selector) == 15
            assert await one.history.last(100, selector) == 1
        else:
            assert await one.history.last(3, selector) == 17
            assert await one.history.last(100, selector) == 0
        assert await one.history.last(0, selector) == 20
        assert await one.history.last(3, wants("nothing")) == 20


async def test_the_last_so_many_leave_out_what_a_reader_may_not_see(tmp_path: Path) -> None:
    async with running(tmp_path / "h") as one:
        for n in range(10):
            await one.publish(private=n % 2 == 1)
        selector = Wants((Exact("t"),), sees_private=False)
        assert await one.history.last(2, selector) == 6


async def test_the_last_so_many_of_several_topics_are_merged(tmp_path: Path) -> None:
    async with running(tmp_path / "h", ring=small()) as one:
        await one.publish_all([("x", topic) for topic in "abcabcabcab"])
        assert await one.history.last(3, wants("a", "b")) == 7


async def test_looking_for_the_last_so_many_has_an_end(tmp_path: Path) -> None:
    async with running(tmp_path / "h") as one:
        await one.publish(topic="rare/1")
        for _ in range(SCAN_MAX // 5000):
            await one.publish_all([("", "t")] * 5000)
        assert await one.history.last(1, Wants((Beginning("rare/"),))) == SCAN_MAX + 1
        assert await one.history.last(1, wants("rare/1")) == 0


# ---------------------------------------------------------------------------- repeats


@pytest.mark.parametrize("mode", MODES)
async def test_a_repeat_gets_the_first_ones_update_and_nobody_sees_it(
    tmp_path: Path, mode: Acknowledge
) -> None:
    async with running(tmp_path / "h", mode) as one:
        first, other, repeat = await one.publish_all(
            [("x", "t"), ("y", "t"), ("x", "t")], idempotency_key="k"
        )
        assert (first.offset, other.offset, repeat.offset) == (1, 1, 1)
        assert first.id == repeat.id
        named = await one.publish(own_id="own", idempotency_key="l")
        assert (await one.publish(idempotency_key="l")).id == named.id == "own"
        assert len(one.seen) == 2
    async with running(tmp_path / "h", mode) as one:
        again = await one.publish(idempotency_key="k")
        assert (again.offset, again.epoch, again.time_ms) == (1, first.epoch, first.time_ms)
        assert (await one.publish(idempotency_key="new")).offset == 3


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("topics", [(), ("a\nb",), ("a", "b\n")])
async def test_what_no_store_could_keep_is_the_callers_error(
    tmp_path: Path, mode: Acknowledge, topics: tuple[str, ...]
) -> None:
    async with running(tmp_path / "h", mode) as one:
        with pytest.raises(ValueError):
            publishing(one.history, Publication(topics, b"x"))
        assert (await one.publish()).offset == 1


async def test_a_batch_that_cannot_be_stored_is_refused_and_the_hub_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path / "h") as one:
        with pytest.raises(HistoryError, match="cannot be stored"):
            await one.publish(own_id="\ud800")
        assert "'utf-8' codec can't encode" in caplog.text
        assert (await one.publish()).offset == 1
        assert not one.fatal
