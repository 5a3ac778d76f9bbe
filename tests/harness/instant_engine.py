"""An `Engine` for tests that need a catalog and no cluster: what is proposed is applied at once."""

from __future__ import annotations

from callboard.agent.ports import Applied, Leader, NoLeader, ProposalUnknown
from callboard.agent.state.store import StateStore


class InstantEngine:
    """A cluster of one without a log; `leaderless` makes it refuse as one without a leader."""

    def __init__(self, store: StateStore | None = None) -> None:
        self.store = store or StateStore()
        self.ready = True
        self.leaderless = False
        self.failures = 0
        """So many proposals fail from now on, as when a leader changes."""
        self.proposed: list[bytes] = []
        self.term = 1
        self.last_contact_s = 0.0

    async def propose(self, command: bytes, timeout_s: float = 7.0) -> Applied:
        """Apply at the next index."""
        if self.leaderless:
            raise NoLeader("No cluster leader")
        if self.failures:
            self.failures -= 1
            raise ProposalUnknown("the leader changed")
        self.proposed.append(command)
        index = self.store.applied_index + 1
        value = self.store.apply(index, command)
        for waiter in self.store.drain_woken():
            waiter.wake()
        return Applied(index, value)

    async def read_index(self, timeout_s: float = 7.0) -> int:
        """Everything proposed is applied."""
        if self.leaderless:
            raise NoLeader("No cluster leader")
        return self.store.applied_index

    @property
    def leader(self) -> Leader | None:
        """Ourselves."""
        return None if self.leaderless else Leader("self", "127.0.0.1:8300")

    @property
    def is_leader(self) -> bool:
        """Always, unless told otherwise."""
        return not self.leaderless

    @property
    def commit_index(self) -> int:
        """Everything is applied."""
        return self.store.applied_index

    @property
    def voters(self) -> tuple[tuple[str, str], ...]:
        """Ourselves."""
        return (("self", "127.0.0.1:8300"),)
