"""The laws a Raft cluster must keep, watched from above while it runs.

The watcher sees everything at once: what each member does, and what is on each disk. It knows
nothing of how the core works, only what figure 3.2 of the dissertation promises. A violation is
an AssertionError that names the law.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tests.harness.simulation.history import History

from callboard.raft import Entry, Raft

Holds = Callable[[int, int], bool]


class Laws:
    """One per run."""

    def __init__(self, voters: Sequence[str]) -> None:
        self.history = History()
        self.committed: dict[int, Entry] = {}
        """The one sequence of entries, as first seen applied anywhere."""
        self.leaders: dict[int, str] = {}
        """Who led each term."""
        self.disks: dict[str, Holds] = {}
        """For each voter: does its platter hold (index, term)?"""
        self._committed_in: dict[int, int] = {}
        self._entries: dict[tuple[int, int], tuple[bytes, int]] = {}
        self._states: dict[int, int] = {}
        self._majority = len(voters) // 2 + 1

    def led(self, raft: Raft) -> None:
        """`raft` leads its term now."""
        known = self.leaders.setdefault(raft.term, raft.node_id)
        assert known == raft.node_id, (
            f"ELECTION SAFETY: {raft.node_id} and {known} lead term {raft.term}"
        )

    def began(self, raft: Raft) -> None:
        """`raft` was just elected: its log must hold all that was committed in earlier terms."""
        for index, entry in self.committed.items():
            if index > raft.log.offset and self._committed_in[index] <= raft.term:
                assert raft.log.term(index) == entry.term, (
                    f"LEADER COMPLETENESS: {raft.node_id} leads term {raft.term} without {entry}"
                )

    def wrote(self, entries: Sequence[Entry], before: int | None) -> None:
        """A member appends `entries`; `before` is the term of the entry before the first."""
        for entry in entries:
            if before is not None:
                key = (entry.index, entry.term)
                told = self._entries.setdefault(key, (entry.data, before))
                assert told == (entry.data, before), f"LOG MATCHING: {entry} and {told}"
            before = entry.term

    def applied(self, raft: Raft, entry: Entry, state_hash: int) -> None:
        """A member applies `entry` and has `state_hash` then."""
        index = entry.index
        known = self.committed.get(index)
        if known is None:
            self.committed[index] = entry
            self._committed_in[index] = raft.term
            copies = sum(holds(index, entry.term) for holds in self.disks.values())
            assert copies >= self._majority, (
                f"DURABILITY: {entry} is committed with {copies} durable copies"
            )
        else:
            assert known == entry, f"STATE MACHINE SAFETY: {raft.node_id} {entry}, before {known}"
        self.reached(index, state_hash)

    def reached(self, index: int, state_hash: int) -> None:
        """A member's state at `index` (also after a snapshot) must be everybody's (I12)."""
        known = self._states.setdefault(index, state_hash)
        assert known == state_hash, f"STATE HASH at {index}: {state_hash} and {known}"

    def check(self) -> None:
        """At the end: nothing acknowledged is gone, and one order explains all that was seen."""
        for write in self.history.completed("write"):
            entry = self.committed.get(int(write.position))
            assert entry is not None and entry.data == write.value, f"ACKED WRITE LOST: {write}"
        self.history.check()
