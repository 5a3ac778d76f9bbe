"""Entries are applied in order, in slices; who waits is told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest
from tests.harness.eventually import eventually
from tests.harness.raft_cluster import ListState

from callboard.agent.consensus.applier import Applier, BrokenOrder, Overwritten
from callboard.agent.ports import Applied, ProposalUnknown
from callboard.raft.messages import Entry, EntryKind, SnapshotMetadata


class Setting:
    """An applier with what it tells."""

    def __init__(self, state: ListState | None = None) -> None:
        self.slices: list[int] = []
        self.failed: list[Exception] = []
        self.hashed: list[int] = []
        self.observed: list[float] = []
        self.state = state or ListState()
        self.applier = Applier(
            self.state,
            applied_term=0,
            after_slice=self.slices.append,
            on_failed=self.failed.append,
            hash_interval=4,
            on_hash_due=self.hashed.append,
            now=time.perf_counter,
            observe_s=self.observed.append,
        )


class SlowState(ListState):
    def __init__(self, apply_s: float) -> None:
        super().__init__()
        self._apply_s = apply_s

    def apply(self, index: int, command: bytes) -> object:
        time.sleep(self._apply_s)
        return super().apply(index, command)


def entry(index: int, term: int = 1) -> Entry:
    return Entry(index, term, EntryKind.NORMAL, b"%d" % index)


def future() -> asyncio.Future[Applied]:
    return asyncio.get_running_loop().create_future()


def index_future() -> asyncio.Future[int]:
    return asyncio.get_running_loop().create_future()


async def test_short_batch_is_applied_at_once_as_one_slice() -> None:
    setting = Setting()
    setting.applier.add([entry(1), Entry(2, 1, EntryKind.NOOP, b""), entry(3)])
    assert setting.state.commands == [b"1", b"3"]
    assert setting.slices == [3]


async def test_long_batch_is_applied_in_slices_that_let_the_loop_run() -> None:
    setting = Setting(SlowState(0.0005))
    setting.applier.add([entry(index) for index in range(1, 101)])
    assert 0 < setting.applier.applied < 100
    await eventually(lambda: setting.applier.applied == 100)
    assert len(setting.slices) > 5


async def test_proposer_gets_what_the_machine_answered() -> None:
    setting = Setting()
    waiting = future()
    setting.applier.expect(1, 1, waiting)
    setting.applier.add([entry(1)])
    assert await waiting == Applied(1, 1)


async def test_proposer_whose_entry_was_overwritten_is_told() -> None:
    setting = Setting()
    waiting = future()
    setting.applier.expect(1, 1, waiting)
    setting.applier.add([entry(1, term=2)])
    with pytest.raises(Overwritten):
        await waiting


async def test_proposer_is_told_that_nobody_knows_when_its_index_is_proposed_at_anew() -> None:
    setting = Setting()
    first, second = future(), future()
    setting.applier.expect(1, 1, first)
    setting.applier.expect(1, 3, second)
    with pytest.raises(ProposalUnknown):
        await first
    setting.applier.add([entry(1, term=3)])
    assert (await second).index == 1


async def test_proposer_behind_a_snapshot_is_told_that_nobody_knows() -> None:
    setting = Setting()
    waiting = future()
    setting.applier.expect(1, 1, waiting)
    setting.applier.pause()
    await setting.applier.replace(SnapshotMetadata(9, 2), iter([]))
    with pytest.raises(ProposalUnknown):
        await waiting


async def test_time_of_a_proposal_is_told_once_it_is_applied() -> None:
    setting = Setting(SlowState(0.01))
    setting.applier.expect(1, 1, future())
    setting.applier.expect(2, 1, overwritten := future())
    setting.applier.add([entry(1), entry(2, term=2)])
    (seconds,) = setting.observed
    assert 0.01 <= seconds < 1.0
    with pytest.raises(Overwritten):
        await overwritten


async def test_waiter_is_told_once_its_index_is_applied() -> None:
    setting = Setting()
    early, late = index_future(), index_future()
    setting.applier.wait(2, early)
    setting.applier.wait(5, late)
    setting.applier.add([entry(1), entry(2)])
    assert await early == 2
    assert not late.done()
    setting.applier.fail_all(RuntimeError("end"))
    with pytest.raises(RuntimeError):
        await late


async def test_snapshot_wakes_those_it_covers_and_applying_goes_on_behind_it() -> None:
    setting = Setting()
    waiting = index_future()
    setting.applier.wait(9, waiting)
    setting.applier.pause()
    setting.applier.add([entry(1)])
    assert setting.state.commands == []
    await setting.applier.replace(SnapshotMetadata(9, 2), iter([b"\0\0\0\1x"]))
    assert await waiting == 9
    setting.applier._queue.clear()
    setting.applier.add([entry(10)])
    assert setting.state.commands == [b"x", b"10"]


def slow_chunks(count: int, chunk_s: float) -> Iterator[bytes]:
    for _ in range(count):
        time.sleep(chunk_s)
        yield b"\0\0\0\1x"


async def test_loop_breathes_and_the_old_state_stays_while_a_snapshot_is_read() -> None:
    setting = Setting()
    setting.applier.add([entry(1)])
    setting.applier.pause()
    seen: list[list[bytes]] = []
    reading = asyncio.ensure_future(
        setting.applier.replace(SnapshotMetadata(9, 2), slow_chunks(40, 0.002))
    )
    while not reading.done():
        seen.append(list(setting.state.commands))
        await asyncio.sleep(0)
    assert len(seen) > 10
    assert all(commands == [b"1"] for commands in seen[:-1])
    assert setting.state.commands == [b"x"] * 40
    assert setting.slices == [1, 9]


async def test_member_that_fails_while_a_snapshot_is_read_keeps_its_state() -> None:
    setting = Setting()
    setting.applier.add([entry(1)])
    setting.applier.pause()
    reading = asyncio.ensure_future(
        setting.applier.replace(SnapshotMetadata(9, 2), slow_chunks(20, 0.002))
    )
    await asyncio.sleep(0)
    setting.applier.fail_all(RuntimeError("the disk is gone"))
    await reading
    assert setting.state.commands == [b"1"]
    assert setting.applier.applied == 1
    assert setting.slices == [1]


@pytest.mark.parametrize("wrong", [0, 1, 3])
async def test_entry_out_of_order_stops_the_node(wrong: int) -> None:
    setting = Setting()
    setting.applier.add([entry(1)])
    setting.applier.add([entry(wrong)])
    assert isinstance(setting.failed[0], BrokenOrder)
    assert setting.state.commands == [b"1"]


async def test_machine_that_raises_stops_the_node() -> None:
    class Broken(ListState):
        def apply(self, index: int, command: bytes) -> object:
            raise ValueError("unknown command")

    setting = Setting(Broken())
    setting.applier.add([entry(1)])
    assert str(setting.failed[0]) == "unknown command"


async def test_hash_is_due_at_each_multiple_of_the_interval() -> None:
    setting = Setting()
    setting.applier.add([entry(index) for index in range(1, 10)])
    assert setting.hashed == [4, 8]
