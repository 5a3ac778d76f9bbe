"""What a member finds on its disk when it starts, and what its driver must have put there.

The driver keeps four things, and no other promise of the protocol rests on a disk:

1. `HardState` (term, vote): durable before any message that shows it (I2);
2. the entries of the log after the last snapshot: durable before they are acknowledged (I3);
3. the last snapshot and its `SnapshotMetadata`: durable before the log below it is dropped (I10);
4. the `Configuration` the cluster was bootstrapped with (later: carried by entries too).

It may also keep a commit index, as a hint, so that a restarted member knows how much it must have
applied before it may call itself ready. The hint must not exceed what was durable in the log when
it was written: `min(raft.commit, raft.stable_index)`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from callboard.raft.messages import Configuration, Entry, HardState, SnapshotMetadata


@dataclass(frozen=True, slots=True)
class InitialState:
    """What was on the disk. An empty one with a configuration is a member's first start."""

    hard_state: HardState = field(default_factory=HardState)
    configuration: Configuration = field(default_factory=Configuration)
    """Used when there is no snapshot; a snapshot's own wins."""
    snapshot: SnapshotMetadata | None = None
    entries: Sequence[Entry] = ()
    """The log, contiguous; entries at or below the snapshot's index are passed over."""
    applied: int | None = None
    """What the state machine holds already; None: the snapshot's index (0 without one)."""
    known_commit: int = 0
    """The commit hint; what it covers of the log is handed out at once as `Ready.committed`."""


@dataclass(frozen=True, slots=True)
class Write:
    """What one Ready asked to be written."""

    number: int
    hard_state: HardState | None
    first: int
    """Index of the first entry; 0 if the Ready had none."""
    index: int
    term: int


class PendingWrites:
    """What was handed out for writing and is not known durable yet, in order.

    It answers two questions exactly: which hard state is durable, and up to where the in-memory
    log is durable *as it stands*. The second is subtle: an entry that was written, overwritten
    and written again with the same term (the ABA race of overlapping writes) is durable only once
    no write under way touches it.
    """

    __slots__ = ("_writes", "hard_state")

    def __init__(self, hard_state: HardState) -> None:
        self._writes: deque[Write] = deque()
        self.hard_state = hard_state
        """The hard state known durable."""

    def add(self, write: Write) -> None:
        """A Ready with something to write was handed out."""
        self._writes.append(write)

    def forget_entries(self) -> None:
        """The log was replaced by a snapshot: no write under way tells of the new one."""
        self._writes = deque(Write(each.number, each.hard_state, 0, 0, 0) for each in self._writes)

    def done(self, index: int, term: int, number: int | None) -> int:
        """Writes up to `number` are durable; without it, up to the earliest of (index, term).

        Returns the index up to which the log is durable as it stands, 0 if that was not told.
        """
        if number is None:
            number = self._number_of(index, term)
        durable = 0
        while self._writes and self._writes[0].number <= number:
            write = self._writes.popleft()
            if write.hard_state is not None:
                self.hard_state = write.hard_state
            if write.first:
                durable = write.index
        for write in self._writes:
            if write.first:
                durable = min(durable, write.first - 1)
        return durable

    def _number_of(self, index: int, term: int) -> int:
        for write in self._writes:
            if (write.index, write.term) == (index, term):
                return write.number
        return 0
