"""The rpc methods of a server agent's consensus."""

from __future__ import annotations

import asyncio

import msgspec

from callboard.agent.consensus.applier import Overwritten
from callboard.agent.consensus.driver import RaftDriver
from callboard.agent.consensus.member import ReadDropped
from callboard.agent.ports import EngineError
from callboard.agent.rpc import Peer, RpcServer
from callboard.agent.rpc.engine_wire import (
    BARRIER,
    PROPOSAL,
    TIMEOUT_MAX_S,
    NotLeaderHere,
    Outcome,
    Proposal,
    Status,
    to_rpc,
)
from callboard.agent.rpc.errors import ProtocolError
from callboard.agent.rpc.wire import ENCODER, decode_body
from callboard.raft.errors import NotLeader, ProposalDropped

_HASH = msgspec.msgpack.Decoder(tuple[int, int])


class ConsensusService:
    """Serves a driver to other agents."""

    def __init__(self, driver: RaftDriver) -> None:
        self._driver = driver

    def register(self, server: RpcServer) -> None:
        """Register every method. Before the server listens."""
        server.register("status", self.status)
        server.register("promise", self._driver.promise, servers_only=True)
        server.register("propose", self.propose)
        server.register("propose_here", self.propose_here, servers_only=True)
        server.register("read_index", self.read_index)
        server.register("read_index_here", self.read_index_here, servers_only=True)
        server.register("state_hash", self.state_hash, servers_only=True)

    async def status(self, peer: Peer, body: bytes) -> bytes:
        """A Status."""
        return ENCODER.encode(status_of(self._driver))

    async def propose(self, peer: Peer, body: bytes) -> bytes:
        """Proposal -> Outcome, wherever the leader is."""
        proposal = _proposal(body)
        try:
            applied = await self._driver.propose(proposal.command, proposal.timeout_s)
        except EngineError as problem:
            raise to_rpc(problem) from problem
        return ENCODER.encode(Outcome(applied.index, applied.value))  # type: ignore[arg-type]

    async def propose_here(self, peer: Peer, body: bytes) -> bytes:
        """Proposal -> Outcome, if this server leads."""
        proposal = _proposal(body)
        deadline = asyncio.get_running_loop().time() + proposal.timeout_s
        try:
            applied = await self._driver.propose_here(proposal.command, deadline)
        except (NotLeader, ProposalDropped, Overwritten) as problem:
            raise to_rpc(NotLeaderHere(str(problem))) from problem
        except EngineError as problem:
            raise to_rpc(problem) from problem
        return ENCODER.encode(Outcome(applied.index, applied.value))  # type: ignore[arg-type]

    async def read_index(self, peer: Peer, body: bytes) -> bytes:
        """Barrier -> index, wherever the leader is; this server has applied it."""
        try:
            return ENCODER.encode(await self._driver.read_index(_timeout_s(body)))
        except EngineError as problem:
            raise to_rpc(problem) from problem

    async def read_index_here(self, peer: Peer, body: bytes) -> bytes:
        """Barrier -> index, if this server leads."""
        deadline = asyncio.get_running_loop().time() + _timeout_s(body)
        try:
            return ENCODER.encode(await self._driver.read_here(deadline))
        except (NotLeader, ProposalDropped, ReadDropped, TimeoutError) as problem:
            raise to_rpc(NotLeaderHere(str(problem))) from problem
        except EngineError as problem:
            raise to_rpc(problem) from problem

    async def state_hash(self, peer: Peer, body: bytes) -> bytes:
        """The leader's (index, hash)."""
        index, value = decode_body(_HASH, body)
        self._driver.told_hash(peer, index, value)
        return b""


def status_of(driver: RaftDriver) -> Status:
    """What a server says of itself."""
    leader = driver.leader
    return Status(
        node_id=driver.node_id,
        cluster_id=driver.cluster_id,
        expect=driver.founds_with,
        voters=driver.voters,
        leader_id=leader.node_id if leader else "",
        leader_address=leader.address if leader else "",
        term=driver.term,
        commit=driver.commit_index,
        ready=driver.ready,
        last_contact_s=driver.last_contact_s,
    )


def _proposal(body: bytes) -> Proposal:
    proposal = decode_body(PROPOSAL, body)
    if not 0 < proposal.timeout_s <= TIMEOUT_MAX_S:
        raise ProtocolError("timeout out of range")
    return proposal


def _timeout_s(body: bytes) -> float:
    timeout_s = decode_body(BARRIER, body).timeout_s
    if not 0 < timeout_s <= TIMEOUT_MAX_S:
        raise ProtocolError("timeout out of range")
    return timeout_s
