"""The running Raft member: one core, and what it asks for done in the order it asks.

Everything happens on the loop's thread. Inputs (messages, proposals, reads, time, finished
writes) go into the core as they come; `_pump` runs once a tick and carries out its Readies.
Heartbeats are answered in the protocol's callback itself. One timer.
What is not here: leaders elsewhere (driver.py), making and sending snapshots (snapshotting.py).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from callboard.agent.consensus.applier import Applier
from callboard.agent.consensus.disk_thread import DiskThread
from callboard.agent.consensus.log_writer import LogWriter, WriteBatch
from callboard.agent.consensus.network import Network
from callboard.agent.consensus.segment_log import Recovered, SegmentLog
from callboard.agent.consensus.settings import ConsensusSettings
from callboard.agent.ports import Applied, EngineError, StateMachine
from callboard.raft.config import Config
from callboard.raft.core import Raft
from callboard.raft.errors import NotLeader, ProposalDropped
from callboard.raft.messages import Message, MessageKind, SnapshotMetadata
from callboard.raft.ready import Ready, Role
from callboard.raft.storage import InitialState

log = logging.getLogger(__name__)

READ_ROUNDS_MAX = 2
"""Rounds of reads under way; more callers wait for the next, and share it."""
LATE_S = 0.01
"""A timer so late ran on a clock that is older than what lies in the sockets: read them first."""
EAGER_S = 1.0
"""For how long after the founding one member is eager to lead: there is no leader to wait for."""
EAGER_INTERVAL_S = 0.1
"""Between its attempts: the others may not know yet that there is a cluster."""
DRAIN_TICKS = 3
"""Ticks of the loop after which everything that lay in the sockets has been taken."""


class ReadDropped(Exception):
    """The role or the term changed before the round was won: ask again."""


@dataclass(frozen=True, slots=True)
class Hooks:
    """Whom the member tells."""

    after_slice: Callable[[int], None]
    """The applied index moved."""
    on_hash_due: Callable[[int], None]
    on_change: Callable[[], None]
    """Leader, term or role changed, or the vote was lost."""
    on_snapshot_message: Callable[[Message], None]
    """A SNAPSHOT message is to be sent, its state included."""
    on_install: Callable[[SnapshotMetadata], None]
    """A received snapshot is to replace state and log."""
    on_failed: Callable[[Exception], None]
    """The member is dead, and the process must leave."""
    observe_commit_s: Callable[[float], None]
    """A proposal of ours was applied; it took so long."""
    observe_write_s: Callable[[float], None]
    """A batch is durable; it took so long."""


class RaftMember:
    """One member of the group, running."""

    def __init__(
        self,
        settings: ConsensusSettings,
        node_id: str,
        *,
        opened: SegmentLog,
        recovered: Recovered,
        state: StateMachine,
        network: Network,
        hooks: Hooks,
        may_vote: bool,
        log_thread: DiskThread,
        now: Callable[[], float],
        rng: random.Random,
    ) -> None:
        """Start on what the log held; `state` has the snapshot applied already."""
        self._settings = settings
        self._now = now
        self._network = network
        self._hooks = hooks
        self._loop = asyncio.get_running_loop()
        self._scheduled = False
        self._pumping = False
        self._draining = False
        self._stalled = False
        self.dead = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0
        self._eager_until = 0.0
        self._proposals: list[tuple[bytes, asyncio.Future[Applied]]] = []
        self._reads: list[asyncio.Future[int]] = []
        self._rounds: dict[int, list[asyncio.Future[int]]] = {}
        # Never reused, not by the process that had this node id before either (I9).
        self._context = rng.getrandbits(20) << 40
        self._unreachable: set[str] = set()
        config = Config(
            node_id=node_id,
            heartbeat_interval_s=settings.heartbeat_s,
            election_timeout_s=settings.election_s,
            may_vote=may_vote,
        )
        self.core = Raft(config, _initial_state(recovered), now=now(), rng=rng)
        self._shown = self._standing()
        self.applier = Applier(
            state,
            applied_term=recovered.snapshot.term if recovered.snapshot else 0,
            after_slice=self._applied,
            on_failed=self.fail,
            hash_interval=settings.state_hash_interval,
            on_hash_due=hooks.on_hash_due,
            now=now,
            observe_s=hooks.observe_commit_s,
        )
        self.writer = LogWriter(
            opened,
            log_thread,
            now=now,
            on_durable=self._durable,
            on_failed=self.fail,
            observe_s=hooks.observe_write_s,
        )

    def start(self, *, eager: bool = False) -> None:
        """Link with the others and let time run. `eager`: the cluster was founded just now, and
        this one of its members shall lead it first."""
        membership = self.core.membership
        self._network.start(membership.others)
        if membership.is_voter and not membership.others:
            # A lone voter need not be patient: its first deadline is now.
            self.core.tick(self.core.deadline())
        elif eager:
            now = self._now()
            self._eager_until = now + EAGER_S
            # Time for the links to be made.
            self.core.hasten_election(now + EAGER_INTERVAL_S / 2)
        self.schedule()

    # Inputs --------------------------------------------------------------------------------

    def receive(self, message: Message, urgent: bool) -> None:
        """A message came; called in the protocol's callback."""
        if self.dead:
            return
        try:
            self.core.step(message, self._now())
        except Exception as problem:
            self.fail(problem)
            return
        if urgent:
            self._pump()
        else:
            self.schedule()

    def propose(self, command: bytes) -> asyncio.Future[Applied]:
        """Propose with all others of this tick. The future fails with NotLeader,
        ProposalDropped, Overwritten or an EngineError."""
        future: asyncio.Future[Applied] = self._loop.create_future()
        if self.dead:
            future.set_exception(EngineError("consensus has stopped"))
            return future
        self._proposals.append((command, future))
        self.schedule()
        return future

    def read(self) -> asyncio.Future[int]:
        """A read barrier of the leader, shared with all others of this tick: resolved once it
        is applied here. The future fails with NotLeader, ProposalDropped or ReadDropped."""
        future: asyncio.Future[int] = self._loop.create_future()
        if self.dead:
            future.set_exception(EngineError("consensus has stopped"))
            return future
        self._reads.append(future)
        self.schedule()
        return future

    async def installed(self, metadata: SnapshotMetadata, chunks: Iterator[bytes]) -> None:
        """The log is reset to a received snapshot, durably: replace the state, and say so."""
        try:
            await self.applier.replace(metadata, chunks)
            if self.dead:
                return
            self.core.snapshot_installed(metadata)
        except Exception as problem:
            self.fail(problem)
            return
        self.schedule()

    def schedule(self) -> None:
        """Carry out what the core wants in this tick, after all other inputs of it."""
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._scheduled_pump)

    def fail(self, problem: Exception) -> None:
        """Stop for good: nothing more is written, sent or applied (I11)."""
        if self.dead:
            return
        self.dead = True
        failure = EngineError(f"consensus has stopped: {problem}")
        self.applier.fail_all(failure)
        for _, future in self._proposals:
            _fail(future, failure)
        for waiting in [*self._reads, *(f for futures in self._rounds.values() for f in futures)]:
            _fail(waiting, failure)
        self._hooks.on_failed(problem)

    async def stop(self, timeout_s: float) -> None:
        """Keep the commit index, finish the log, hang up."""
        was_dead, self.dead = self.dead, True
        if self._timer is not None:
            self._timer.cancel()
        self.applier.fail_all(EngineError("the agent stops"))
        if not was_dead:
            self.writer.note_commit(self._commit_hint(), lambda: None)
        await self.writer.stop(timeout_s)
        await self._network.stop()

    # State ---------------------------------------------------------------------------------

    @property
    def is_leader(self) -> bool:
        """Whether this member leads its term."""
        return self.core.role is Role.LEADER and not self.dead

    @property
    def stalled_for_s(self) -> float:
        """How long a write of the log is overdue; 0.0 while the disk answers in time."""
        age_s = self.writer.write_age_s(self._now())
        return age_s if age_s > self._settings.election_s else 0.0

    def last_contact_s(self) -> float:
        """Seconds since the leader, or on the leader since a quorum, was heard."""
        now = self._now()
        if not self.is_leader:
            return now - self.core.leader_heard_at
        heard_s = now - self.core.quorum_heard_at(now)
        # Between two heartbeats a quorum is live.
        return 0.0 if heard_s <= self._settings.election_s else heard_s

    def best_successor(self, live_since: float) -> str:
        """Of the voters heard since `live_since` the one that holds most of the log, or ""."""
        found = {
            peer: progress
            for peer in self.core.membership.other_voters()
            if (progress := self.core.progress.get(peer)) is not None
            and not progress.voteless
            and progress.heard_at >= live_since
        }
        return max(found, key=lambda peer: found[peer].match, default="")

    # The pump ------------------------------------------------------------------------------

    def _scheduled_pump(self) -> None:
        self._scheduled = False
        self._pump()

    def _pump(self) -> None:
        if self.dead or self._pumping:
            return
        self._pumping = True
        try:
            self._submit_proposals()
            self._submit_reads()
            while not self.dead and (ready := self.core.ready()) is not None:
                self._carry_out(ready)
                self._submit_reads()
            for peer in self._unreachable:
                self.core.report_unreachable(peer)
            self._unreachable.clear()
            self._show_changes()
            self._arm()
        except Exception as problem:
            self.fail(problem)
        finally:
            self._pumping = False

    def _submit_proposals(self) -> None:
        if not self._proposals:
            return
        batch = [item for item in self._proposals if not item[1].done()]
        self._proposals.clear()
        if not batch:
            return
        try:
            first, term = self.core.propose([command for command, _ in batch], self._now())
        except (NotLeader, ProposalDropped) as problem:
            for _, future in batch:
                future.set_exception(problem)
            return
        for index, (_, future) in enumerate(batch, first):
            self.applier.expect(index, term, future)

    def _submit_reads(self) -> None:
        if not self._reads or len(self._rounds) >= READ_ROUNDS_MAX:
            return
        callers, self._reads = self._reads, []
        self._context += 1
        try:
            self.core.read_index(self._context, self._now())
        except (NotLeader, ProposalDropped) as problem:
            for future in callers:
                _fail(future, problem)
        else:
            self._rounds[self._context] = callers

    def _carry_out(self, ready: Ready) -> None:
        """The order is the contract of Ready: what may go at once first, then the disk, then
        the state machine; what must wait for the disk goes with the write."""
        self._send(ready.messages)
        if ready.must_persist:
            self.writer.add(ready, self._commit_hint())
        elif ready.after_persist:
            if self.writer.idle:
                self._send(ready.after_persist)
            else:
                self.writer.release_later(ready.after_persist)
        if ready.committed:
            self.applier.add(ready.committed)
        for state in ready.read_states:
            for future in self._rounds.pop(state.context, ()):
                self.applier.wait(state.index, future)
        for context in ready.reads_dropped:
            for future in self._rounds.pop(context, ()):
                _fail(future, ReadDropped())
        if ready.install is not None:
            self.applier.pause()
            self._hooks.on_install(ready.install)

    def _send(self, messages: tuple[Message, ...] | list[Message]) -> None:
        for message in messages:
            if message.kind is MessageKind.SNAPSHOT:
                self._hooks.on_snapshot_message(message)
            elif not self._network.send(message) and message.kind is MessageKind.APPEND:
                self._unreachable.add(message.receiver)

    def _durable(self, batch: WriteBatch) -> None:
        if self.dead:
            return
        self._send(batch.messages)
        if batch.number:
            try:
                self.core.persisted(batch.index, batch.term, batch.number)
            except Exception as problem:
                self.fail(problem)
                return
        self._pump()

    def _applied(self, index: int) -> None:
        try:
            self.core.applied_to(index)
            self._hooks.after_slice(index)
        except Exception as problem:
            # (a slice of its own is nobody's callee: the loop would log this and go on)
            self.fail(problem)

    def _commit_hint(self) -> int:
        return min(self.core.commit, self.core.stable_index)

    def _show_changes(self) -> None:
        shown = self._standing()
        if shown != self._shown:
            before, self._shown = self._shown, shown
            if (shown[0], shown[2]) != (before[0], before[2]):
                log.info(
                    "raft role" if shown[2] is not before[2] else "raft leader",
                    extra={"role": shown[2].name.lower(), "term": shown[1], "leader": shown[0]},
                )
            self._hooks.on_change()

    def _standing(self) -> tuple[str, int, Role, bool]:
        core = self.core
        return (core.leader, core.term, core.role, core.voteless)

    # Time ----------------------------------------------------------------------------------

    def _arm(self) -> None:
        """One timer. It may fire early, and looks again: heartbeats move the deadline all the
        time, and moving a timer costs more than one that fires for nothing."""
        due = self.core.deadline()
        if self._timer is not None:
            if self._timer_due <= due:
                return
            self._timer.cancel()
        self._timer_due = due
        self._timer = self._loop.call_later(max(0.001, due - self._now()), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self.dead:
            return
        now = self._now()
        late_s = now - self.core.deadline()
        if late_s > LATE_S or now - self._timer_due > self._settings.heartbeat_s:
            # The loop stood still: a leader's heartbeat may lie unread in the socket.
            paused = now - self._timer_due > self._settings.heartbeat_s
            if not self._draining:
                self._draining = True
                self._loop.call_soon(self._drain, DRAIN_TICKS, paused)
            return
        self._look_at_disk(now)
        if late_s >= 0:
            self._tick(now)
        else:
            self._arm()

    def _drain(self, ticks: int, paused: bool) -> None:
        if ticks > 0:
            self._loop.call_soon(self._drain, ticks - 1, paused)
            return
        self._draining = False
        if self.dead:
            return
        now = self._now()
        try:
            if paused:
                self.core.resume(now)
            self._look_at_disk(now)
        except Exception as problem:
            self.fail(problem)
            return
        self._tick(now)

    def _tick(self, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        try:
            if now >= self.core.deadline():
                self.core.tick(now)
            if now < self._eager_until and self.core.term == 0:
                self.core.hasten_election(now + EAGER_INTERVAL_S)
        except Exception as problem:
            self.fail(problem)
            return
        self._pump()

    def _look_at_disk(self, now: float) -> None:
        """A disk that does not answer is a failure too: give leadership up (etcd #15247)."""
        stalled = self.writer.write_age_s(now) > self._settings.election_s
        if stalled:
            if not self._stalled:
                log.warning("the disk does not answer: giving up leadership until it does")
            self.core.disk_stalled(now)
        elif self._stalled:
            log.info("the disk answers again")
        self._stalled = stalled


def _initial_state(recovered: Recovered) -> InitialState:
    return InitialState(
        hard_state=recovered.hard_state,
        configuration=recovered.configuration,
        snapshot=recovered.snapshot,
        entries=recovered.entries,
        known_commit=recovered.commit,
    )


def _fail(future: asyncio.Future[Applied] | asyncio.Future[int], problem: Exception) -> None:
    if not future.done():
        future.set_exception(problem)
