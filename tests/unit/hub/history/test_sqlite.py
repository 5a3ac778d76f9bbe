"""The history over SQLite: publishing, starting again, epochs, what is not a database."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.harness.eventually import eventually
from tests.harness.histories import Clock, left_behind, publishing, running

from callboard.hub.cursor import Cursor, Place
from callboard.hub.event import Publication, Update
from callboard.hub.history import intake
from callboard.hub.history import mark as marks
from callboard.hub.history.intake import WAITING_BYTES_MAX, WAITING_MAX
from callboard.hub.history.sqlite import SqliteStore
from callboard.hub.history.store import EPOCHS_MAX, Acknowledge, BehindStore
from callboard.hub.history.stored import StoredHistory
from callboard.hub.ports import History, HistoryBusy

MODES = list(Acknowledge)


@pytest.mark.parametrize("mode", MODES)
async def test_offsets_begin_at_one_and_have_no_gaps(tmp_path: Path, mode: Acknowledge) -> None:
    async with running(tmp_path / "h", mode) as one:
        assert (one.history.head, one.history.oldest) == (0, 1)
        updates = await one.publish_all([(f"{n}", "t") for n in range(200)])
        assert [u.offset for u in updates] == list(range(1, 201))
        assert [u.offset for u in one.seen] == list(range(1, 201))
        assert {u.epoch for u in updates} == {one.history.epoch}
        assert re.fullmatch("[a-z0-9]{12}", one.history.epoch)
        assert updates[6].id == f"#{one.history.epoch}.7"
        assert (one.history.head, one.history.oldest) == (200, 1)


@pytest.mark.parametrize("mode", MODES)
async def test_all_that_an_update_says_survives_a_clean_end(
    tmp_path: Path, mode: Acknowledge
) -> None:
    publication = Publication(
        ("https://example.com/é", "b"), "zeile\nü\x00".encode(), "type", "own", True, 1500, "key"
    )
    async with running(tmp_path / "h", mode) as one:
        first = await publishing(one.history, publication)
        second = await one.publish("plain")
        epoch = one.history.epoch
    async with running(tmp_path / "h", mode) as one:
        assert one.history.epoch == epoch
        assert one.history.head == 2
        for found in (await one.all(), list(one.history.recent(0, 1 << 20) or ())):
            for before, after in zip((first, second), found, strict=True):
                for name in before.__slots__:
                    if not name.startswith("_"):
                        assert getattr(before, name) == getattr(after, name), name


async def test_nothing_is_visible_before_the_commit(tmp_path: Path) -> None:
    async with running(tmp_path / "h") as one:
        waiting = publishing(one.history, Publication(("t",), b"x"))
        assert not one.seen
        assert one.history.head == 0
        assert one.history.waiting == 1
        update = await waiting
        assert one.seen == [update]
        committed = sqlite3.connect(tmp_path / "h" / "history.sqlite")
        assert committed.execute("SELECT offset FROM event").fetchall() == [(1,)]
        committed.close()


async def test_in_memory_mode_a_publication_is_visible_and_acknowledged_at_once(
    tmp_path: Path,
) -> None:
    async with running(tmp_path / "h", Acknowledge.MEMORY) as one:
        waiting = publishing(one.history, Publication(("t",), b"x"))
        assert waiting.done()
        assert [u.offset for u in one.seen] == [1]
        assert one.history.recent(0, 1000) == [waiting.result()]


async def test_publications_that_come_together_are_committed_together(tmp_path: Path) -> None:
    batches: list[int] = []
    async with running(tmp_path / "h") as one:
        one.history.listen(lambda updates: batches.append(len(updates)))
        await one.publish_all([("x", "t")] * 100)
    assert sum(batches) == 100
    assert len(batches) <= 3


async def test_a_listener_that_fails_harms_nobody_else(tmp_path: Path) -> None:
    async with running(tmp_path / "h") as one:

        def fails(updates: object) -> None:
            raise RuntimeError("no")

        one.history.listen(fails)
        seen: list[object] = []
        one.history.listen(seen.extend)
        await one.publish()
        assert len(seen) == 1


@pytest.mark.parametrize("mode", MODES)
async def test_too_many_publications_at_once_are_refused(tmp_path: Path, mode: Acknowledge) -> None:
    async with running(tmp_path / "h", mode) as one:
        outcomes = [
            publishing(one.history, Publication(("t",), b"x")) for _ in range(WAITING_MAX + 5)
        ]
        done = await asyncio.gather(*outcomes, return_exceptions=True)
        assert [type(o) for o in done[WAITING_MAX:]] == [HistoryBusy] * 5
        assert one.history.head == WAITING_MAX


@pytest.mark.parametrize("mode", MODES)
async def test_too_many_bytes_at_once_are_refused(tmp_path: Path, mode: Acknowledge) -> None:
    async with running(tmp_path / "h", mode) as one:
        big = Publication(("t",), b"x" * (WAITING_BYTES_MAX // 4 - 1000))
        done = await asyncio.gather(
            *(publishing(one.history, big) for _ in range(6)), return_exceptions=True
        )
        refused = [o for o in done if isinstance(o, HistoryBusy)]
        assert len(refused) in (2, 4)
        assert one.history.head == 6 - len(refused)


async def test_what_was_submitted_before_the_end_is_committed(tmp_path: Path) -> None:
    async with running(tmp_path / "h") as one:
        waiting = [publishing(one.history, Publication(("t",), b"x")) for _ in range(50)]
    assert [(await w).offset for w in waiting] == list(range(1, 51))
    async with running(tmp_path / "h") as one:
        assert one.history.head == 50


async def test_after_the_end_publications_are_refused(tmp_path: Path) -> None:
    async with running(tmp_path / "h") as one:
        pass
    with pytest.raises(HistoryBusy):
        await one.publish()


# ---------------------------------------------------------------------------- epochs


async def test_a_killed_durable_hub_keeps_its_epoch(tmp_path: Path) -> None:
    async with running(tmp_path / "h") as one:
        await one.publish_all([("x", "t")] * 10)
        epoch = one.history.epoch
        left_behind(tmp_path / "h", tmp_path / "killed")
    async with running(tmp_path / "killed") as one:
        assert (one.history.epoch, one.history.head) == (epoch, 10)


@pytest.mark.parametrize("mode", [Acknowledge.WRITTEN, Acknowledge.MEMORY])
async def test_a_killed_hub_that_was_not_durable_begins_an_epoch(
    tmp_path: Path, mode: Acknowledge
) -> None:
    async with running(tmp_path / "h", mode) as one:
        await one.publish_all([("x", "t")] * 10)
        before = one.history.epoch
        await one.history._flushed()
        left_behind(tmp_path / "h", tmp_path / "killed")
    async with running(tmp_path / "killed", mode) as one:
        assert one.history.epoch != before
        assert (await one.publish()).offset == 11
        assert one.history.place(10) == Place(before, 10)
        assert one.history.place(11) == Place(one.history.epoch, 11)
        assert [u.epoch for u in await one.all()] == [before] * 10 + [one.history.epoch]
        exact = await one.history.locate(Cursor(Place(before, 7)))
        assert (exact.after, exact.gap) == (7, None)
        lost = await one.history.locate(Cursor(Place(before, 15)))
        assert lost.after == 10
        assert lost.gap is not None
        assert (lost.gap.requested, lost.gap.oldest) == (f"#{before}.15", f"#{before}.10")
        assert lost.gap.lost is None


async def test_a_durable_hub_after_a_killed_one_that_was_not_begins_an_epoch(
    tmp_path: Path,
) -> None:
    async with running(tmp_path / "h", Acknowledge.WRITTEN) as one:
        await one.publish()
        before = one.history.epoch
        left_behind(tmp_path / "h", tmp_path / "killed")
    async with running(tmp_path / "killed", Acknowledge.DURABLE) as one:
        assert one.history.epoch != before


async def test_a_database_restored_from_an_older_copy_begins_an_epoch(tmp_path: Path) -> None:
    async with running(tmp_path / "h") as one:
        await one.publish_all([("x", "t")] * 10)
        before = one.history.epoch
    shutil.copy(tmp_path / "h" / "history.sqlite", tmp_path / "backup")
    async with running(tmp_path / "h") as one:
        await one.publish_all([("y", "t")] * 5)
        assert one.history.epoch == before
    shutil.copy(tmp_path / "backup", tmp_path / "h" / "history.sqlite")
    async with running(tmp_path / "h") as one:
        assert (one.history.head, one.history.epoch != before) == (10, True)
        assert (await one.history.locate(Cursor(Place(before, 10)))).gap is None
        lost = await one.history.locate(Cursor(Place(before, 13)))
        assert (lost.after, lost.gap is not None) == (10, True)


async def test_a_database_without_its_mark_begins_an_epoch(tmp_path: Path) -> None:
    async with running(tmp_path / "h") as one:
        await one.publish()
        before = one.history.epoch
    (tmp_path / "h" / "history.mark").unlink()
    async with running(tmp_path / "h") as one:
        assert one.history.epoch != before
        again = one.history.epoch
    async with running(tmp_path / "h") as one:
        assert one.history.epoch == again


async def test_only_so_many_epochs_are_remembered(tmp_path: Path) -> None:
    async with running(tmp_path / "h") as one:
        await one.publish()
        first = one.history.epoch
    database = sqlite3.connect(tmp_path / "h" / "history.sqlite")
    for number in range(EPOCHS_MAX + 10):
        database.execute("INSERT INTO epoch (name, first) VALUES (?, 2)", (f"former{number:06}",))
    database.commit()
    database.close()
    (tmp_path / "h" / "history.mark").unlink()
    async with running(tmp_path / "h") as one:
        assert len(one.history._epochs) == EPOCHS_MAX
        found = await one.history.locate(Cursor(Place(first, 1)))
        assert found.gap is not None
    database = sqlite3.connect(tmp_path / "h" / "history.sqlite")
    assert database.execute("SELECT count(*) FROM epoch").fetchone() == (EPOCHS_MAX,)
    database.close()


# ---------------------------------------------------------------------------- bad starts


async def test_two_processes_cannot_have_one_history(tmp_path: Path) -> None:
    async with running(tmp_path / "h"):
        with pytest.raises(OSError, match="another process uses the directory"):
            async with running(tmp_path / "h"):
                pass


async def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "h").mkdir()
    (tmp_path / "h" / "history.sqlite").write_bytes(b"not a database, by any means" * 100)
    with pytest.raises(ValueError, match=r"history\.sqlite: file is not a database"):
        async with running(tmp_path / "h"):
            pass


async def test_a_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "h").mkdir()
    database = sqlite3.connect(tmp_path / "h" / "history.sqlite")
    database.execute("CREATE TABLE notes (text)")
    database.commit()
    database.close()
    with pytest.raises(ValueError, match="another program's database"):
        async with running(tmp_path / "h"):
            pass


async def test_another_format_is_told(tmp_path: Path) -> None:
    async with running(tmp_path / "h"):
        pass
    database = sqlite3.connect(tmp_path / "h" / "history.sqlite")
    database.execute("PRAGMA user_version = 7")
    database.close()
    with pytest.raises(ValueError, match="its format is 7, and this program knows 1"):
        async with running(tmp_path / "h"):
            pass


async def test_an_unreadable_mark_means_a_restored_database(tmp_path: Path) -> None:
    async with running(tmp_path / "h") as one:
        await one.publish()
        before = one.history.epoch
    (tmp_path / "h" / "history.mark").write_text(json.dumps({"epoch": before, "head": "one"}))
    async with running(tmp_path / "h") as one:
        assert one.history.epoch != before


async def test_the_files_are_for_their_owner_only(tmp_path: Path) -> None:
    async with running(tmp_path / "h") as one:
        await one.publish()
        modes = {p.name: p.stat().st_mode & 0o777 for p in (tmp_path / "h").iterdir()}
    assert modes.keys() >= {"history.sqlite", "history.sqlite-wal", "history.mark"}
    assert set(modes.values()) == {0o600}


# ---------------------------------------------------------------------------- times


@pytest.mark.parametrize("mode", MODES)
async def test_times_never_go_backwards(tmp_path: Path, mode: Acknowledge) -> None:
    clock = Clock()
    async with running(tmp_path / "h", mode, clock=clock) as one:
        first = await one.publish()
        clock.now -= 3600
        second = await one.publish()
        assert second.time_ms == first.time_ms
    async with running(tmp_path / "h", mode, clock=clock) as one:
        third = await one.publish()
        assert third.time_ms == first.time_ms


# ---------------------------------------------------------------------------- the seams


def as_the_seams_say(history: StoredHistory, store: SqliteStore) -> tuple[History, BehindStore]:
    """Holds by its types alone."""
    return history, store


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_a_mark_of_any_bytes_is_one_or_none(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mark"
        path.write_bytes(content)
        assert marks.read(path) is None


@given(st.builds(marks.Mark, st.text(max_size=20), st.integers(0, 1 << 60)))
def test_a_mark_is_read_as_it_was_written(mark: marks.Mark) -> None:
    with tempfile.TemporaryDirectory() as folder:
        marks.write(Path(folder) / "mark", mark)
        assert marks.read(Path(folder) / "mark") == mark


async def test_in_memory_mode_publications_of_a_moment_are_written_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path / "h", Acknowledge.MEMORY) as one:
        batches: list[int] = []
        write = one.store.write

        async def counted(batch: Sequence[tuple[Update, str]]) -> None:
            batches.append(len(batch))
            await write(batch)

        monkeypatch.setattr(one.store, "write", counted)
        monkeypatch.setattr(intake, "GATHER_S", 3600.0)
        await one.publish("0")
        await eventually(lambda: one.history.waiting == 0)
        for number in range(1, 5):
            await one.publish(f"{number}")
            await asyncio.sleep(0)  # (whoever commits has its turn)
        assert await one.data() == [f"{number}" for number in range(5)]
        assert batches == [1, 4]


async def test_in_memory_mode_nobody_waits_for_a_moment_that_is_not_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "GATHER_S", 3600.0)
    async with running(tmp_path / "h", Acknowledge.MEMORY) as one:
        for number in range(5):
            await one.publish(f"{number}")
            assert len(await one.all()) == number + 1
        await one.publish("at the end")
    async with running(tmp_path / "h", Acknowledge.MEMORY) as again:
        assert (await again.data())[-1] == "at the end"
