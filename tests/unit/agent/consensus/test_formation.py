"""Who founds a cluster, who joins, who has no vote, and who is refused."""

from __future__ import annotations

import logging
import random
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import msgspec
import pytest
from tests.harness.eventually import eventually
from tests.harness.raft_cluster import FAST, Cluster, ListState, Server, cluster

from callboard.agent.consensus.disk import MemoryDisk
from callboard.agent.consensus.formation import Formation
from callboard.agent.consensus.identity import (
    ClusterMark,
    IdentityError,
    cluster_id_of,
    keep_mark,
    load_mark,
    load_node_id,
    save_mark,
)
from callboard.agent.consensus.segment_log import ForeignLog
from callboard.agent.consensus.serving import ConsensusService
from callboard.agent.consensus.settings import ConsensusSettings
from callboard.agent.consensus.surroundings import Surroundings
from callboard.agent.ports import NoLeader
from callboard.agent.rpc import Dialer, LocalMember, Peer, RpcClient, RpcServer
from callboard.raft.messages import Message, MessageKind

ALONE = replace(FAST, bootstrap_expect=1)


def test_node_id_is_made_once_and_kept() -> None:
    disk = MemoryDisk(remembers=True)
    first = load_node_id(disk)
    disk.lose_unsynced()
    assert load_node_id(disk) == first
    assert str(uuid.UUID(first)) == first


def test_wanted_node_id_is_kept() -> None:
    disk = MemoryDisk()
    wanted = str(uuid.uuid4())
    assert load_node_id(disk, wanted) == wanted
    assert load_node_id(disk) == wanted


def test_data_directory_of_another_node_is_refused() -> None:
    disk = MemoryDisk()
    load_node_id(disk)
    with pytest.raises(IdentityError, match="belongs to node"):
        load_node_id(disk, str(uuid.uuid4()))


def test_damaged_node_id_is_refused() -> None:
    disk = MemoryDisk()
    disk.create("node-id").write(0, b"nonsense")
    with pytest.raises(IdentityError, match="not a UUID"):
        load_node_id(disk)


def test_mark_is_read_as_it_was_written() -> None:
    disk = MemoryDisk(remembers=True)
    mark = ClusterMark("c", ("a", "b", "c"), may_vote=False)
    save_mark(disk, mark)
    disk.lose_unsynced()
    assert load_mark(disk) == mark


def test_damaged_mark_is_refused() -> None:
    disk = MemoryDisk()
    disk.create("cluster.json").write(0, b"{")
    with pytest.raises(IdentityError, match=r"cluster\.json"):
        load_mark(disk)


def test_mark_of_an_unknown_format_is_refused_by_name() -> None:
    disk = MemoryDisk()
    disk.create("cluster.json").write(0, b'{"format":2,"cluster_id":7}')
    with pytest.raises(IdentityError, match=r"file cluster\.json: format 2 is unknown"):
        load_mark(disk)


@pytest.mark.parametrize("gone", ["cluster.json", "voteless"])
def test_lost_vote_stays_lost_when_one_record_of_it_is_gone(gone: str) -> None:
    data, raft = MemoryDisk(), MemoryDisk()
    mark = ClusterMark("c", ("a", "b", "c"))
    lost = keep_mark(data, raft, msgspec.structs.replace(mark, may_vote=False))
    (data if gone in data.names() else raft).remove(gone)
    assert not lost.may_vote
    assert keep_mark(data, raft, load_mark(data) or mark) == lost
    assert "voteless" in raft.names()
    assert load_mark(data) == lost


def test_cluster_id_is_the_same_whoever_works_it_out() -> None:
    assert cluster_id_of("dc1", ("b", "a")) == cluster_id_of("dc1", ("a", "b"))
    assert cluster_id_of("dc1", ("a", "b")) != cluster_id_of("dc2", ("a", "b"))


@pytest.mark.parametrize("expect", [2, 4, 7])
def test_expecting_another_number_than_one_three_or_five_is_refused(expect: int) -> None:
    with pytest.raises(ValueError, match="must be 1, 3 or 5"):
        ConsensusSettings(bootstrap_expect=expect)


async def test_lone_server_leads_at_once() -> None:
    async with cluster(1, ALONE) as made:
        applied = await made.servers[0].driver.propose(b"one", timeout_s=2)
        assert applied.value == 1
        assert made.servers[0].driver.is_leader


async def test_founders_do_not_wait_for_an_election_timeout() -> None:
    async with cluster(3, replace(FAST, election_timeout_s=30.0)) as made:
        leader = await made.leader()
        assert leader.node_id == "id-1"
        assert leader.driver.term == 1


async def test_five_servers_found_one_cluster() -> None:
    async with cluster(5, replace(FAST, bootstrap_expect=5)) as made:
        leader = await made.leader()
        await leader.driver.propose(b"one")
        await made.converged([b"one"])
        assert len(leader.driver.voters) == 5


async def test_two_of_three_found_nothing() -> None:
    async with cluster(2) as made:
        with pytest.raises(NoLeader, match="No cluster leader"):
            await made.servers[0].driver.propose(b"never", timeout_s=0.6)
        assert made.servers[0].driver.trouble() == "not part of a cluster yet"
        assert made.servers[0].driver.leader is None
        assert not made.servers[0].driver.ready


async def test_server_that_expects_nothing_founds_nothing() -> None:
    async with cluster(1, replace(FAST, bootstrap_expect=0)) as made:
        with pytest.raises(NoLeader):
            await made.servers[0].driver.propose(b"never", timeout_s=0.4)


async def test_fourth_server_becomes_no_voter_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    async with cluster(3) as made:
        await made.leader()
        fourth = Server("id-4", FAST, made.addresses)
        made.servers.append(fourth)
        await fourth.start()
        await eventually(lambda: "starts without a vote" in caplog.text)
        assert "without this server" in (fourth.driver.trouble() or "")
        assert not fourth.driver.ready


async def test_server_with_a_new_directory_joins_without_a_vote() -> None:
    async with cluster(3) as made:
        await made.leader()
        lost = (await made.followers())[0]
        await lost.crash()
        stranger = Server("id-9", FAST, made.addresses)
        made.servers.append(stranger)
        await stranger.start()
        leader = await eventually(
            lambda: next((s for s in made.servers if s.running and s.driver.is_leader), None)
        )
        assert leader is not None
        await leader.driver.propose(b"goes on with two of three")
        assert stranger.driver.term == 0


async def test_founder_that_lost_its_log_follows_without_a_vote() -> None:
    async with cluster(3) as made:
        leader = await made.leader()
        await leader.driver.propose(b"one")
        lost = (await made.followers())[0]
        await lost.crash()
        lost.raft = MemoryDisk(remembers=True)
        await lost.start(seed=1)
        await eventually(lambda: lost.state.commands == [b"one"])
        assert "lost its log" in (lost.driver.trouble() or "")
        await lost.crash()
        await lost.start(seed=2)
        await eventually(lambda: lost.state.commands == [b"one"])
        assert "lost its log" in (lost.driver.trouble() or "")


async def test_founder_that_lost_everything_but_its_id_elects_nobody() -> None:
    async with cluster(3) as made:
        leader = await made.leader()
        await leader.driver.propose(b"one")
        lost, other = await made.followers()
        await leader.crash()
        await lost.crash()
        lost.data, lost.raft = MemoryDisk(remembers=True), MemoryDisk(remembers=True)
        await lost.start(seed=1)
        await eventually(lambda: lost.driver.cluster_id == other.driver.cluster_id)
        assert "lost its log" in (lost.driver.trouble() or "")
        with pytest.raises(NoLeader):
            await other.driver.propose(b"never", timeout_s=1.0)


async def test_wiped_founder_gains_nothing_by_asking_servers_that_have_not_read_their_disks() -> (
    None
):
    async with cluster(3) as made:
        leader = await made.leader()
        await leader.driver.propose(b"one")
        lost = (await made.followers())[0]
        others = [server for server in made.servers if server is not lost]
        for server in made.servers:
            await server.crash()
        lost.data, lost.raft = MemoryDisk(remembers=True), MemoryDisk(remembers=True)
        for server in others:
            await server.listen()
        asked = count_asked(others)
        await lost.start(seed=1)
        await eventually(lambda: len(asked) >= 4)
        for server in others:
            await server.driver.start()
            server.running = True
        await eventually(lambda: lost.driver.cluster_id != "")
        assert "lost its log" in (lost.driver.trouble() or "")


async def test_vote_found_lost_while_the_leader_is_known_stays_lost() -> None:
    async with cluster(3) as made:
        leader = await made.leader()
        await leader.driver.propose(b"one")
        rolled_back = (await made.followers())[0]
        member = rolled_back.driver._member
        assert member is not None
        beyond = member.core.last_index + 1000
        member.receive(
            Message(
                MessageKind.HEARTBEAT,
                leader.node_id,
                rolled_back.node_id,
                member.core.term,
                commit=beyond,
            ),
            True,
        )
        mark = load_mark(rolled_back.data)
        assert mark is not None
        assert not mark.may_vote


def count_asked(servers: list[Server]) -> list[str]:
    """The ids of these servers, each as often as its status was asked for since."""
    asked: list[str] = []

    def watch(server: Server) -> None:
        async def status(peer: Peer, body: bytes) -> bytes:
            asked.append(server.node_id)
            return await ConsensusService(server.driver).status(peer, body)

        server.server.register("status", status)

    for server in servers:
        watch(server)
    return asked


async def test_losing_the_mark_as_well_does_not_give_a_lost_vote_back() -> None:
    async with cluster(3) as made:
        leader = await made.leader()
        await leader.driver.propose(b"one")
        lost = (await made.followers())[0]
        await lost.crash()
        lost.raft = MemoryDisk(remembers=True)
        await lost.start(seed=1)
        await eventually(lambda: lost.state.commands == [b"one"])
        await lost.crash()
        lost.data.remove("cluster.json")
        await lost.start(seed=2)
        assert "lost its log" in (lost.driver.trouble() or "")


async def test_founder_whose_mark_was_not_written_any_more_keeps_its_vote() -> None:
    async with cluster(3) as made:
        follower = (await made.followers())[0]
        await follower.crash()
        follower.data.remove("cluster.json")
        await follower.start(seed=1)
        await eventually(lambda: follower.driver.trouble() is None)


@asynccontextmanager
async def two_and_a_late_founder() -> AsyncIterator[tuple[Cluster, Server]]:
    """Two founders have a leader; the third is known, and answers, and cannot see anybody yet."""

    def late(made: Cluster) -> None:
        made.servers[2].addresses = {}

    async with cluster(3, prepare=late) as made:
        third = made.servers[2]
        made.addresses["id-3"] = third.server.address
        await eventually(
            lambda: made.servers[0].driver.is_leader or made.servers[1].driver.is_leader
        )
        yield made, third


async def test_late_founder_joins_the_cluster_the_others_founded() -> None:
    async with two_and_a_late_founder() as (made, third):
        assert third.driver.cluster_id == ""
        third.addresses.update(made.addresses)
        await eventually(lambda: third.driver.ready)
        assert third.driver.cluster_id == made.servers[0].driver.cluster_id


async def test_log_of_another_cluster_is_refused_at_the_start() -> None:
    async with cluster(1, ALONE) as one, cluster(1, ALONE) as other:
        await one.servers[0].driver.propose(b"one")
        other.servers[0].local.node_id = "id-x"
        await one.servers[0].stop()
        mixed = Server("id-1", ALONE, {}, data=one.servers[0].data, raft=one.servers[0].raft)
        save_mark(mixed.data, ClusterMark("another-cluster", ("id-1",)))
        with pytest.raises(ForeignLog, match="belongs to cluster"):
            await mixed.start()
        await mixed.client.stop()
        await mixed.server.stop()


async def test_founder_that_stopped_before_it_had_a_log_keeps_its_vote() -> None:
    async with two_and_a_late_founder() as (made, third):
        await third.crash()
        third.addresses = made.addresses
        await third.start(seed=1)
        await eventually(lambda: third.driver.ready)
        assert third.driver.trouble() is None
        assert third.data.names() == ["cluster.json"]


def founder(disk: MemoryDisk, now: list[float]) -> tuple[Formation, list[Exception]]:
    failed: list[Exception] = []
    local = LocalMember("a", "agent-a", "dc1")
    dialer = Dialer(local)
    around = Surroundings(
        data=disk,
        raft=MemoryDisk(),
        state=ListState(),
        server=RpcServer(local),
        client=RpcClient(dialer),
        dialer=dialer,
        address_of=lambda node_id: None,
        servers=dict,
        after_apply=lambda: None,
        on_fatal=lambda reason: None,
        now=lambda: now[0],
        rng=random.Random(1),
    )
    formation = Formation(local, 3, around, on_failed=failed.append)
    return formation, failed


async def promises(formation: Formation, *voters: str) -> bool:
    peer = Peer("b", "agent-b", "", "127.0.0.1:1")
    answer = await formation.promise(peer, msgspec.msgpack.encode(voters))
    return msgspec.msgpack.decode(answer, type=bool)


async def test_promise_excludes_another_set_until_it_expires() -> None:
    now = [0.0]
    formation, _ = founder(MemoryDisk(), now)
    assert await promises(formation, "a", "b", "c")
    assert not await promises(formation, "a", "d", "e")
    now[0] = 11.0
    assert await promises(formation, "a", "d", "e")


async def test_promise_is_not_forgotten_by_a_restart() -> None:
    now = [0.0]
    disk = MemoryDisk(remembers=True)
    before, _ = founder(disk, now)
    assert await promises(before, "a", "b", "c")
    disk.lose_unsynced()
    after, _ = founder(disk, now)
    assert not await promises(after, "a", "d", "e")
    assert await promises(after, "a", "b", "c")


async def test_promise_that_cannot_be_kept_is_not_given_and_the_agent_leaves() -> None:
    disk = MemoryDisk()
    formation, failed = founder(disk, [0.0])

    def full(operation: str) -> None:
        if operation == "write":
            raise OSError(28, "No space left on device")

    disk.before = full
    assert not await promises(formation, "a", "b", "c")
    assert len(failed) == 1
