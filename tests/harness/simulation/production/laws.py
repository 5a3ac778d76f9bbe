"""What must hold in every run of the production code, checked as it happens.

A broken law is kept as well as raised: the code under test may catch what is raised in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from callboard.agent.state.store import StateStore
from callboard.raft.messages import SnapshotMetadata


class Laws:
    """The one history that all servers share."""

    def __init__(self) -> None:
        self.broken: list[str] = []
        self.leaders: dict[int, str] = {}
        """Term → who led it."""
        self.entries: dict[int, bytes | None] = {}
        """Index → command, as the first to apply it saw it; None for one without a command."""
        self.hashes: dict[int, int] = {}
        """Index → hash of the state after it."""
        self.acknowledged = 0
        """The highest index that a client was told of."""
        self.installed = 0
        """Snapshots that replaced the state of a server at work."""
        self.on_leader: Callable[[str], None] = lambda name: None
        """Called with who leads a new term."""

    def check(self, holds: bool, law: str) -> None:
        """Remember and raise if it does not hold."""
        if not holds:
            self.broken.append(law)
            raise AssertionError(law)

    def leads(self, term: int, name: str) -> None:
        """One leader a term (I1)."""
        if term not in self.leaders:
            self.on_leader(name)
        leader = self.leaders.setdefault(term, name)
        self.check(leader == name, f"I1: {leader} and {name} lead term {term}")

    def applied(self, name: str, index: int, command: bytes | None, state_hash: int) -> None:
        """The same command at the same index everywhere, and then the same state (I8, I12)."""
        known = self.entries.setdefault(index, command)
        self.check(known == command, f"I8: {name} applied another entry at index {index}")
        self.reached(name, index, state_hash)

    def reached(self, name: str, index: int, state_hash: int) -> None:
        """A state, by an entry or by a snapshot."""
        known = self.hashes.setdefault(index, state_hash)
        self.check(known == state_hash, f"I12: {name}'s state differs at index {index}")

    def told(self, index: int, command: bytes) -> None:
        """A client was told that its command is committed at this index."""
        self.check(
            self.entries.get(index) == command, f"LOST: acknowledged at {index}, not applied there"
        )
        self.acknowledged = max(self.acknowledged, index)


class WatchedStore(StateStore):
    """The production store; the laws watch each step."""

    def __init__(self, name: str, laws: Laws) -> None:
        super().__init__()
        self._name = name
        self._laws = laws

    def apply(self, index: int, command: bytes) -> bool | int | str:
        self._laws.check(index == self.applied_index + 1, f"I8: {self._name} skips to {index}")
        result = super().apply(index, command)
        self._laws.applied(self._name, index, command, self.state_hash())
        return result

    def advance(self, index: int) -> None:
        self._laws.check(index == self.applied_index + 1, f"I8: {self._name} skips to {index}")
        super().advance(index)
        self._laws.applied(self._name, index, None, self.state_hash())

    def restore_slices(self, metadata: SnapshotMetadata, chunks: Iterator[bytes]) -> Iterator[None]:
        at_work = self.applied_index > 0
        yield from super().restore_slices(metadata, chunks)
        self._laws.installed += at_work
        self._laws.reached(self._name, metadata.index, self.state_hash())
