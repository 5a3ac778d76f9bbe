"""What the core hands to its driver. The contract stands on each field: a correct driver can be
written from this file alone (DESIGN.md prints one whole).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from callboard.raft.messages import Entry, HardState, Message, SnapshotMetadata


class Role(IntEnum):
    """What a member is in its term (section 3.3; PRE_CANDIDATE: section 9.6)."""

    FOLLOWER = 1
    PRE_CANDIDATE = 2
    CANDIDATE = 3
    LEADER = 4


@dataclass(frozen=True, slots=True)
class ReadState:
    """The answer to `read_index(context)`: the state may be read once applied >= `index`."""

    context: int
    index: int


@dataclass(frozen=True, slots=True)
class Ready:
    """Everything to do now, handed out once. Readies are to be persisted in order.

    When the state of a Ready (`must_persist`) is durable, the driver sends its `after_persist`
    and calls `raft.persisted(index, term, number)`; several Readies may share one write, and
    then one call with the last one's numbers is enough.
    """

    number: int
    """1, 2, 3 ...: goes back to the core in `persisted`."""
    hard_state: HardState | None
    """Durable BEFORE `after_persist` of this Ready is sent (I2); None: unchanged."""
    entries: tuple[Entry, ...]
    """Append to the log. If `entries[0].index` is not beyond the last index written, first
    truncate the log from that index on: it is a real conflict, never at or below commit (I4)."""
    messages: tuple[Message, ...]
    """Send at once; nothing in them depends on this Ready being durable."""
    after_persist: tuple[Message, ...]
    """Send only when `hard_state` and `entries` of THIS and all earlier Readies are durable
    (votes, requests for votes, acknowledgements: I2, I3). If nothing is outstanding: at once."""
    committed: tuple[Entry, ...]
    """Apply in this order, each exactly once (I8); then `applied_to`. They may be committed by
    the others before they are durable here: applying them is safe all the same."""
    read_states: tuple[ReadState, ...]
    """Reads whose round is won: answer each once the applied index has reached its index."""
    reads_dropped: tuple[int, ...]
    """Contexts of reads to fail or to ask again: this member's role or term changed (I9)."""
    install: SnapshotMetadata | None
    """Replace state AND log by the received snapshot, in one durable step, after all earlier
    Readies; forget `committed` entries not applied yet; then call `snapshot_installed`. Until
    then the core hands out no entries and acknowledges nothing (I10)."""
    index: int
    """Last index of the log once this Ready is durable: goes back in `persisted`."""
    term: int
    """Term of the entry at `index`: goes back in `persisted`."""

    @property
    def must_persist(self) -> bool:
        """True if there is something to write before `after_persist` may be sent."""
        return self.hard_state is not None or bool(self.entries)
