"""What a follower asks of the leader: carried once, shared by a tick, given up in time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tests.harness.eventually import eventually

from callboard.agent.consensus.remote import RemoteProposals, RemoteReads
from callboard.agent.ports import Applied, NoLeader, ProposalUnknown
from callboard.agent.rpc import Dialer, LocalMember, Peer, RpcClient, RpcServer
from callboard.agent.rpc.engine_wire import NotLeaderHere, Outcome, to_rpc
from callboard.agent.rpc.wire import ENCODER


class Leader:
    """A leader that answers, or refuses, or stands still."""

    def __init__(self) -> None:
        self.asked = 0
        self.cancelled = 0
        self.stands_still = False
        self.leads = True
        self.server = RpcServer(LocalMember("id-1", "agent-1", "dc1"))
        self.server.register("propose_here", self._propose)
        self.server.register("read_index_here", self._read)
        self.client = RpcClient(Dialer(LocalMember("id-2", "agent-2", "dc1")))

    async def _answer(self, value: object) -> bytes:
        self.asked += 1
        if not self.leads:
            raise to_rpc(NotLeaderHere("no"))
        if self.stands_still:
            try:
                await asyncio.Event().wait()
            finally:
                self.cancelled += 1
        return ENCODER.encode(value)

    async def _propose(self, peer: Peer, body: bytes) -> bytes:
        return await self._answer(Outcome(7, "done"))

    async def _read(self, peer: Peer, body: bytes) -> bytes:
        return await self._answer(7)

    def proposals(self, grace_s: float = 0.05) -> RemoteProposals:
        return RemoteProposals(self.client, grace_s)

    def reads(self) -> RemoteReads:
        return RemoteReads(
            self.client,
            leader_address=lambda: self.server.address,
            wait_applied=lambda index, future: future.set_result(index),
        )


@asynccontextmanager
async def leading() -> AsyncIterator[Leader]:
    leader = Leader()
    await leader.server.start("127.0.0.1", 0)
    try:
        yield leader
    finally:
        await leader.client.stop()
        await leader.server.stop()


async def test_proposal_is_answered_by_the_leader() -> None:
    async with leading() as leader:
        answer = await leader.proposals().propose(leader.server.address, b"x", 5)
        assert answer == Applied(7, "done")


async def test_server_that_does_not_lead_says_that_nothing_was_done() -> None:
    async with leading() as leader:
        leader.leads = False
        with pytest.raises(NotLeaderHere):
            await leader.proposals().propose(leader.server.address, b"x", 5)


async def test_dead_server_did_nothing() -> None:
    async with leading() as leader:
        address = leader.server.address
        await leader.server.stop()
        with pytest.raises(NotLeaderHere):
            await leader.proposals().propose(address, b"x", 5)


async def test_former_leader_that_stands_still_is_given_up_once_another_leads() -> None:
    async with leading() as leader:
        leader.stands_still = True
        proposals = leader.proposals()
        carried = asyncio.create_task(proposals.propose(leader.server.address, b"x", 60))
        await eventually(lambda: leader.asked == 1)
        proposals.leader_is("")
        proposals.leader_is(leader.server.address)
        proposals.leader_is("127.0.0.1:1")
        with pytest.raises(ProposalUnknown, match="leads no more"):
            await asyncio.wait_for(carried, 2)
        await eventually(lambda: leader.cancelled == 1)


async def test_barriers_of_one_tick_share_one_question() -> None:
    async with leading() as leader:
        reads = leader.reads()
        assert set(await asyncio.gather(*(reads.read() for _ in range(100)))) == {7}
        assert leader.asked == 1
        await reads.stop()


async def test_barriers_never_join_a_question_under_way() -> None:
    async with leading() as leader:
        leader.stands_still = True
        reads = leader.reads()
        first = reads.read()
        await eventually(lambda: leader.asked == 1)
        second = reads.read()
        await eventually(lambda: leader.asked == 2)
        reads.leader_is("127.0.0.1:1")
        for barrier in (first, second):
            with pytest.raises(NotLeaderHere):
                await barrier
        await reads.stop()


async def test_barrier_whose_question_is_given_up_before_it_began_is_to_be_asked_again() -> None:
    async with leading() as leader:
        reads = leader.reads()
        barrier = reads.read()
        asyncio.get_running_loop().call_soon(reads.leader_is, "127.0.0.1:1")
        with pytest.raises(NotLeaderHere):
            await asyncio.wait_for(barrier, 2)
        await reads.stop()


async def test_barrier_without_a_leader_is_to_be_asked_again() -> None:
    async with leading() as leader:
        reads = RemoteReads(
            leader.client, leader_address=lambda: "", wait_applied=lambda index, future: None
        )
        with pytest.raises(NotLeaderHere):
            await reads.read()
        await reads.stop()


def test_not_leader_here_is_no_other_engine_error() -> None:
    assert not issubclass(NotLeaderHere, NoLeader)
