"""The power goes while the hub publishes: what anybody was told of is there afterwards.

The production store runs in a process of its own under load and is killed; then its folder is
built anew as a disk would have it at many moments before, and a hub is started on each. Runs go on
from one another's cuts, so that starts after a cut are cut, too.
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
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.harness.capabilities import require
from tests.harness.histories import running, wants
from tests.harness.powercut import Cut, Recorder
from tests.harness.powercut_publisher import RETENTION, SHORT

from callboard.hub.cursor import Cursor, Place
from callboard.hub.event import Update
from callboard.hub.history.store import Acknowledge

ROOT = Path(__file__).parents[2]
PUBLISHER = "tests.harness.powercut_publisher"
IN_MEMORY = Path("/dev/shm")
RUNS = 8
CUTS = 26
"""In one run. 208 in all; five times as many with BUDGET=ci."""
SCALE = 5 if os.environ.get("BUDGET") == "ci" else 1
READY_S = 20.0
PROBLEMS_MAX = 20


@dataclass
class Promises:
    """What was acknowledged or seen: checksum of the data by place, places by key."""

    updates: dict[Place, int] = field(default_factory=dict)
    short: set[Place] = field(default_factory=set)
    """Those of the topic that is trimmed."""
    keys: dict[str, Place] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)

    def and_(self, lines: Sequence[bytes]) -> Promises:
        """These, and what a witness says."""
        more = Promises(dict(self.updates), set(self.short), dict(self.keys), list(self.broken))
        seen = 0
        for line in lines:
            letter, offset, epoch, checksum, key = line.decode().split(" ")[-5:]
            place = Place(epoch, int(offset))
            if line.startswith(b"TWICE"):
                more.broken.append(line.decode())
            if more.updates.setdefault(place, int(checksum)) != int(checksum):
                more.broken.append(f"{place} was given twice")
            if key:
                more.keys[key] = place
            if letter.islower():
                more.short.add(place)
            if letter in "Ss":
                if seen and seen + 1 != place.offset:
                    more.broken.append(f"{place} was seen after {seen}")
                seen = place.offset
        return more


@dataclass
class Load:
    """A process that publishes into a folder; the power cuts it may have suffered."""

    recorder: Recorder
    folder: Path
    rng: random.Random

    def cuts(self, mode: Acknowledge, count: int, *, early: int) -> Iterator[Cut]:
        """Run it for a moment, kill it, and act out cuts."""
        recording = self.recorder.recording(self.folder, self.folder.with_suffix(".log"))
        seed = self.rng.randrange(1 << 30)
        process = subprocess.Popen(
            [sys.executable, "-m", PUBLISHER, str(self.folder), mode.value, str(seed)],
            cwd=ROOT,
            env={**os.environ, **recording.environment},
            stdout=subprocess.PIPE,
        )
        with process:
            assert process.stdout is not None
            ready, _, _ = select.select([process.stdout], [], [], READY_S)
            said = process.stdout.readline() if ready else b""
            if said:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(self.rng.uniform(0.05, 0.4))
            left_early = process.poll()
            process.kill()
        assert said == b"ready\n" and left_early is None, "the publisher did not run"
        yield from recording.cuts(count, self.rng, exclude=("-shm",), early=early)


def kept(update: Update | None, place: Place, checksum: int) -> bool:
    """Whether an update is the one that was promised."""
    return update is not None and (update.epoch, zlib.crc32(update.data)) == (place.epoch, checksum)


async def judge_durable(folder: Path, promises: Promises) -> list[str]:
    """What of the promises a hub that starts on the folder does not keep."""
    problems = list(promises.broken)
    async with running(folder, retention=RETENTION) as one:
        there = {update.offset: update for update in await one.all()}
        head, trimmed = one.history.head, one.history.trimmed(wants(SHORT))
        if not all(offset in there for offset in range(trimmed + 1, head + 1)):
            problems.append("offsets have gaps")
        epochs = {place.epoch for place in promises.updates}
        if epochs and epochs != {one.history.epoch}:
            problems.append(f"epoch {one.history.epoch}, and {epochs} before")
        problems += [
            f"{place} is missing or different"
            for place, checksum in promises.updates.items()
            if not kept(there.get(place.offset), place, checksum)
            and not (place in promises.short and place.offset <= trimmed)
        ]
        known = await one.store.keys()
        problems += [
            f"key {key} is not known for {place}"
            for key, place in promises.keys.items()
            if key not in known or known[key][0] != place.offset
        ]
        after = await one.publish("after the cut")
        if after.offset != head + 1 or head < max(there, default=0):
            problems.append(f"offset {after.offset} comes after {head}")
    return problems


async def judge_epochs(folder: Path, mode: Acknowledge, promises: Promises) -> list[str]:
    """Where updates may be lost: that a reader with an id of a lost one is told so, and no id
    means two updates."""
    problems = list(promises.broken)
    async with running(folder, mode, RETENTION) as one:
        await one.publish_all([("after the cut", "t")] * 3)
        there = {update.offset: update for update in await one.all()}
        for place, checksum in promises.updates.items():
            resume = await one.history.locate(Cursor(place))
            if place in promises.short:
                continue
            if not kept(there.get(place.offset), place, checksum) and resume.gap is None:
                problems.append(f"{place} is lost, and nobody is told")
            if resume.after != place.offset and resume.gap is None:
                problems.append(f"{place} resumes at {resume.after}")
    return problems


@pytest.fixture(scope="module")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Recorder:
    require("cc")
    return Recorder(tmp_path_factory.mktemp("library"))


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[Path]:
    """A folder whose syncs cost nothing, where there is one: disks are acted out here."""
    if not IN_MEMORY.is_dir() or not os.access(IN_MEMORY, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="callboard-cut-", dir=IN_MEMORY) as name:
        yield Path(name)


async def cut_often(
    recorder: Recorder, quick: Path, mode: Acknowledge, runs: int, cuts: int
) -> tuple[int, int, list[str]]:
    """How many cuts there were, how many promises were looked after, and what was not kept."""
    rng = random.Random(20_261)
    promises = Promises()
    folder = quick / "run-0"
    folder.mkdir()
    looked, count, problems = 0, 0, list[str]()
    for run in range(runs):
        goes_on = rng.randrange(cuts // 2, cuts)
        before, following = promises, quick / f"run-{run + 1}"
        load = Load(recorder, folder, rng)
        for number, cut in enumerate(load.cuts(mode, cuts, early=cuts // 4 if run < 2 else 1)):
            place = quick / "cut"
            cut.build(place)
            if number == goes_on:
                shutil.copytree(place, following)
                promises = before.and_(cut.witness())
            now = before.and_(cut.witness())
            if mode is Acknowledge.DURABLE:
                found = await judge_durable(place, now)
            else:
                found = await judge_epochs(place, mode, now)
            problems += [f"run {run}, cut {number} at {cut.position}: {one}" for one in found]
            looked += len(now.updates)
            count += 1
            shutil.rmtree(place)
        shutil.rmtree(folder)
        folder = following
    return count, looked, problems


@pytest.mark.timeout(120 * SCALE)
async def test_whatever_was_acknowledged_or_seen_survives_a_power_cut(
    recorder: Recorder, quick: Path
) -> None:
    count, looked, problems = await cut_often(
        recorder, quick, Acknowledge.DURABLE, RUNS, CUTS * SCALE
    )
    assert problems[:PROBLEMS_MAX] == []
    assert count >= 200
    assert looked > 10_000


@pytest.mark.parametrize("mode", [Acknowledge.WRITTEN, Acknowledge.MEMORY])
async def test_where_updates_may_be_lost_readers_are_told(
    recorder: Recorder, quick: Path, mode: Acknowledge
) -> None:
    _, looked, problems = await cut_often(recorder, quick, mode, 3, 10 * SCALE)
    assert problems[:PROBLEMS_MAX] == []
    assert looked > 1_000


async def test_the_same_cuts_lose_updates_of_a_hub_that_does_not_sync(
    recorder: Recorder, quick: Path
) -> None:
    """The proof can fail: `written` syncs with checkpoints only."""
    folder = quick / "run"
    folder.mkdir()
    lost = 0
    for number, cut in enumerate(
        Load(recorder, folder, random.Random(5)).cuts(Acknowledge.WRITTEN, 10, early=0)
    ):
        place = quick / f"cut-{number}"
        cut.build(place)
        problems = await judge_durable(place, Promises().and_(cut.witness()))
        lost += sum("missing or different" in problem for problem in problems)
    assert lost > 0
