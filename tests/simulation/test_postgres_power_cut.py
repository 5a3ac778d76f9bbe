"""The power goes at the PostgreSQL server while two hubs publish: what anybody was told is there.

A real server and two hubs' histories run under load and are killed; then the server's data
directory is built anew as a disk would have it at many moments before, the server is started on
it, and a hub looks. Runs go on from one another's cuts.
"""

from __future__ import annotations

import os
import random
import select
import shutil
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest
from tests.harness.capabilities import require
from tests.harness.eventually import eventually, eventually_sync
from tests.harness.postgres import PostgresServer
from tests.harness.postgres_stores import draft, hubs
from tests.harness.powercut import Cut, Recorder

from callboard.hub.history.store import Epoch

ROOT = Path(__file__).parents[2]
PUBLISHER = "tests.harness.postgres_publisher"
IN_MEMORY = Path("/dev/shm")
RUNS = 5
CUTS = 10
"""In one run. 50 in all; five times as many with BUDGET=ci."""
SCALE = 5 if os.environ.get("BUDGET") == "ci" else 1
READY_S = 20.0
PROBLEMS_MAX = 20
DATABASE = "template1"
"""The only one: the less there is, the faster it is built anew."""
SETTINGS = (
    "shared_buffers=8MB",  # so that pages are written, by others than the checkpointer, too
    "min_wal_size=2MB",
    "max_wal_size=4MB",
    "wal_writer_delay=10ms",
    "bgwriter_delay=10ms",
    "autovacuum_naptime=1s",
)
NOT_BUILT = ("postmaster.pid", "postmaster.opts", ".witness")


@dataclass
class Promises:
    """What was acknowledged or seen, by offset: epoch and checksum of the data."""

    updates: dict[int, tuple[str, int]] = field(default_factory=dict)
    keys: dict[str, int] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)

    def and_(self, lines: Sequence[bytes]) -> Promises:
        """These, and what the witnesses of both hubs say."""
        more = Promises(dict(self.updates), dict(self.keys), list(self.broken))
        for line in lines:
            if line.startswith(b"TWICE"):
                more.broken.append(line.decode())
            _, offset, epoch, checksum, key = line.decode().split(" ")[-5:]
            promised = (epoch, int(checksum))
            if more.updates.setdefault(int(offset), promised) != promised:
                more.broken.append(f"{offset} was given twice")
            if key and more.keys.setdefault(key, int(offset)) != int(offset):
                more.broken.append(f"key {key} has two updates")
        return more


@dataclass
class Load:
    """A server on a folder, and two hubs that publish."""

    recorder: Recorder
    folder: Path
    rng: random.Random

    def cuts(self, count: int, *settings: str, careless: bool = False) -> Iterator[Cut]:
        """Run it for a moment, kill it, and act out cuts."""
        log = self.folder.with_suffix(".log")
        recording = self.recorder.recording(self.folder / "data", log)
        log.chmod(0o666)
        server = PostgresServer(self.folder, recording.environment)
        server.start(*SETTINGS, *settings)
        with ExitStack() as running:
            running.callback(server.kill)
            server.wait_ready()
            names = [f"{self.rng.randrange(1 << 30)}.{hub}" for hub in ("a", "b")]
            processes = [
                subprocess.Popen(
                    [sys.executable, "-m", PUBLISHER, server.url(DATABASE)]
                    + [str(self.folder / "data" / f"{name}.witness"), name]
                    + ["careless"] * careless,
                    cwd=ROOT,
                    env={**os.environ, **recording.environment},
                    stdout=subprocess.PIPE,
                )
                for name in names
            ]
            for process in processes:
                running.enter_context(process)
                running.callback(process.kill)
            for process in processes:
                assert process.stdout is not None
                ready, _, _ = select.select([process.stdout], [], [], READY_S)
                assert ready and process.stdout.readline() == b"ready\n"
            until = log.stat().st_size + self.rng.randrange(1 << 18, 6 << 20)
            eventually_sync(lambda: log.stat().st_size > until, 20.0, 0.005)
            assert [process.poll() for process in processes] == [None, None]
        yield from recording.cuts(count, self.rng, exclude=NOT_BUILT)


async def judge(folder: Path, promises: Promises, epochs: tuple[Epoch, ...]) -> list[str]:
    """What of the promises a hub does not keep that starts on the folder's server."""
    problems = list(promises.broken)
    server = PostgresServer(folder)
    server.start(*SETTINGS)
    try:
        await eventually(server.answers, interval_s=0.01)
        async with hubs(server.url(DATABASE)) as [hub]:
            if hub.standing.epochs != epochs:
                problems.append(f"epochs {hub.standing.epochs}, and {epochs} before")
            updates = (await hub.store.read(0, 1 << 40, 1 << 30)).updates
            there = {u.offset: (u.epoch, zlib.crc32(u.data)) for u in updates}
            if list(there) != list(range(1, len(updates) + 1)):
                problems.append("offsets have gaps")
            if len({u.data for u in updates}) != len(updates):
                problems.append("an update is there twice")
            problems += [
                f"{offset} is missing or different"
                for offset, promised in promises.updates.items()
                if there.get(offset) != promised
            ]
            again = [draft("again", key=key) for key in promises.keys]
            known = [u.offset for u in await hub.store.append(again)] if again else []
            if known != list(promises.keys.values()):
                problems.append("keys are not known")
            [after] = await hub.publish("after the cut")
            if after.offset != len(updates) + 1:
                problems.append(f"offset {after.offset} comes after {len(updates)}")
    except AssertionError as problem:
        problems.append(f"the server does not start: {problem}\n{server.log()[-2000:]}")
    finally:
        server.kill()
    return problems


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A folder that the server's user may enter, and whose syncs cost nothing."""
    require("cc", "postgres")
    where = IN_MEMORY if os.access(IN_MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="callboard-cut-", dir=where) as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="module")
def recorder(place: Path) -> Recorder:
    return Recorder(place)


@pytest.fixture
async def beginning(place: Path) -> tuple[Path, tuple[Epoch, ...]]:
    """A folder with a data directory with an empty history, and its epochs."""
    folder = place / "beginning"
    shutil.rmtree(folder, ignore_errors=True)
    server = PostgresServer(folder, initdb=("--wal-segsize=1",))
    server.start(*SETTINGS)
    await eventually(server.answers)
    with psycopg.connect(server.url(DATABASE), autocommit=True) as connection:
        connection.execute("UPDATE pg_database SET datistemplate = false")
        connection.execute("DROP DATABASE postgres")
        connection.execute("DROP DATABASE template0")
    async with hubs(server.url(DATABASE)) as [hub]:
        epochs = hub.standing.epochs
    with psycopg.connect(server.url(DATABASE), autocommit=True) as connection:
        connection.execute("CHECKPOINT")
    server.kill()
    return folder, epochs


def copy(folder: Path, to: Path) -> None:
    """The data directory of another folder."""
    shutil.copytree(folder / "data", to / "data")


@pytest.mark.timeout(120 * SCALE)
async def test_whatever_any_hub_acknowledged_or_showed_survives_a_power_cut_at_the_server(
    recorder: Recorder, place: Path, beginning: tuple[Path, tuple[Epoch, ...]]
) -> None:
    folder, epochs = beginning
    rng = random.Random(20_262)
    promises = Promises()
    looked, count, problems = 0, 0, list[str]()
    for run in range(RUNS * SCALE):
        goes_on = rng.randrange(CUTS // 2, CUTS)
        before, now, following = promises, place / f"run-{run}", place / f"run-{run}-next"
        copy(folder, now)
        for number, cut in enumerate(Load(recorder, now, rng).cuts(CUTS)):
            built = place / "cut"
            (built / "data").parent.mkdir(mode=0o755)
            (built / "data").mkdir(mode=0o700)
            cut.build(built / "data")
            told = before.and_(cut.witness())
            if number == goes_on:
                copy(built, following)
                promises = told
            found = await judge(built, told, epochs)
            problems += [f"run {run}, cut {number} at {cut.position}: {one}" for one in found]
            looked += len(told.updates)
            count += 1
            shutil.rmtree(built)
        shutil.rmtree(now)
        now.with_suffix(".log").unlink()
        shutil.rmtree(folder)
        folder = following
    shutil.rmtree(folder)
    assert problems[:PROBLEMS_MAX] == []
    assert count == RUNS * SCALE * CUTS
    assert looked > 100 * count


@pytest.mark.timeout(120)
async def test_the_same_cuts_lose_updates_of_a_server_that_does_not_wait_for_its_disk(
    recorder: Recorder, place: Path, beginning: tuple[Path, tuple[Epoch, ...]]
) -> None:
    """The proof can fail; and such a server is refused."""
    folder, epochs = beginning
    copy(folder, place / "careless")
    load = Load(recorder, place / "careless", random.Random(5))
    lost = 0
    for cut in load.cuts(6, "synchronous_commit=off", "wal_writer_delay=1s", careless=True):
        built = place / "cut"
        built.mkdir(mode=0o755)
        (built / "data").mkdir(mode=0o700)
        cut.build(built / "data")
        problems = await judge(built, Promises().and_(cut.witness()), epochs)
        lost += sum("missing or different" in problem for problem in problems)
        shutil.rmtree(built)
    assert lost > 0
