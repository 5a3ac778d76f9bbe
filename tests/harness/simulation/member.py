"""A simulated member: the real Raft core, driven as DESIGN.md tells, on a simulated disk.

The disk, the network and the clock are handed in, so the same member runs under a schedule
(cluster.py) and under an adversary without a clock (tests/simulation).
"""

from __future__ import annotations

import random
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.harness.simulation.disk import WritesInOrder
from tests.harness.simulation.history import Operation
from tests.harness.simulation.laws import Laws

from callboard.raft import (
    Config,
    Configuration,
    Entry,
    HardState,
    InitialState,
    Message,
    MessageKind,
    NotLeader,
    ProposalDropped,
    Raft,
    ReadState,
    Ready,
    Role,
    SnapshotMetadata,
)


@dataclass(frozen=True, slots=True)
class Image:
    """The state machine's whole state: it folds every command into a hash."""

    index: int = 0
    hash: int = 0

    def apply(self, entry: Entry) -> Image:
        """The state after `entry`."""
        return Image(entry.index, zlib.crc32(b"%d:" % entry.term + entry.data, self.hash))


@dataclass(slots=True)
class Durable:
    """What a member has on its platter."""

    hard_state: HardState = field(default_factory=HardState)
    snapshot: SnapshotMetadata | None = None
    image: Image = Image()
    entries: list[Entry] = field(default_factory=list)
    known_commit: int = 0

    @property
    def offset(self) -> int:
        """The index before the first entry."""
        return self.entries[0].index - 1 if self.entries else self.covered

    @property
    def covered(self) -> int:
        """The index that the snapshot covers."""
        return self.snapshot.index if self.snapshot else 0

    def holds(self, index: int, term: int) -> bool:
        """True if the entry (index, term) is here, or in the snapshot."""
        if index <= self.covered:
            return True
        position = index - self.offset - 1
        return 0 <= position < len(self.entries) and self.entries[position].term == term

    def append(self, entries: Sequence[Entry]) -> None:
        """Append to the log; what is in the way is truncated first."""
        if entries:
            if self.entries:
                del self.entries[max(entries[0].index - self.offset - 1, 0) :]
            self.entries.extend(entries)

    def cut(self, keep_from: int) -> None:
        """Drop entries below `keep_from`."""
        self.entries = [entry for entry in self.entries if entry.index >= keep_from]

    def wipe(self) -> None:
        """Lose everything."""
        self.hard_state, self.snapshot, self.image = HardState(), None, Image()
        self.entries, self.known_commit = [], 0

    def install(self, metadata: SnapshotMetadata, image: Image) -> None:
        """Replace state and log in one step."""
        self.snapshot, self.image, self.entries = metadata, image, []


@dataclass(frozen=True, slots=True)
class Packet:
    """What travels: a message, and with SNAPSHOT the state that a driver would stream."""

    message: Message
    image: Image | None = None


Send = Callable[[str, str, Packet], None]


@dataclass(frozen=True, slots=True)
class Tuning:
    """What a simulated driver does differently from run to run."""

    max_inflight: int = 64
    max_batch_entries: int = 64
    apply_at_once: int = 1_000_000
    """Entries applied per turn; fewer leaves a queue behind."""
    names_writes: bool = True
    """Pass Ready.number to `persisted`; without it the core must infer."""


class Member:
    """One member, up or down."""

    def __init__(
        self,
        name: str,
        configuration: Configuration,
        *,
        rng: random.Random,
        disk: WritesInOrder[Durable],
        send: Send,
        clock: Callable[[], float],
        laws: Laws,
        real_time: Callable[[], float] | None = None,
        tuning: Tuning | None = None,
        raft_class: type[Raft] = Raft,
    ) -> None:
        self.name = name
        self.disk = disk
        self.raft: Raft | None = None
        self.asleep = False
        self.image = Image()
        self.snapshots_installed = 0
        self._configuration = configuration
        self._rng = rng
        self._send = send
        self._clock = clock
        self._laws = laws
        self._real_time = real_time or clock
        self._tuning = tuning or Tuning()
        self._raft_class = raft_class
        self._epoch = 0
        self._contexts = 0
        self._voteless = False
        self._busy_since = 0.0
        if name in configuration.voters:
            laws.disks[name] = disk.state.holds
        self._forget_memory()

    def _forget_memory(self) -> None:
        self._apply_queue: deque[Entry] = deque()
        self._staged: dict[SnapshotMetadata, Image] = {}
        self._writes: dict[tuple[int, int], Operation] = {}
        self._reads: dict[int, Operation] = {}
        self._read_states: list[ReadState] = []
        self._inbox: list[Callable[[], None]] = []
        self._held: deque[tuple[int, tuple[Message, ...]]] = deque()
        self._written = 0
        self._role = Role.FOLLOWER
        self._snapshotting = False

    # life ---------------------------------------------------------------------------------
    def boot(self) -> None:
        """Start from what is on the platter."""
        durable = self.disk.state
        self._epoch += 1
        self._busy_since = self._clock()
        self._forget_memory()
        self.asleep = False
        self.image = durable.image
        config = Config(
            node_id=self.name,
            max_inflight=self._tuning.max_inflight,
            max_batch_entries=self._tuning.max_batch_entries,
            may_vote=not self._voteless,
        )
        initial = InitialState(
            hard_state=durable.hard_state,
            configuration=self._configuration,
            snapshot=durable.snapshot,
            entries=list(durable.entries),
            known_commit=durable.known_commit,
        )
        self.raft = self._raft_class(config, initial, now=self._clock(), rng=self._rng)
        self.pump()

    def crash(self) -> None:
        """The power goes: memory, and some of what was not durable, is lost."""
        if self.raft is not None:
            self.raft = None
            self._epoch += 1
            self.disk.crash()
            self._forget_memory()

    def wipe(self) -> None:
        """The power goes and the directory is lost: from now on it is a voter without a vote."""
        self.crash()
        self.disk.state.wipe()
        self._voteless = True
        # Its vote is gone with its copies, so no majority can form without those of the others:
        # the law of durable copies holds for what it had acknowledged.
        self._laws.disks[self.name] = lambda index, term: True

    def sleep(self) -> None:
        """SIGSTOP: nothing runs, the sockets fill."""
        self.asleep = self.raft is not None

    def wake(self) -> None:
        """SIGCONT: the sockets are drained, then the timers re-armed."""
        if self.raft is None or not self.asleep:
            return
        self.asleep = False
        waiting, self._inbox = self._inbox, []
        for action in waiting:
            action()
        self.raft.resume(self._clock())
        self.pump()

    def _when_awake(self, action: Callable[[], None]) -> None:
        epoch = self._epoch

        def act() -> None:
            if epoch == self._epoch and self.raft is not None:
                action()

        if self.asleep:
            self._inbox.append(act)
        else:
            act()

    # inputs -------------------------------------------------------------------------------
    def tick(self) -> None:
        """The timer may be due, or the disk too late."""
        if self.raft is None or self.asleep:
            return
        now = self._clock()
        if not self.disk.busy:
            self._busy_since = now
        if now - self._busy_since > self.raft.config.election_timeout_s:
            self.raft.disk_stalled(now)
        self.raft.tick(now)
        self.pump()

    def receive(self, packet: Packet) -> None:
        """From the network. A snapshot is made whole and durable before the core is told."""
        self._when_awake(lambda: self._take(packet))

    def _take(self, packet: Packet) -> None:
        if packet.image is None:
            self._step(packet.message)
            return
        metadata, image = packet.message.snapshot, packet.image
        assert metadata is not None

        def staged() -> None:
            self._staged[metadata] = image
            self._step(packet.message)

        self.disk.write(lambda durable: None, lambda: self._when_awake(staged))

    def _step(self, message: Message) -> None:
        raft = self._live()
        raft.step(message, self._clock())
        self.pump()

    def _live(self) -> Raft:
        assert self.raft is not None
        return self.raft

    def write(self, value: bytes) -> bool:
        """A client proposes `value` here; False if it was refused."""
        if self.raft is None or self.asleep:
            return False
        now = self._clock()
        try:
            index, term = self.raft.propose((value,), now)
        except (NotLeader, ProposalDropped):
            return False
        self._writes[(index, term)] = self._laws.history.invoke("write", self._real_time(), value)
        return True

    def read(self) -> bool:
        """A client asks for a linearizable read here; False if it was refused."""
        if self.raft is None or self.asleep:
            return False
        self._contexts += 1
        try:
            self.raft.read_index(self._contexts, self._clock())
        except (NotLeader, ProposalDropped):
            return False
        self._reads[self._contexts] = self._laws.history.invoke("read", self._real_time())
        return True

    def transfer(self, to: str) -> bool:
        """Ask the leader here to hand over to `to`; False if it was refused."""
        if self.raft is None or self.asleep:
            return False
        try:
            self.raft.transfer_leadership(to, self._clock())
        except (NotLeader, ProposalDropped):
            return False
        self.pump()
        return True

    def notice_stalled_disk(self) -> None:
        """The driver sees that a write is not back within the election timeout."""
        if self.raft is not None and not self.asleep and self.disk.busy:
            self.raft.disk_stalled(self._clock())
            self.pump()

    def lose_connections(self) -> None:
        """The driver notices that its connections broke."""
        if self.raft is not None and not self.asleep:
            for peer in self.raft.membership.others:
                self.raft.report_unreachable(peer)
            self.pump()

    def compact(self, keep: int) -> None:
        """Snapshot what is applied; when that is durable, drop the log but its last `keep`."""
        raft = self.raft
        if raft is None or self.asleep or self._snapshotting or raft.installing is not None:
            return
        image = self.image
        term = raft.log.term(image.index)
        if term is None or image.index <= self.disk.state.covered:
            return
        metadata = SnapshotMetadata(image.index, term, self._configuration)
        self._snapshotting = True

        def durable_now() -> None:
            self._snapshotting = False
            if metadata.index < raft.log.commit and raft.log.term(metadata.index) is None:
                return  # a received snapshot overtook ours
            first = raft.compact(metadata, metadata.index + 1 - keep)
            self.disk.write(lambda durable: durable.cut(first), lambda: None)

        def change(durable: Durable) -> None:
            if metadata.index > durable.covered:
                durable.snapshot, durable.image = metadata, image

        self.disk.write(change, lambda: self._when_awake(durable_now))

    # the driver's loop --------------------------------------------------------------------
    def pump(self) -> None:
        """Do all that the core asks for."""
        raft = self.raft
        while raft is not None and raft is self.raft and not self.asleep:
            if raft.role is not self._role:
                self._role = raft.role
                if raft.role is Role.LEADER:
                    self._laws.led(raft)
                    self._laws.began(raft)
            ready = raft.ready()
            if ready is None:
                if not self._apply_some(raft):
                    return
            else:
                self._handle(raft, ready)

    def _handle(self, raft: Raft, ready: Ready) -> None:
        self._post(ready.messages)
        if ready.must_persist:
            self._persist(raft, ready)
        if ready.after_persist:
            if self._written < ready.number and self.disk.busy:
                self._held.append((ready.number, ready.after_persist))
                if not ready.must_persist:
                    self.disk.write(lambda durable: None, self._written_to(ready.number))
            else:
                self._post(ready.after_persist)
        if ready.install is not None:
            self._install(raft, ready.install)
        self._apply_queue.extend(ready.committed)
        self._read_states.extend(ready.read_states)
        for context in ready.reads_dropped:
            self._reads.pop(context, None)
        self._apply_some(raft)

    def _persist(self, raft: Raft, ready: Ready) -> None:
        if ready.entries:
            self._laws.wrote(ready.entries, raft.log.term(ready.entries[0].index - 1))
        commit = min(raft.commit, raft.stable_index)

        def change(durable: Durable) -> None:
            if ready.hard_state is not None:
                durable.hard_state = ready.hard_state
            durable.append(ready.entries)
            durable.known_commit = max(durable.known_commit, commit)

        def durable_now() -> None:
            self._post_held(ready.number)
            number = ready.number if self._tuning.names_writes else None
            raft.persisted(ready.index, ready.term, number)
            self.pump()

        self.disk.write(change, lambda: self._when_awake(durable_now))

    def _written_to(self, number: int) -> Callable[[], None]:
        return lambda: self._when_awake(lambda: self._post_held(number))

    def _post_held(self, number: int) -> None:
        self._written = max(self._written, number)
        while self._held and self._held[0][0] <= number:
            self._post(self._held.popleft()[1])

    def _post(self, messages: Sequence[Message]) -> None:
        for message in messages:
            if message.kind is MessageKind.SNAPSHOT:
                self._stream(message)
            else:
                self._send(self.name, message.receiver, Packet(message))

    def _stream(self, message: Message) -> None:
        durable = self.disk.state
        assert durable.snapshot == message.snapshot, "the core sends durable snapshots only"
        self._send(self.name, message.receiver, Packet(message, durable.image))
        # The stream's outcome is known before the installation's: say so in both ways.
        self._live().report_snapshot(message.receiver, self._rng.random() < 0.7)

    def _install(self, raft: Raft, metadata: SnapshotMetadata) -> None:
        image = self._staged[metadata]
        self._apply_queue.clear()

        def durable_now() -> None:
            self.image = image
            self.snapshots_installed += 1
            self._laws.reached(image.index, image.hash)
            raft.snapshot_installed(metadata)
            self.pump()

        self.disk.write(
            lambda durable: durable.install(metadata, image),
            lambda: self._when_awake(durable_now),
        )

    def _apply_some(self, raft: Raft) -> bool:
        count = min(self._tuning.apply_at_once, len(self._apply_queue))
        for _ in range(count):
            entry = self._apply_queue.popleft()
            assert entry.index == self.image.index + 1, f"I8: {entry} after {self.image}"
            self.image = self.image.apply(entry)
            self._laws.applied(raft, entry, self.image.hash)
            self._finish_write(raft, entry)
        if count:
            raft.applied_to(self.image.index)
        self._finish_reads()
        return bool(count)

    def _finish_write(self, raft: Raft, entry: Entry) -> None:
        operation = self._writes.pop((entry.index, entry.term), None)
        if operation is not None:
            operation.returned_at = self._real_time()
            operation.position = entry.index

    def _finish_reads(self) -> None:
        late = []
        for state in self._read_states:
            if state.index > self.image.index:
                late.append(state)
                continue
            operation = self._reads.pop(state.context)
            operation.returned_at = self._real_time()
            operation.position = self.image.index + 0.5
        self._read_states = late
