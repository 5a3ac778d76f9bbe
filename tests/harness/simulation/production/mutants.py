"""The production code with one rule broken on purpose. A simulation that does not notice proves
nothing by finding no fault in the real one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest

from callboard.agent.consensus.disk import MemoryFile
from callboard.agent.consensus.driver import RaftDriver
from callboard.agent.consensus.member import RaftMember
from callboard.agent.consensus.remote import RemoteProposals
from callboard.agent.consensus.segment_log import SegmentLog
from callboard.agent.ports import Applied, ProposalUnknown
from callboard.agent.rpc.engine_wire import NotLeaderHere
from callboard.agent.rpc.links import PeerLink
from callboard.agent.rpc.wire import FrameKind
from callboard.agent.state.dedupe import RequestLog
from callboard.raft.messages import Entry, HardState

Mutant = Callable[[pytest.MonkeyPatch], None]


def disk_acknowledges_before_it_is_durable(patch: pytest.MonkeyPatch) -> None:
    """A write cache that lies, or a log that forgets to sync."""
    patch.setattr(MemoryFile, "write_durably", lambda file, offset, data: file.write(offset, data))


def vote_is_not_persisted(patch: pytest.MonkeyPatch) -> None:
    """The term is, the vote in it is not (I2)."""
    honest = SegmentLog.append

    def append(
        log: SegmentLog,
        entries: Sequence[Entry],
        hard_state: HardState | None = None,
        commit: int = 0,
    ) -> None:
        if hard_state is not None:
            hard_state = HardState(hard_state.term, "")
        honest(log, entries, hard_state, commit)

    patch.setattr(SegmentLog, "append", append)


def reads_need_no_barrier(patch: pytest.MonkeyPatch) -> None:
    """Whatever is applied here is answered."""

    async def read_index(driver: RaftDriver, timeout_s: float = 7.0) -> int:
        return driver.applied_index

    patch.setattr(RaftDriver, "read_index", read_index)


def leader_reads_without_a_quorum(patch: pytest.MonkeyPatch) -> None:
    """Who believes to lead believes to be the only one (I9)."""

    def read(member: RaftMember) -> asyncio.Future[int]:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        member.applier.wait(member.core.commit, future)
        return future

    patch.setattr(RaftMember, "read", read)


def unknown_outcome_is_tried_again(patch: pytest.MonkeyPatch) -> None:
    """What may have been done is done once more."""
    honest = RemoteProposals.propose

    async def propose(
        remote: RemoteProposals, address: str, command: bytes, timeout_s: float
    ) -> Applied:
        try:
            return await honest(remote, address, command, timeout_s)
        except ProposalUnknown as problem:
            raise NotLeaderHere(str(problem)) from problem

    patch.setattr(RemoteProposals, "propose", propose)


def ready_before_anything_is_known(patch: pytest.MonkeyPatch) -> None:
    """ "Not loaded yet" is called "empty"."""

    async def become_ready(driver: RaftDriver) -> None:
        driver._ready = True
        driver._changed()

    patch.setattr(RaftDriver, "_become_ready", become_ready)


def peer_that_moved_is_sent_to_where_it_was(patch: pytest.MonkeyPatch) -> None:
    """A link keeps its connection though gossip knows the peer elsewhere."""

    def send(link: PeerLink, body: bytes) -> bool:
        connection = link._connection
        if connection is None:
            return False
        connection.send(FrameKind.MESSAGE, body)
        return True

    patch.setattr(PeerLink, "send", send)


def request_ids_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    """A registration that is asked for again is done again (I13)."""
    patch.setattr(RequestLog, "answer", lambda requests, request_id: None)


MUTANTS: tuple[Mutant, ...] = (
    disk_acknowledges_before_it_is_durable,
    vote_is_not_persisted,
    reads_need_no_barrier,
    leader_reads_without_a_quorum,
    unknown_outcome_is_tried_again,
    ready_before_anything_is_known,
    request_ids_are_forgotten,
    peer_that_moved_is_sent_to_where_it_was,
)
