"""Disks that fail or stall, pauses, diverging states: the member leaves, or gives way."""

from __future__ import annotations

import asyncio
import errno
import threading
import time
from dataclasses import replace

import pytest
from tests.harness.eventually import eventually
from tests.harness.raft_cluster import FAST, Server, cluster

from callboard.agent.consensus.disk import MemoryDisk
from callboard.agent.consensus.state_hashes import StateDiverged, StateHashes
from callboard.agent.ports import EngineError
from callboard.raft.errors import InvariantBroken

ALONE = replace(FAST, bootstrap_expect=1)


def disk_of(server: Server) -> MemoryDisk:
    assert isinstance(server.raft, MemoryDisk)
    return server.raft


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
async def test_failed_write_of_the_log_is_fatal_and_nothing_is_acknowledged(number: int) -> None:
    async with cluster(1, ALONE) as made:
        server = made.servers[0]
        await server.driver.propose(b"one")

        def fail(operation: str) -> None:
            if operation == "sync":
                raise OSError(number, "injected")

        disk_of(server).before = fail
        with pytest.raises(EngineError, match="consensus has stopped"):
            await server.driver.propose(b"two")
        assert len(server.fatal) == 1
        assert "cannot write the log, segment 00000001.log offset" in server.fatal[0]
        assert "consensus has stopped" in (server.driver.trouble() or "")
        disk_of(server).before = lambda operation: None
        with pytest.raises(EngineError):
            await server.driver.propose(b"three")
        assert server.state.commands == [b"one"]


async def test_failed_follower_leaves_and_the_others_go_on() -> None:
    async with cluster() as made:
        leader = await made.leader()
        follower = (await made.followers())[0]

        def fail(operation: str) -> None:
            raise OSError(errno.EIO, "injected")

        disk_of(follower).before = fail
        for number in range(5):
            await leader.driver.propose(b"%d" % number)
        await eventually(lambda: follower.fatal)
        assert not leader.fatal


async def test_full_disk_while_a_snapshot_is_written_is_fatal() -> None:
    async with cluster(1, replace(ALONE, snapshot_threshold=10)) as made:
        server = made.servers[0]
        await server.driver.propose(b"one")

        def full(operation: str) -> None:
            if operation == "create":
                raise OSError(errno.ENOSPC, "No space left on device")

        disk_of(server).before = full
        with pytest.raises(EngineError):
            for _ in range(100):
                await server.driver.propose(b"more")
        assert "No space left" in server.fatal[0]


async def test_leader_whose_disk_stalls_gives_way_and_writes_go_on() -> None:
    async with cluster() as made:
        leader = await made.leader()
        release = threading.Event()

        def stall(operation: str) -> None:
            if operation == "sync":
                release.wait(20)

        disk_of(leader).before = stall
        try:
            survivor = (await made.followers())[0]
            lost = asyncio.create_task(leader.driver.propose(b"stalled"))
            await eventually(lambda: not leader.driver.is_leader)
            assert "disk does not answer" in (leader.driver.trouble() or "")
            began_at = time.monotonic()
            await survivor.driver.propose(b"after")
            assert time.monotonic() - began_at < 3
        finally:
            release.set()
            disk_of(leader).before = lambda operation: None
        await asyncio.gather(lost, return_exceptions=True)
        await eventually(lambda: b"after" in leader.state.commands)
        await eventually(lambda: leader.driver.trouble() is None)


def stand_still(duration_s: float) -> None:
    """Keep the loop from running."""
    until = time.monotonic() + duration_s
    while time.monotonic() < until:
        pass


async def test_standstill_of_the_loop_causes_no_election() -> None:
    async with cluster() as made:
        leader = await made.leader()
        term = leader.driver.term
        for _ in range(3):
            stand_still(0.8)
            await leader.driver.propose(b"still here")
        assert leader.driver.term == term
        assert await made.leader() is leader


@pytest.mark.parametrize("broken", ["resume", "applied_to"])
async def test_broken_invariant_stops_the_member_wherever_it_is_found(
    broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with cluster(1, ALONE) as made:
        server = made.servers[0]
        await server.driver.propose(b"one")
        member = server.driver._member
        assert member is not None

        def found(*_: object) -> None:
            raise InvariantBroken("I8", "injected")

        monkeypatch.setattr(member.core, broken, found)
        if broken == "resume":
            member._draining = True
            asyncio.get_running_loop().call_soon(member._drain, 0, True)
        else:
            asyncio.get_running_loop().call_soon(member._applied, member.applier.applied)
        await eventually(lambda: server.fatal)
        assert "I8" in server.fatal[0]


async def test_state_hashes_are_compared_and_agree() -> None:
    async with cluster(settings=replace(FAST, state_hash_interval=10)) as made:
        leader = await made.leader()
        for number in range(40):
            await leader.driver.propose(b"%d" % number)
        followers = await made.followers()
        await eventually(lambda: all(s.driver.hashes_compared >= 2 for s in followers))
        assert not any(server.fatal for server in made.servers)


async def test_follower_whose_state_differs_leaves() -> None:
    async with cluster(settings=replace(FAST, state_hash_interval=10)) as made:
        leader = await made.leader()
        follower, other = await made.followers()
        await leader.driver.propose(b"one")
        await made.converged([b"one"])
        follower.state.commands[0] = b"flipped"
        for number in range(30):
            await leader.driver.propose(b"%d" % number)
        await eventually(lambda: follower.fatal)
        assert "I12: the state at index" in follower.fatal[0]
        assert not leader.fatal
        assert not other.fatal


def test_hashes_that_agree_are_counted() -> None:
    hashes = StateHashes()
    hashes.record(10, 7)
    hashes.told(10, 7)
    hashes.told(20, 8)
    hashes.record(20, 8)
    assert hashes.compared == 2


def test_hashes_that_differ_raise_with_the_index() -> None:
    hashes = StateHashes()
    hashes.told(10, 7)
    with pytest.raises(StateDiverged, match="at index 10"):
        hashes.record(10, 8)


def test_hashes_of_long_ago_are_forgotten() -> None:
    hashes = StateHashes()
    for index in range(1000):
        hashes.told(index, 1)
    hashes.record(0, 2)
    assert hashes.compared == 0
