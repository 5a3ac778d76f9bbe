"""Disks that are full or fail, and a WAL that stays short whoever reads."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import sys
import weakref
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.harness.capabilities import require
from tests.harness.eventually import eventually
from tests.harness.faults import fill, small_disk
from tests.harness.histories import Running, publishing, running

from callboard.hub.event import Publication, Update
from callboard.hub.history import database, stored
from callboard.hub.history.ring import Ring
from callboard.hub.history.schema import connect
from callboard.hub.history.store import Acknowledge, Bound, Draft, Retention, StoreFailed
from callboard.hub.ports import HistoryFull

ROOT = Path(__file__).parents[4]
BIG = "x" * 200_000


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of eight megabytes."""
    with small_disk(tmp_path / "small", "8m") as directory:
        yield directory


async def until_full(one: Running) -> list[int]:
    """Publish until that is refused; the offsets that were acknowledged."""
    outcomes: list[asyncio.Future[Update]] = []

    def refused() -> bool:
        outcomes.append(publishing(one.history, Publication(("t",), BIG.encode())))
        return any(isinstance(o.exception(), HistoryFull) for o in outcomes if o.done())

    await eventually(refused)
    done = await asyncio.gather(*outcomes, return_exceptions=True)
    assert all(isinstance(outcome, Update | HistoryFull) for outcome in done)
    return [outcome.offset for outcome in done if isinstance(outcome, Update)]


@pytest.mark.parametrize("mode", [Acknowledge.DURABLE, Acknowledge.WRITTEN])
async def test_on_a_full_disk_publications_are_refused_and_readers_go_on(
    small: Path, mode: Acknowledge, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(small / "h", mode, ring=Ring(count_max=1)) as one:
        ballast = small / "ballast"
        ballast.write_bytes(bytes(4 << 20))
        taken = await until_full(one)
        for _ in range(20):
            with pytest.raises(HistoryFull):
                await one.publish(BIG)
        assert taken == [u.offset for u in one.seen] == list(range(1, len(taken) + 1))
        assert [u.offset for u in await one.all()] == taken
        assert caplog.text.count("publications refused") == 1
        assert not one.fatal
        ballast.unlink()
        assert (await one.publish("small again")).offset == len(taken) + 1
    async with running(small / "h", mode) as one:
        assert one.history.head == len(taken) + 1


async def test_in_memory_mode_a_full_disk_refuses_what_comes_and_keeps_what_was_seen(
    small: Path,
) -> None:
    async with running(small / "h", Acknowledge.MEMORY, ring=Ring(count_max=1)) as one:
        ballast = small / "ballast"
        fill(ballast)
        taken = await until_full(one)
        assert one.history.waiting > 0
        assert taken == [u.offset for u in one.seen]
        assert [u.offset for u in one.history.recent(0, 1 << 30) or ()] == taken
        ballast.unlink()
        await eventually(lambda: one.history.waiting == 0)
        assert (await one.publish("small again")).offset == len(taken) + 1
        assert [u.offset for u in await one.all()] == [*taken, len(taken) + 1]
        assert not one.fatal


@pytest.fixture
def short_files() -> Iterator[None]:
    """No file grows beyond two megabytes: writes fail, and not for want of space."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 20, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_write_that_fails_makes_the_hub_leave_and_nobody_is_told_of_success(
    tmp_path: Path, short_files: None
) -> None:
    async with running(tmp_path / "h") as one:
        outcomes = []
        for _ in range(30):
            outcomes.append(publishing(one.history, Publication(("t",), BIG.encode())))
        await eventually(lambda: one.fatal)
        assert len(one.fatal) == 1
        assert "SQLITE_IOERR_WRITE" in one.fatal[0]
        assert one.seen == [o.result() for o in outcomes if o.done()]
        assert len(one.seen) < 30


@pytest.mark.parametrize("mode", [Acknowledge.DURABLE, Acknowledge.WRITTEN])
async def test_after_a_failed_fsync_the_hub_leaves_all_as_it_is_and_what_was_seen_is_there(
    tmp_path: Path, mode: Acknowledge
) -> None:
    """One fails, and those that follow would succeed, whatever the kernel threw away."""
    require("strace")
    (tmp_path / "h").mkdir()
    calls, when = "fsync,fdatasync", 60 if mode is Acknowledge.DURABLE else 14
    process = await asyncio.create_subprocess_exec(
        *("strace", "-f", "-q", "-o", "/dev/null"),
        *("-e", f"trace={calls}", "-e", f"inject={calls}:error=EIO:when={when}"),
        *(sys.executable, "-m", "tests.harness.powercut_publisher"),
        *(str(tmp_path / "h"), mode.value, "1"),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        _, said = await asyncio.wait_for(process.communicate(), 60)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 1
    assert b"history: " in said and b"(SQLITE_IOERR_FSYNC)" in said
    witness = (tmp_path / "h" / "hub.witness").read_text()
    promised = {int(line.split()[1]) for line in witness.splitlines() if line[0].isupper()}
    assert promised
    assert wal_bytes(tmp_path / "h") > 0  # SQLite would empty and remove it
    async with running(tmp_path / "h") as one:
        assert promised <= {u.offset for u in await one.all()}


async def test_after_a_write_that_failed_nothing_that_waited_for_the_disk_is_done(
    tmp_path: Path, short_files: None
) -> None:
    async with running(tmp_path / "h") as one:
        await one.publish("kept")
        batch = [Draft(Publication(("t",), BIG.encode()), 1)] * 30
        failing = asyncio.ensure_future(one.store.append(batch))
        behind = asyncio.ensure_future(one.store.purge("t"))
        await asyncio.wait([failing, behind])
        assert [type(each.exception()) for each in (failing, behind)] == [StoreFailed] * 2
        with closing(connect(tmp_path / "h" / "history.sqlite", busy_s=1)) as other:
            assert other.execute("SELECT count(*) FROM event").fetchone() == (1,)


async def test_a_database_that_failed_is_not_even_closed(tmp_path: Path, short_files: None) -> None:
    """The last connection that is closed moves the WAL into the database."""
    async with running(tmp_path / "h") as one:
        await one.publish("kept")
        with pytest.raises(StoreFailed):
            await one.store.append([Draft(Publication(("t",), BIG.encode()), 1)] * 30)
    before = {path.name: path.read_bytes() for path in (tmp_path / "h").iterdir()}
    last = weakref.ref(one.store._database)
    del one
    await eventually(lambda: gc.collect() >= 0 and last() is None)
    assert {path.name: path.read_bytes() for path in (tmp_path / "h").iterdir()} == before


async def test_a_damaged_database_makes_the_hub_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "NEWEST_COUNT", 5)
    async with running(tmp_path / "h", ring=Ring(count_max=1)) as one:
        await one.publish_all([("x" * 3000, "t")] * 500)
    path = tmp_path / "h" / "history.sqlite"
    content = bytearray(path.read_bytes())
    third = len(content) // 3
    content[third : 2 * third] = os.urandom(third)
    path.write_bytes(content)
    async with running(tmp_path / "h", ring=Ring(count_max=1)) as one:
        reads = asyncio.ensure_future(one.all())
        await eventually(lambda: one.fatal)
        assert "SQLITE_CORRUPT" in one.fatal[0]
        with pytest.raises(StoreFailed):
            await reads


async def test_a_hub_does_not_start_on_a_database_whose_newest_updates_are_damaged(
    tmp_path: Path,
) -> None:
    async with running(tmp_path / "h") as one:
        await one.publish_all([("x" * 3000, "t")] * 500)
    path = tmp_path / "h" / "history.sqlite"
    content = bytearray(path.read_bytes())
    content[len(content) // 2 :] = os.urandom(len(content) - len(content) // 2)
    path.write_bytes(content)
    with pytest.raises((OSError, ValueError), match=r"malformed|cannot be read"):
        async with running(tmp_path / "h"):
            pass


# ---------------------------------------------------------------------------- the WAL


def wal_bytes(folder: Path) -> int:
    return (folder / "history.sqlite-wal").stat().st_size


async def test_the_wal_stays_short_beside_fifty_stalled_replays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each replay reads a page and stops, as a reader does that takes no more."""
    monkeypatch.setattr(database, "WAL_MAX_BYTES", 2 << 20)
    monkeypatch.setattr(database, "CHECKPOINT_PAGES", 100)
    retention = Retention(Bound(count=300))
    async with running(tmp_path / "h", retention=retention, ring=Ring(count_max=1)) as one:
        await one.publish_all([("x" * 3000, "t")] * 300)
        places = [0] * 50
        longest = 0
        for round in range(60):
            await one.publish_all([("x" * 3000, f"t{round}")] * 50)
            for number in range(round % 5, 50, 5):
                page = await one.history.read(places[number], 20_000)
                places[number] = page[-1].offset
            longest = max(longest, wal_bytes(tmp_path / "h"))
        assert one.history.head == 300 + 60 * 50
        assert longest <= 4 << 20


async def test_a_reader_inside_a_transaction_is_waited_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program's transaction keeps the WAL from being emptied; once it ends, it is."""
    monkeypatch.setattr(database, "WAL_MAX_BYTES", 1 << 20)
    monkeypatch.setattr(database, "CHECKPOINT_PAGES", 50)
    async with running(tmp_path / "h") as one:
        await one.publish()
        other = connect(tmp_path / "h" / "history.sqlite", busy_s=1)
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM event").fetchone()
        for _ in range(15):
            await one.publish_all([("x" * 3000, "t")] * 50)
        assert wal_bytes(tmp_path / "h") > 2 << 20
        other.close()

        for _ in range(5):
            await one.publish_all([("x" * 3000, "t")] * 50)
        await eventually(lambda: wal_bytes(tmp_path / "h") <= 2 << 20)
