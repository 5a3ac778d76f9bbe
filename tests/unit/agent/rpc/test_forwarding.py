"""A client agent's engine: any live server will do, and nothing is sent twice."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
from tests.harness.eventually import eventually
from tests.harness.raft_cluster import FAST, Cluster, cluster

from callboard.agent.ports import EngineError, NoLeader, ProposalUnknown
from callboard.agent.rpc import Dialer, LocalMember, Peer, RpcClient, RpcError, RpcServer
from callboard.agent.rpc.engine_wire import from_rpc, to_rpc
from callboard.agent.rpc.forwarding import ForwardingEngine


@asynccontextmanager
async def forwarding(servers: Callable[[], Sequence[str]]) -> AsyncIterator[ForwardingEngine]:
    client = RpcClient(Dialer(LocalMember("id-client", "agent-9", "dc1")))
    engine = ForwardingEngine(client, servers, rng=random.Random(1))
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()
        await client.stop()


def addresses(made: Cluster) -> Callable[[], Sequence[str]]:
    return lambda: list(made.addresses.values())


async def test_proposals_and_barriers_go_by_way_of_a_server() -> None:
    async with cluster() as made, forwarding(addresses(made)) as engine:
        await made.leader()
        assert (await engine.propose(b"one")).value == 1
        assert await engine.read_index() >= 1
        await made.converged([b"one"])


async def test_leader_term_and_readiness_are_those_of_a_server() -> None:
    async with cluster() as made, forwarding(addresses(made)) as engine:
        leader = await made.leader()
        await eventually(lambda: engine.ready)
        assert engine.leader == leader.driver.leader
        assert engine.term == leader.driver.term
        assert engine.voters == leader.driver.voters
        assert not engine.is_leader
        assert engine.last_contact_s < 5


async def test_listener_hears_of_the_leader() -> None:
    async with cluster() as made, forwarding(addresses(made)) as engine:
        heard: list[bool] = []
        engine.listen(lambda: heard.append(engine.ready))
        await eventually(lambda: True in heard)


async def test_dead_server_is_passed_over() -> None:
    async with cluster() as made, forwarding(addresses(made)) as engine:
        await made.leader()
        known = list(made.addresses.values())
        async with forwarding(lambda: known) as other:
            await other.propose(b"one")
            await (await made.followers())[0].crash()
            for number in range(5):
                await other.propose(b"%d" % number)
        assert engine.term >= 0


async def test_no_server_is_no_leader_within_the_time() -> None:
    async with forwarding(lambda: []) as engine:
        with pytest.raises(NoLeader, match="No known Consul servers"):
            await engine.propose(b"x", timeout_s=0.3)
        with pytest.raises(NoLeader):
            await engine.read_index(timeout_s=0.3)
        assert not engine.ready


async def test_cluster_without_a_leader_is_no_leader() -> None:
    async with cluster(1, FAST) as made, forwarding(addresses(made)) as engine:
        with pytest.raises(NoLeader, match="No cluster leader"):
            await engine.propose(b"x", timeout_s=0.5)


async def test_proposal_that_may_have_arrived_is_not_sent_again() -> None:
    received: list[bytes] = []
    server = RpcServer(LocalMember("id-1", "agent-1", "dc1"))

    async def hang_up(peer: Peer, body: bytes) -> bytes:
        received.append(body)
        for connection in list(server._connections):
            connection.abort("test")
        return b""

    server.register("propose", hang_up)
    await server.start("127.0.0.1", 0)
    async with forwarding(lambda: [server.address]) as engine:
        with pytest.raises(ProposalUnknown):
            await engine.propose(b"x", timeout_s=2)
    assert len(received) == 1
    await server.stop()


@pytest.mark.parametrize(
    "problem", [NoLeader("No cluster leader"), ProposalUnknown("?"), EngineError("broken")]
)
def test_errors_keep_their_kind_on_the_wire(problem: EngineError) -> None:
    carried = from_rpc(str(to_rpc(problem)))
    assert (type(carried), str(carried)) == (type(problem), str(problem))


def test_text_of_an_unknown_kind_is_an_engine_error() -> None:
    assert type(from_rpc(str(RpcError("Strange: text")))) is EngineError
