"""What the Raft core raises, and who is to blame for each.

    RaftError
    ├── NotLeader           the caller asked a member that does not lead
    ├── ProposalDropped     the leader refuses for now; nothing was appended
    ├── UnsupportedEntry    the log holds what this build cannot apply: the node must stop
    └── InvariantBroken     a bug, or a disk that lied: the node must stop (I1 to I10)

The last two are stories told to a person reading a crash; no code may catch and go on. They are
exceptions and not `assert` statements, so that `python -O` does not remove them.
"""

from __future__ import annotations


class RaftError(Exception):
    """Anything the core raises."""


class NotLeader(RaftError):
    """This member does not lead; `leader` is the node id it follows ("" while unknown)."""

    def __init__(self, leader: str) -> None:
        super().__init__(f"not the leader; the leader is {leader or 'unknown'}")
        self.leader = leader


class ProposalDropped(RaftError):
    """The leader did not take a proposal, read or transfer; it may be tried again later."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class UnsupportedEntry(RaftError):
    """An entry of a kind this build cannot apply: stop, upgrade, start again."""

    def __init__(self, index: int, kind: int) -> None:
        super().__init__(f"entry {index} is of kind {kind}, which this build cannot apply")
        self.index = index
        self.kind = kind


class InvariantBroken(RaftError):
    """A promise of the protocol did not hold; going on could lose acknowledged writes."""

    def __init__(self, invariant: str, story: str) -> None:
        super().__init__(f"{invariant}: {story}")
        self.invariant = invariant
