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

from collections.abc import Sequence
from dataclasses import dataclass

from callboard.raft.messages import Configuration, Entry, HardState, SnapshotMetadata


@dataclass(frozen=True, slots=True)
class InitialState:
    """What was on the disk. An empty one with a configuration is a member's first start."""

    hard_state: HardState = HardState()
    configuration: Configuration = Configuration()
    """Used when there is no snapshot; a snapshot's own wins."""
    snapshot: SnapshotMetadata | None = None
    entries: Sequence[Entry] = ()
    """The log, contiguous; entries at or below the snapshot's index are passed over."""
    applied: int | None = None
    """What the state machine holds already; None: the snapshot's index (0 without one)."""
    known_commit: int = 0
    """The commit hint; what it covers of the log is handed out at once as `Ready.committed`."""
