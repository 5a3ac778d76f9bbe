"""The Raft core: one member of one group, as a function of its inputs.

Messages, the time and completed writes go in; messages, entries to write and entries to apply
come out of `ready()`. No socket, clock, disk or randomness of its own is here: that is why a
cluster of these can be simulated faster than it could run. DESIGN.md prints the driver's loop.

This file holds the state and the dispatch. What a message *means* is told in election.py (who
leads), replication.py (how the log spreads) and reads.py (linearizable reads).
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable, Sequence

from callboard.raft import election, replication
from callboard.raft.config import Config
from callboard.raft.errors import InvariantBroken, NotLeader, ProposalDropped
from callboard.raft.log import RaftLog
from callboard.raft.membership import Membership
from callboard.raft.messages import EntryKind, HardState, Message, MessageKind, SnapshotMetadata
from callboard.raft.progress import NEVER, Progress
from callboard.raft.reads import ReadRounds
from callboard.raft.ready import ReadState, Ready, Role
from callboard.raft.storage import InitialState, PendingWrites, Write

Handler = Callable[["Raft", Message], None]


class Raft:
    """One Raft member. Inputs never block; everything to do comes out of `ready()`.

    `now` is monotonic seconds; an older one than before is taken as the same instant. Not
    thread-safe: one owner, one loop. Attributes are for reading; only this package writes them.
    """

    def __init__(
        self, config: Config, initial: InitialState, *, now: float, rng: random.Random
    ) -> None:
        """Start as a follower on what was on the disk. Raises InvariantBroken if that
        contradicts itself, UnsupportedEntry if it holds what this build cannot apply."""
        snapshot = initial.snapshot
        self.config = config
        self.node_id = config.node_id
        self.rng = rng
        self.now = now
        self.snapshot = snapshot
        """The last durable snapshot: what a member too far behind is sent."""
        self.membership = Membership(
            config.node_id, snapshot.configuration if snapshot else initial.configuration
        )
        applied = snapshot.index if snapshot and initial.applied is None else initial.applied or 0
        self.log = RaftLog(snapshot, initial.entries, commit=max(initial.known_commit, applied))
        self.term = initial.hard_state.term
        self.vote = initial.hard_state.vote
        self._check_start(applied)
        self.applied = self.log.released = applied
        self.writes = PendingWrites(initial.hard_state)
        self.handed_hard_state = initial.hard_state

        self.role = Role.FOLLOWER
        self.leader = ""
        """Node id of the leader of `term`, "" while unknown; own id on the leader."""
        self.leader_heard_at = NEVER
        """When this follower last heard its leader (-inf: never)."""
        self.voteless = not config.may_vote
        """True: this member must not vote: it lost its data (Config.may_vote), or a leader
        remembers more than its log holds (its directory was rolled back)."""
        self.stalled_until = NEVER
        """Until when the disk counts as not answering (`disk_stalled`)."""
        self.rearmed = False
        """The running timer was re-armed by `resume` already."""
        self.votes: dict[str, bool] = {}
        self.progress: dict[str, Progress] = {}
        """The leader's view of each other member; empty elsewhere."""
        self.reads = ReadRounds()
        self.transferee = ""
        """Whom leadership is being handed to, or ""; proposals are refused meanwhile."""
        self.installing: SnapshotMetadata | None = None
        """The snapshot that the driver is putting in the place of state and log."""
        self.install_handed = False
        self.uncommitted_bytes = 0
        self._proposals: deque[tuple[int, int]] = deque()
        self._begin_timers()
        self._begin_outputs()

    def _begin_timers(self) -> None:
        now = self.now
        self.heartbeat_at = self.transfer_at = self.quorum_from = self.election_at = now
        self.election_timeout_s = self.config.election_timeout_s
        election.arm_election_timer(self)

    def _begin_outputs(self) -> None:
        self.campaigns = 0
        """Elections this member stood in (not pre-votes); for metrics."""
        self.stepped_down: Counter[str] = Counter()
        """Times it gave up leadership by itself, by reason; for metrics."""
        self.dropped: Counter[str] = Counter()
        """Messages not acted upon, by reason; for metrics."""

        self.read_states: list[ReadState] = []
        self._messages: list[Message] = []
        self._after_persist: list[Message] = []
        self._reads_dropped: list[int] = []
        self._number = 0

    def _check_start(self, applied: int) -> None:
        log = self.log
        if log.last_term > self.term:
            raise InvariantBroken(
                "I2", f"the log ends in term {log.last_term} but the durable term is {self.term}"
            )
        if not log.offset <= applied <= log.last_index:
            raise InvariantBroken(
                "I8", f"applied {applied} is outside the log ({log.offset}, {log.last_index}]"
            )

    # inputs -------------------------------------------------------------------------------
    def tick(self, now: float) -> None:
        """Time passed: call when `deadline()` is due.

        A timer found more than a heartbeat interval late ran on a stale clock, so it is re-armed
        as by `resume` instead of firing; once, so that a loop that is always late still elects.
        """
        self._pass_time(now)
        if now - self.deadline() > self.config.heartbeat_interval_s:
            self._rearm()
        if self.role is Role.LEADER:
            election.tick_leader(self)
        else:
            election.tick_follower(self)

    def resume(self, now: float) -> None:
        """Woken from a pause longer than a heartbeat: call after the sockets were drained.

        Re-arms the election timer, or on a leader the quorum window, once until the next contact;
        a leader asks for its quorum at once.
        """
        self._pass_time(now)
        self._rearm()
        if self.role is Role.LEADER:
            replication.broadcast_heartbeat(self)

    def _rearm(self) -> None:
        if self.rearmed:
            return
        if self.role is Role.LEADER:
            self.quorum_from = self.now
        else:
            election.arm_election_timer(self)
        self.rearmed = True

    def step(self, message: Message, now: float) -> None:
        """Take a message from the network; foreign and stale ones are dropped and counted.

        Raises only InvariantBroken and UnsupportedEntry: then the node must stop.
        """
        self._pass_time(now)
        if message.receiver != self.node_id or message.sender not in self.membership.others:
            self.drop("foreign")
            return
        if message.term > self.term:
            if not election.admit_higher_term(self, message):
                return
        elif message.term < self.term:
            election.answer_lower_term(self, message)
            return
        handler = HANDLERS[self.role].get(message.kind)
        if handler is None:
            self.drop("not_for_this_role")
        else:
            handler(self, message)

    def propose(self, data: Sequence[bytes], now: float) -> tuple[int, int]:
        """Append commands; returns (index of the first, term).

        They leave with the next `ready()`: all proposals between two calls share one append.
        Raises NotLeader, or ProposalDropped while leadership is being handed over, when too much
        is uncommitted, or when one is too large; then none of them was appended.
        """
        self._pass_time(now)
        self._require_leader()
        self._require_no_transfer()
        if not data:
            raise ProposalDropped("nothing proposed")
        size = sum(map(len, data))
        if size > self.config.max_entry_bytes and max(map(len, data)) > self.config.max_entry_bytes:
            raise ProposalDropped(f"an entry is larger than {self.config.max_entry_bytes} bytes")
        if self._proposals and self.uncommitted_bytes + size > self.config.max_uncommitted_bytes:
            raise ProposalDropped(f"{self.uncommitted_bytes} bytes are not committed yet")
        first = self.log.append(self.term, EntryKind.NORMAL, data)
        self._proposals.append((self.log.last_index, size))
        self.uncommitted_bytes += size
        return first, self.term

    def read_index(self, context: int, now: float) -> None:
        """Ask for a read barrier: answered in Ready.read_states, or in Ready.reads_dropped.

        `context` must be greater than any before in this process (I9). All reads between two
        calls of `ready()` share one round. Raises NotLeader, ProposalDropped (too many wait).
        """
        self._pass_time(now)
        self._require_leader()
        if self.reads.pending >= self.config.max_pending_reads:
            raise ProposalDropped(f"{self.reads.pending} reads wait already")
        self.reads.ask(context)

    def transfer_leadership(self, to: str, now: float) -> None:
        """Hand leadership to voter `to` once it has all entries; given up after an election
        timeout. Proposals are refused meanwhile. Raises NotLeader, ProposalDropped."""
        self._pass_time(now)
        self._require_leader()
        self._require_no_transfer()
        election.transfer(self, to)

    def _require_leader(self) -> None:
        if self.role is not Role.LEADER:
            raise NotLeader(self.leader)

    def _require_no_transfer(self) -> None:
        if self.transferee:
            raise ProposalDropped(f"leadership is being handed to {self.transferee}")

    def persisted(self, index: int, term: int, number: int | None = None) -> None:
        """All Readies up to `number` are durable: `Ready.index`, `.term`, `.number` of the last.

        Without `number` it is the earliest Ready that fits (index, term).
        """
        self.stalled_until = NEVER
        durable = self.writes.done(index, term, number)
        if self.log.stable_to(durable) and self.role is Role.LEADER:
            replication.maybe_commit(self)

    def snapshot_installed(self, metadata: SnapshotMetadata) -> None:
        """State and log were replaced as `Ready.install` asked, durably: acknowledge it."""
        if metadata != self.installing or not self.install_handed:
            raise InvariantBroken("I10", f"{metadata} was installed, not {self.installing}")
        self.applied = metadata.index
        replication.installed(self)

    def applied_to(self, index: int) -> None:
        """The state machine has applied everything up to `index`, in order (I8)."""
        if not self.applied <= index <= self.log.released:
            raise InvariantBroken(
                "I8", f"applied {index} is not within ({self.applied}, {self.log.released}]"
            )
        self.applied = index

    def compact(self, metadata: SnapshotMetadata, keep_from: int) -> int:
        """A local snapshot is durable: drop in-memory entries below `keep_from`, at most those
        the snapshot covers, and more of those if the rest exceeds Config.max_retained_bytes.

        Returns the first index kept: lower than asked while a member that is being fed a
        snapshot needs what follows it (within Config.max_retained_bytes).
        """
        if metadata.index > self.applied:
            raise InvariantBroken(
                "compaction", f"snapshot {metadata.index} is beyond applied {self.applied}"
            )
        term = self.log.term(metadata.index)
        if term is not None and term != metadata.term:
            raise InvariantBroken(
                "compaction", f"snapshot {metadata.index} of term {metadata.term}, log has {term}"
            )
        if self.snapshot is None or metadata.index > self.snapshot.index:
            self.snapshot = metadata
        keep_from = max(keep_from, self.log.first_within(self.config.max_retained_bytes))
        keep_from = min(keep_from, metadata.index + 1)
        self.log.compact(replication.retained_from(self, keep_from))
        return self.log.offset + 1

    def report_unreachable(self, peer: str) -> None:
        """Messages to `peer` were lost (connection down, queue full): probe it again."""
        replication.report_unreachable(self, peer)

    def report_snapshot(self, peer: str, ok: bool) -> None:
        """The state of a SNAPSHOT message was streamed to `peer` (`ok`), or not."""
        replication.report_snapshot(self, peer, ok=ok)

    def hasten_election(self, at: float) -> None:
        """Let the election timer fire at `at`, if that is sooner: nobody can lead yet, and no
        timeout tells anything (a cluster was just founded). A pre-vote comes first, as always;
        nothing happens on a leader, or where a leader is known."""
        if self.role is not Role.LEADER and not self.leader:
            self.election_at = min(self.election_at, at)

    def disk_stalled(self, now: float) -> None:
        """A write was not back within the election timeout: a leader hands over or steps down,
        and this member does not campaign until the next `persisted`, or an election timeout from
        now: call it again for as long as the write is out (it need not be a Ready's)."""
        self._pass_time(now)
        election.on_stalled_disk(self)

    # outputs ------------------------------------------------------------------------------
    def ready(self) -> Ready | None:
        """Everything to do since the last call, or None. Taken once; see Ready."""
        log = self.log
        if self.role is Role.LEADER:
            if self.reads.waiting and log.term(log.commit) == self.term:
                replication.broadcast_heartbeat(self)
            replication.replicate(self)
        hard_state = self._take_hard_state()
        entries = log.take_unwritten()
        committed = log.take_committed() if self.installing is None else ()
        install = self._take_install()
        if not (
            hard_state
            or entries
            or committed
            or install
            or self._messages
            or self._after_persist
            or self.read_states
            or self._reads_dropped
        ):
            return None
        self._number += 1
        last_term = log.last_term
        if hard_state or entries:
            first = entries[0].index if entries else 0
            self.writes.add(Write(self._number, hard_state, first, log.last_index, last_term))
        ready = Ready(
            number=self._number,
            hard_state=hard_state,
            entries=entries,
            messages=tuple(self._messages),
            after_persist=tuple(self._after_persist),
            committed=committed,
            read_states=tuple(self.read_states),
            reads_dropped=tuple(self._reads_dropped),
            install=install,
            index=log.last_index,
            term=last_term,
        )
        self._messages.clear()
        self._after_persist.clear()
        self.read_states.clear()
        self._reads_dropped.clear()
        return ready

    def _take_hard_state(self) -> HardState | None:
        handed = self.handed_hard_state
        if handed.term == self.term and handed.vote == self.vote:
            return None
        self.handed_hard_state = HardState(self.term, self.vote)
        return self.handed_hard_state

    def _take_install(self) -> SnapshotMetadata | None:
        if self.installing is None or self.install_handed:
            return None
        self.install_handed = True
        return self.installing

    def deadline(self) -> float:
        """When to call `tick`: always finite, and any input may move it either way."""
        if self.role is not Role.LEADER:
            return self.election_at
        if self.transferee:
            return min(self.heartbeat_at, self.transfer_at)
        return self.heartbeat_at

    def quorum_heard_at(self, now: float) -> float:
        """Leader: the latest time since which a majority has been heard, itself included;
        `now` minus that is a leader's last contact. -inf elsewhere."""
        if self.role is not Role.LEADER:
            return NEVER
        self._pass_time(now)
        return election.quorum_heard_at(self)

    @property
    def commit(self) -> int:
        """The last index known committed."""
        return self.log.commit

    @property
    def last_index(self) -> int:
        """The last index of the log."""
        return self.log.last_index

    @property
    def stable_index(self) -> int:
        """Everything up to here is durable as it stands, as far as `persisted` told."""
        return self.log.stable

    @property
    def stalled(self) -> bool:
        """True while the disk counts as not answering."""
        return self.now < self.stalled_until

    # for the rest of this package ---------------------------------------------------------
    def _pass_time(self, now: float) -> None:
        self.now = max(self.now, now)

    def enter(self, role: Role, leader: str) -> None:
        """Take a role; what belonged to the one before is dropped, its reads are failed (I9)."""
        self.role = role
        self.leader = leader
        self.votes = {}
        self.progress = {}
        self.transferee = ""
        self.uncommitted_bytes = 0
        self._proposals.clear()
        self._reads_dropped.extend(self.reads.drop())
        # Those won but not handed out yet are as good as dropped: their round is another role's.
        self._reads_dropped.extend(state.context for state in self.read_states)
        self.read_states.clear()

    def drop(self, reason: str) -> None:
        """Count a message that is not acted upon."""
        self.dropped[reason] += 1

    def send(self, message: Message) -> None:
        """Send once our term and vote are durable: at once if they are (I2)."""
        durable = self.writes.hard_state
        if durable.term == self.term and durable.vote == self.vote:
            self._messages.append(message)
        else:
            self._after_persist.append(message)

    def send_durable(self, message: Message) -> None:
        """Acknowledge entries once they are durable (I3). Several acknowledgements to the same
        leader become one: the highest says all."""
        waiting = self._after_persist
        if waiting:
            last = waiting[-1]
            if (
                last.kind is MessageKind.APPEND_RESPONSE
                and not last.reject
                and last.receiver == message.receiver
                and last.term == message.term
            ):
                if message.index > last.index:
                    waiting[-1] = message
                return
        waiting.append(message)

    def settle_proposals(self) -> None:
        """Commit advanced: proposals it covers weigh no more."""
        proposals = self._proposals
        while proposals and proposals[0][0] <= self.log.commit:
            self.uncommitted_bytes -= proposals.popleft()[1]


_ANYWHERE: dict[MessageKind, Handler] = {
    MessageKind.APPEND: replication.on_append,
    MessageKind.HEARTBEAT: replication.on_heartbeat,
    MessageKind.SNAPSHOT: replication.on_snapshot,
    MessageKind.REQUEST_VOTE: election.on_vote_request,
    MessageKind.PRE_VOTE: election.on_vote_request,
}

HANDLERS: dict[Role, dict[MessageKind, Handler]] = {
    Role.FOLLOWER: {**_ANYWHERE, MessageKind.TIMEOUT_NOW: election.on_timeout_now},
    Role.PRE_CANDIDATE: {
        **_ANYWHERE,
        MessageKind.PRE_VOTE_RESPONSE: election.on_pre_vote_response,
    },
    Role.CANDIDATE: {**_ANYWHERE, MessageKind.VOTE_RESPONSE: election.on_vote_response},
    Role.LEADER: {
        **_ANYWHERE,
        MessageKind.APPEND_RESPONSE: replication.on_append_response,
        MessageKind.HEARTBEAT_RESPONSE: replication.on_heartbeat_response,
    },
}
"""What each role does with a message of its own term (and with pre-votes of a later one). What is
not in the table is dropped and counted; APPEND, HEARTBEAT and SNAPSHOT in a leader's own term
break I1 there."""
