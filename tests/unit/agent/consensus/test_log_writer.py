"""Group commit: one write in flight, the next gathering; messages leave with their write."""

from __future__ import annotations

import threading
import time

from tests.harness.eventually import eventually

from callboard.agent.consensus.disk import MemoryDisk
from callboard.agent.consensus.disk_thread import LoopThread
from callboard.agent.consensus.log_writer import LogWriter, WriteBatch
from callboard.agent.consensus.segment_log import create_log, open_log
from callboard.raft.messages import (
    Configuration,
    Entry,
    EntryKind,
    HardState,
    Message,
    MessageKind,
    SnapshotMetadata,
)
from callboard.raft.ready import Ready

ACK = Message(MessageKind.APPEND_RESPONSE, "a", "b", 1)


def entry(index: int, term: int = 1) -> Entry:
    return Entry(index, term, EntryKind.NORMAL, b"%d" % index)


def ready(number: int, *entries: Entry, hard_state: HardState | None = None) -> Ready:
    last = entries[-1] if entries else entry(0)
    return Ready(
        number=number,
        hard_state=hard_state,
        entries=entries,
        messages=(),
        after_persist=(ACK,),
        committed=(),
        read_states=(),
        reads_dropped=(),
        install=None,
        index=last.index,
        term=last.term,
    )


class Writing:
    """A writer over a disk whose writes can be held."""

    def __init__(self) -> None:
        self.disk = MemoryDisk(remembers=True)
        opened, _ = create_log(self.disk, "cluster", Configuration(("a",)))
        self.durable: list[WriteBatch] = []
        self.failed: list[Exception] = []
        self.observed: list[float] = []
        self.writes = 0
        self.go = threading.Event()
        self.go.set()
        self.disk.before = self._before
        self.writer = LogWriter(
            opened,
            LoopThread("raft-log"),
            now=time.monotonic,
            on_durable=self.durable.append,
            on_failed=self.failed.append,
            observe_s=self.observed.append,
        )

    def _before(self, operation: str) -> None:
        if operation == "sync":
            self.go.wait(10)
            self.writes += 1

    async def stop(self) -> list[Entry]:
        self.go.set()
        await self.writer.stop(10)
        return open_log(self.disk, "cluster")[1].entries


async def test_readies_that_come_during_a_write_share_the_next() -> None:
    writing = Writing()
    writing.go.clear()
    for number in range(1, 6):
        writing.writer.add(ready(number, entry(number)), 0)
    assert not writing.writer.idle
    writing.go.set()
    await eventually(lambda: writing.writer.idle)
    assert [batch.number for batch in writing.durable] == [1, 5]
    assert [len(batch.messages) for batch in writing.durable] == [1, 4]
    assert writing.writes == 2
    assert await writing.stop() == [entry(number) for number in range(1, 6)]


async def test_time_of_each_write_is_told() -> None:
    writing = Writing()
    writing.go.clear()
    writing.writer.add(ready(1, entry(1)), 0)
    writing.writer.add(ready(2, entry(2)), 0)
    writing.writer.note_commit(2, lambda: None)
    writing.go.set()
    await eventually(lambda: writing.writer.idle)
    assert len(writing.observed) == 2
    assert all(0.0 < seconds < 10.0 for seconds in writing.observed)
    await writing.stop()


async def test_entry_overridden_before_it_was_written_is_never_written() -> None:
    writing = Writing()
    writing.go.clear()
    writing.writer.add(ready(1, entry(1)), 0)
    writing.writer.add(ready(2, entry(2), entry(3)), 0)
    writing.writer.add(ready(3, entry(2, term=2), hard_state=HardState(2, "b")), 0)
    writing.go.set()
    await eventually(lambda: writing.writer.idle)
    assert await writing.stop() == [entry(1), entry(2, term=2)]


async def test_messages_without_a_write_wait_for_those_before() -> None:
    writing = Writing()
    writing.go.clear()
    writing.writer.add(ready(1, entry(1)), 0)
    writing.writer.release_later([ACK, ACK])
    assert writing.durable == []
    writing.go.set()
    await eventually(lambda: writing.writer.idle)
    assert [len(batch.messages) for batch in writing.durable] == [3]
    await writing.stop()


async def test_reset_keeps_its_place_between_the_batches() -> None:
    writing = Writing()
    done: list[str] = []
    snapshot = SnapshotMetadata(50, 2, Configuration(("a",)))
    writing.writer.add(ready(1, entry(1), entry(2)), 0)
    writing.writer.reset(snapshot, lambda: done.append("reset"))
    writing.writer.add(ready(2, entry(51, term=2)), 0)
    await eventually(lambda: writing.writer.idle)
    assert done == ["reset"]
    assert await writing.stop() == [entry(51, term=2)]


async def test_age_of_a_held_write_grows_and_is_zero_when_none_is_out() -> None:
    writing = Writing()
    assert writing.writer.write_age_s(time.monotonic()) == 0.0
    writing.go.clear()
    writing.writer.add(ready(1, entry(1)), 0)
    assert writing.writer.write_age_s(time.monotonic() + 5) >= 5
    await writing.stop()


async def test_nothing_is_written_after_a_failure() -> None:
    writing = Writing()

    def broken(operation: str) -> None:
        raise OSError(5, "injected")

    writing.disk.before = broken
    writing.writer.add(ready(1, entry(1)), 0)
    await eventually(lambda: writing.failed)
    writing.disk.before = lambda operation: None
    writing.writer.add(ready(2, entry(2)), 0)
    await writing.writer.stop(5)
    assert writing.durable == []
    assert open_log(writing.disk, "cluster")[1].entries == []
