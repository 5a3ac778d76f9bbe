"""RaftDriver: the `Engine` of a server agent. From a data directory to committed commands.

Its life: open the log, or wait until the cluster is founded; run the member; on the way out hand
leadership over. Callers see proposals and read barriers only; where the leader is, and that it
changed meanwhile, is settled here, within the time they give.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import TypeVar

import msgspec

from callboard.agent.consensus.applier import Overwritten
from callboard.agent.consensus.formation import Formation
from callboard.agent.consensus.identity import ClusterMark, keep_mark, load_mark
from callboard.agent.consensus.member import Hooks, RaftMember, ReadDropped
from callboard.agent.consensus.remote import RemoteProposals, RemoteReads
from callboard.agent.consensus.segment_log import (
    MAX_ENTRY_BYTES,
    LogFailed,
    Recovered,
    SegmentLog,
    create_log,
    has_log,
    open_log,
)
from callboard.agent.consensus.settings import ConsensusSettings
from callboard.agent.consensus.snapshots import SnapshotStore
from callboard.agent.consensus.snapshotting import Snapshotting
from callboard.agent.consensus.standing import Standing
from callboard.agent.consensus.state_hashes import StateDiverged
from callboard.agent.consensus.surroundings import Surroundings
from callboard.agent.consensus.transfer import SnapshotInbox
from callboard.agent.ports import (
    Applied,
    EngineError,
    NoLeader,
    ProposalUnknown,
)
from callboard.agent.rpc import LocalMember, Peer
from callboard.agent.rpc.engine_wire import NotLeaderHere
from callboard.agent.rpc.wire import ENCODER
from callboard.raft.errors import NotLeader, ProposalDropped, RaftError
from callboard.raft.messages import Configuration, Message

log = logging.getLogger(__name__)

T = TypeVar("T")

POLL_S = 0.1
"""How soon to look for a leader again when nothing tells that there is one."""
STOP_WRITE_TIMEOUT_S = 5.0
READY_TIMEOUT_S = 10.0
NO_LEADER = "No cluster leader"
"""Consul's text."""


class RaftDriver(Standing):
    """Consensus of one server agent. Implements `Engine`."""

    def __init__(
        self, settings: ConsensusSettings, local: LocalMember, surroundings: Surroundings
    ) -> None:
        super().__init__(settings, local, surroundings)
        self._mark: ClusterMark | None = None
        self._inbox: SnapshotInbox | None = None
        self._snapshotting: Snapshotting | None = None
        self._remote: RemoteReads | None = None
        self._carried = RemoteProposals(surroundings.client, settings.election_s)
        self._change = asyncio.Event()
        self._stopping = False
        self._listeners: list[Callable[[], None]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._network = surroundings.network(
            surroundings.dialer,
            surroundings.server,
            surroundings.address_of,
            surroundings.rng,
            receive=self._receive,
            inbox=lambda: self._inbox,
        )

    # Life ----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the log and run, or begin to look for the cluster; returns without a leader.

        Raises LogCorrupt, ForeignLog, SnapshotCorrupt, IdentityError, LogFailed or OSError: the
        text tells a person what to do, and nothing was changed.
        """
        raft, mark = self._around.raft, load_mark(self._around.data)
        if has_log(raft):
            cluster, size = mark.cluster_id if mark else "", self._settings.segment_bytes
            opened, recovered = open_log(raft, cluster, segment_bytes=size)
            mark = mark or ClusterMark(recovered.cluster_id, recovered.configuration.voters)
            self._run(keep_mark(self._around.data, raft, mark), opened, recovered)
        elif mark is not None:
            self._run_without_vote(mark)
        else:
            expect = self._settings.bootstrap_expect
            self._formation = Formation(self._local, expect, self._around, on_failed=self._fatal)
            self._own(self._found(self._formation))

    async def stop(self) -> None:
        """Leave gracefully: a leader hands over first. Everything acknowledged is durable."""
        self._stopping = True
        member = self._member
        if member is not None and await self.transfer_leadership():
            log.info("leadership handed over", extra={"to": member.core.leader})
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._remote is not None:
            await self._remote.stop()
        if self._snapshotting is not None:
            await self._snapshotting.stop()
        if member is not None:
            await member.stop(STOP_WRITE_TIMEOUT_S)
        if self._inbox is not None:
            await self._inbox.stop(STOP_WRITE_TIMEOUT_S)

    def listen(self, listener: Callable[[], None]) -> None:
        """Be called, on the loop, whenever leader, term, role or readiness changed."""
        self._listeners.append(listener)

    async def transfer_leadership(self, to: str = "") -> bool:
        """Hand leadership to voter `to` ("" = the one that holds most); True once done."""
        member = self._member
        if member is None or not member.is_leader:
            return False
        now = self._around.now()
        target = to or member.best_successor(now - self._settings.election_s)
        if not target:
            return False
        try:
            member.core.transfer_leadership(target, now)
        except RaftError as problem:
            log.info("cannot hand leadership over", extra={"to": target, "reason": str(problem)})
            return False
        member.schedule()
        deadline = asyncio.get_running_loop().time() + 2 * self._settings.election_s
        while member.is_leader and asyncio.get_running_loop().time() < deadline:
            await self._wait_for_change(deadline)
        return not member.is_leader

    # Engine --------------------------------------------------------------------------------

    async def propose(self, command: bytes, timeout_s: float = 7.0) -> Applied:
        """Commit `command`; return once applied on the leader and here.

        Raises NoLeader (nothing was done), ProposalUnknown, EngineError.
        """
        if len(command) > MAX_ENTRY_BYTES:
            raise EngineError(f"a command of {len(command)} bytes exceeds {MAX_ENTRY_BYTES}")
        deadline = asyncio.get_running_loop().time() + timeout_s
        while True:
            try:
                return await self._propose_once(command, deadline)
            except (NotLeader, NotLeaderHere, ProposalDropped, Overwritten):
                # Certain not to be committed: it is safe to propose it again.
                await self._pause(deadline)

    async def read_index(self, timeout_s: float = 7.0) -> int:
        """A linearizable read barrier: returns once the local state may be read (I9).

        Raises NoLeader.
        """
        deadline = asyncio.get_running_loop().time() + timeout_s
        while True:
            self._check_alive()
            try:
                if self.is_leader:
                    return await self.read_here(deadline)
                if self._remote is not None:
                    return await _within(deadline, self._remote.read())
            except (NotLeader, NotLeaderHere, ProposalDropped, ReadDropped):
                pass
            except TimeoutError as problem:
                raise NoLeader(NO_LEADER) from problem
            await self._pause(deadline)

    # For the rpc methods (serving.py) -------------------------------------------------------

    async def propose_here(self, command: bytes, deadline: float) -> Applied:
        """Propose as the leader, until the loop's time `deadline`.

        Raises NotLeader, ProposalDropped, Overwritten (nothing was committed), ProposalUnknown.
        """
        member = self._member
        if member is None or not member.is_leader:
            raise NotLeaderHere(NO_LEADER)
        try:
            return await _within(deadline, member.propose(command))
        except TimeoutError as problem:
            raise ProposalUnknown("not committed in time: it may be yet") from problem

    async def read_here(self, deadline: float) -> int:
        """A read barrier as the leader. Raises NotLeader, ReadDropped, TimeoutError."""
        member = self._member
        if member is None or not member.is_leader:
            raise NotLeaderHere(NO_LEADER)
        return await _within(deadline, member.read())

    async def promise(self, peer: Peer, body: bytes) -> bytes:
        """Whether this server founds a cluster with the voters named."""
        if self._formation is None or self._member is not None:
            return ENCODER.encode(False)
        return await self._formation.promise(peer, body)

    def told_hash(self, peer: Peer, index: int, value: int) -> None:
        """The leader's state hash at `index` came."""
        member = self._member
        if member is None or member.core.leader != peer.node_id:
            return
        try:
            self._hashes.told(index, value)
        except StateDiverged as problem:
            member.fail(problem)

    # Beginning -----------------------------------------------------------------------------

    async def _found(self, formation: Formation) -> None:
        mark = await formation.run()
        try:
            if not mark.may_vote:
                self._run_without_vote(mark)
                return
            opened, recovered = self._create_log(mark)
            # After the log: a mark without a log means that the log was lost.
            mark = keep_mark(self._around.data, self._around.raft, mark)
        except (LogFailed, OSError) as problem:
            self._fatal(problem)
            return
        # One of them, or their votes would be split.
        self._run(mark, opened, recovered, eager=self._local.node_id == min(mark.voters))

    def _run_without_vote(self, mark: ClusterMark) -> None:
        mark = msgspec.structs.replace(mark, may_vote=False)
        mark = keep_mark(self._around.data, self._around.raft, mark)
        log.error(
            "the raft log is gone but this node was a voter: it follows without a vote, for it "
            "cannot know what it promised; replace it by a server with an empty data directory",
            extra={"cluster": mark.cluster_id},
        )
        self._run(mark, *self._create_log(mark))

    def _create_log(self, mark: ClusterMark) -> tuple[SegmentLog, Recovered]:
        configuration, size = Configuration(mark.voters), self._settings.segment_bytes
        return create_log(self._around.raft, mark.cluster_id, configuration, segment_bytes=size)

    def _run(
        self, mark: ClusterMark, opened: SegmentLog, recovered: Recovered, *, eager: bool = False
    ) -> None:
        around = self._around
        self._mark = mark
        self._local.cluster_id = mark.cluster_id
        store = SnapshotStore(around.raft, mark.cluster_id)
        if recovered.snapshot is not None:
            around.state.restore(recovered.snapshot, store.chunks(recovered.snapshot))
        store.clean(recovered.snapshot)
        self._inbox = SnapshotInbox(store, around.disk_thread("snapshots"))
        snapshotting = self._snapshotting = Snapshotting(
            self._settings, around.state, self._inbox, self._network, recovered.snapshot
        )
        member = self._member = RaftMember(
            self._settings,
            self._local.node_id,
            opened=opened,
            recovered=recovered,
            state=around.state,
            network=self._network,
            hooks=Hooks(
                after_slice=self._applied,
                on_hash_due=self._hash_due,
                on_change=self._changed,
                on_snapshot_message=snapshotting.send,
                on_install=snapshotting.install,
                on_failed=self._fatal,
                observe_commit_s=around.observe_commit_s,
                observe_write_s=around.observe_write_s,
            ),
            may_vote=mark.may_vote,
            log_thread=around.disk_thread("raft-log"),
            now=around.now,
            rng=around.rng,
        )
        snapshotting.attach(member)
        self._remote = RemoteReads(
            around.client,
            leader_address=lambda: self.leader_address,
            wait_applied=member.applier.wait,
        )
        log.info("raft starts", extra={"cluster": mark.cluster_id, "log": recovered.last_index})
        member.start(eager=eager)
        self._own(self._become_ready())

    async def _become_ready(self) -> None:
        while not self._ready:
            try:
                # The leader's commit index covers all that we knew committed.
                await self.read_index(READY_TIMEOUT_S)
                self._ready = True
            except NoLeader:
                log.warning("still not ready: no leader was found")
            except EngineError:
                return
        self._changed()

    # What the member tells -------------------------------------------------------------------

    def _receive(self, message: Message, urgent: bool) -> None:
        if self._member is not None:
            self._member.receive(message, urgent)

    def _applied(self, index: int) -> None:
        self._around.after_apply()
        if self._snapshotting is not None:
            self._snapshotting.applied(index)

    def _hash_due(self, index: int) -> None:
        addresses = [a for voter, a in self.voters if a and voter != self._local.node_id]
        tell = self._hashes.due(index, addresses if self.is_leader else ())
        if tell is not None:
            self._own(tell)

    def _changed(self) -> None:
        self._change.set()
        self._change = asyncio.Event()
        leader_address = self.leader_address
        self._carried.leader_is(leader_address)
        if self._remote is not None:
            self._remote.leader_is(leader_address)
        member, mark = self._member, self._mark
        if member is not None and mark is not None and member.core.voteless and mark.may_vote:
            # What the core found out about its directory must outlive this process.
            mark = msgspec.structs.replace(mark, may_vote=False)
            self._mark = keep_mark(self._around.data, self._around.raft, mark)
        for listener in self._listeners:
            listener()

    def _fatal(self, problem: Exception) -> None:
        if not self._failed:
            self._failed = f"consensus has stopped: {problem}"
            log.critical("consensus cannot go on: the agent leaves", exc_info=problem)
            self._change.set()
            self._around.on_fatal(self._failed)

    # Waiting -------------------------------------------------------------------------------

    async def _propose_once(self, command: bytes, deadline: float) -> Applied:
        self._check_alive()
        if self.is_leader:
            return await self.propose_here(command, deadline)
        address = self.leader_address
        member = self._member
        if not address or member is None:
            raise NotLeaderHere(NO_LEADER)
        remaining_s = max(0.001, deadline - asyncio.get_running_loop().time())
        applied = await self._carried.propose(address, command, remaining_s)
        reached: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        member.applier.wait(applied.index, reached)
        try:
            await _within(deadline, reached)
        except TimeoutError as problem:
            raise ProposalUnknown("committed, but not applied here in time") from problem
        return applied

    def _check_alive(self) -> None:
        if self._failed:
            raise EngineError(self._failed)
        if self._stopping:
            raise EngineError("the agent stops")

    async def _pause(self, deadline: float) -> None:
        """Wait for a change of leadership, or a little. Raises NoLeader past the deadline."""
        if asyncio.get_running_loop().time() >= deadline:
            raise NoLeader(NO_LEADER)
        await self._wait_for_change(deadline)

    async def _wait_for_change(self, deadline: float) -> None:
        change = self._change
        until = min(deadline, asyncio.get_running_loop().time() + POLL_S)
        try:
            async with asyncio.timeout_at(until):
                await change.wait()
        except TimeoutError:
            pass

    def _own(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def _within(deadline: float, future: asyncio.Future[T]) -> T:
    async with asyncio.timeout_at(deadline):
        return await future
