"""The hub's history without its HTTP: commits, replays, and how long the WAL gets.

Claim: with 64 publications in flight at least 3,000 a second are durable (250 bytes each), and a
replay of 100,000 updates gives at least 100,000 a second; both on a disk whose own rate of syncs
is printed beside. With `--minutes N`: publishing for so long beside 50 replays that stall leaves
the WAL at 64 MB or less.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from benchmarks.harness.load import verdict

from callboard.hub.event import Publication, Update
from callboard.hub.history.sqlite import SqliteStore
from callboard.hub.history.store import Acknowledge, Bound, Retention
from callboard.hub.history.stored import StoredHistory
from callboard.hub.ports import HistoryBusy, HistoryError

ROUNDS = 3
IN_FLIGHT = 64
PUBLISH_S = 4.0
REPLAYED = 100_000
PAGE_BYTES = 256 * 1024
DATA = b"x" * 250
STALLED = 50
WAL_MAX = 64 << 20


@asynccontextmanager
async def running(folder: Path, mode: Acknowledge) -> AsyncIterator[StoredHistory]:
    """A history on a real disk."""
    retention = Retention(Bound(count=200_000))
    store = SqliteStore(folder, mode, retention)
    behind = store if mode is Acknowledge.MEMORY else None
    history = StoredHistory(store, retention, clock=time.time, fatal=sys.exit, behind=behind)
    await history.start()
    try:
        yield history
    finally:
        await history.close()


async def publish(history: StoredHistory, until: float, in_flight: int) -> int:
    """Publish, each place once its last one is acknowledged; how many."""
    loop = asyncio.get_running_loop()
    count = 0

    async def place(number: int) -> None:
        nonlocal count
        while time.monotonic() < until:
            done: asyncio.Future[None] = loop.create_future()

            def taken(outcome: Update | HistoryError, done: asyncio.Future[None] = done) -> None:
                if isinstance(outcome, HistoryError):
                    done.set_exception(outcome)
                else:
                    done.set_result(None)

            history.submit(Publication((f"topic/{(number + count) % 50}",), DATA), taken)
            try:
                await done
            except HistoryBusy:
                await asyncio.sleep(0.005)  # the disk sets the pace, of `memory` too
            else:
                await asyncio.sleep(0)
                count += 1

    await asyncio.gather(*(place(number) for number in range(in_flight)))
    return count


async def appends(folder: Path, mode: Acknowledge) -> float:
    """Publications a second."""
    async with running(folder, mode) as history:
        begin = time.monotonic()
        count = await publish(history, begin + PUBLISH_S, IN_FLIGHT)
        return count / (time.monotonic() - begin)


async def replay(folder: Path) -> float:
    """Updates a second, read from the store in pages as a reader reads them."""
    async with running(folder, Acknowledge.WRITTEN) as history:
        while history.head < REPLAYED:
            await publish(history, time.monotonic() + 0.5, 1_000)
        begin = time.monotonic()
        after = count = 0
        while count < REPLAYED:
            page = await history.read(after, PAGE_BYTES)
            count, after = count + len(page), page[-1].offset
        return count / (time.monotonic() - begin)


def syncs(folder: Path) -> float:
    """Appends of 4 KiB a second, each synced: what the disk itself gives one writer."""
    descriptor = os.open(folder / "raw", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    begin = time.monotonic()
    count = 0
    while time.monotonic() < begin + 1.0:
        os.write(descriptor, bytes(4096))
        os.fdatasync(descriptor)
        count += 1
    os.close(descriptor)
    return count / (time.monotonic() - begin)


async def longest_wal(folder: Path, minutes: float) -> int:
    """Bytes of the WAL at its longest, beside replays that read a page and stall."""
    wal = folder / "history.sqlite-wal"
    longest = 0
    async with running(folder, Acknowledge.DURABLE) as history:
        until = time.monotonic() + minutes * 60

        async def stalled(number: int) -> None:
            after = 0
            while time.monotonic() < until:
                page = await history.read(after, PAGE_BYTES)
                after = page[-1].offset if page else 0
                await asyncio.sleep(number / 5)

        async def watch() -> None:
            nonlocal longest
            while time.monotonic() < until:
                longest = max(longest, wal.stat().st_size)
                await asyncio.sleep(0.1)

        readers = [stalled(number) for number in range(STALLED)]
        await asyncio.gather(publish(history, until, IN_FLIGHT), watch(), *readers)
        print(f"{history.head:,} publications beside {STALLED} stalled replays", flush=True)
    return longest


async def main() -> int:
    """Run, print, answer 1 when a bar is missed."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--minutes", type=float, default=0.0, help="watch the WAL for so long")
    arguments.add_argument("--folder", type=Path, help="a folder on the disk to measure")
    given = arguments.parse_args()
    rates: dict[str, list[float]] = {}
    held = True
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        for round_number in range(1, ROUNDS + 1):
            here = Path(name) / str(round_number)
            here.mkdir()
            found = {"disk, syncs of 4 KiB": syncs(here)}
            for mode in Acknowledge:
                found[mode.value] = await appends(here / mode.value, mode)
            found["replay"] = await replay(here / "replay")
            for what, rate in found.items():
                rates.setdefault(what, []).append(rate)
                print(f"round {round_number} {what:21} {rate:10,.0f}/s", flush=True)
        if given.minutes:
            longest = await longest_wal(Path(name) / "wal", given.minutes)
            print(f"the WAL at its longest: {longest / (1 << 20):.1f} MB")
            held &= verdict("64 MB by the WAL", WAL_MAX / max(longest, 1), 1.0)
    held &= verdict("durable, 3,000/s", statistics.median(rates["durable"]) / 3_000, 1.0)
    held &= verdict("replay, 100,000/s", statistics.median(rates["replay"]) / 100_000, 1.0)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
