"""The seams between the agent's parts: what one may ask of another, and nothing more.

`http`, `dns` and `local` see the catalog through a state store (reads) and an `Engine` (writes
and read barriers); so an agent can become two processes without touching either side.
No logic lives here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from callboard.catalog.definitions import CheckDefinition
from callboard.catalog.objects import Check
from callboard.raft.messages import SnapshotMetadata


class EngineError(Exception):
    """The consensus engine could not do what was asked; nothing is known to be lost."""


class NoLeader(EngineError):
    """No leader was found within the hold time (Consul: 500 `No cluster leader`)."""


class ProposalUnknown(EngineError):
    """The leader changed while the proposal was under way: it may or may not be committed."""


class NotReady(EngineError):
    """This member has not yet applied what it knew committed: nothing may be called empty."""


@dataclass(frozen=True, slots=True)
class Applied:
    """A committed and applied proposal: its log index, and what the state machine answered."""

    index: int
    value: object
    """None, bool, int or str: whatever `StateMachine.apply` returned (survives the wire)."""


@dataclass(frozen=True, slots=True)
class Leader:
    """Who leads: node id, and the address "ip:port" of its RPC listener ("" while unknown)."""

    node_id: str
    address: str


class LocalError(Exception):
    """The agent's own registry refuses; `status` and the text are the HTTP answer."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True)
class LocalCheck:
    """One of the agent's own checks: what the catalog holds of it, and how it is run."""

    check: Check
    definition: CheckDefinition


class Engine(Protocol):
    """Above Raft: propose, read barrier, what is known of the cluster. One per agent.

    On a server it is the Raft driver; on a client agent it forwards to servers.
    """

    async def propose(self, command: bytes, timeout_s: float = 7.0) -> Applied:
        """Commit `command`; return once applied on the leader AND here (read your writes).

        A follower forwards to the leader. Raises NoLeader, ProposalUnknown, EngineError.
        """

    async def read_index(self, timeout_s: float = 7.0) -> int:
        """A linearizable read barrier: returns once the local state may be read.

        A quorum round begun after this call confirms the leader; rounds are shared by all callers
        of one loop tick; their ids are never reused (I9). Raises NoLeader.
        """

    @property
    def ready(self) -> bool:
        """False until everything known committed at the last stop is applied and a leader's
        commit index was seen; until then every read, stale too, answers 500."""

    @property
    def leader(self) -> Leader | None:
        """The leader as this member knows it."""

    @property
    def is_leader(self) -> bool: ...

    @property
    def term(self) -> int: ...

    @property
    def last_contact_s(self) -> float:
        """Seconds since the leader was last heard (0.0 on a leader with a live quorum)."""

    @property
    def commit_index(self) -> int: ...

    @property
    def voters(self) -> tuple[tuple[str, str], ...]:
        """(node id, "ip:port") of every voter; the address is "" while unknown."""


class StateMachine(Protocol):
    """What Raft replicates; implemented by `state`. Pure: no clock, no I/O."""

    @property
    def applied_index(self) -> int: ...

    def apply(self, index: int, command: bytes) -> object:
        """Apply a committed command; answer None, bool, int or str. Never raises for what a
        client sent (that is a str error or False); an unknown command raises and stops the node."""

    def advance(self, index: int) -> None:
        """A committed entry without a command (NOOP, CONFIGURATION) was passed: the applied
        index moves, no resource index does."""

    def snapshot(self) -> Iterator[bytes]:
        """A pinned version of the state, as chunks; each `next()` takes ≤ 5 ms. The caller may
        go on applying between chunks."""

    def restore(self, metadata: SnapshotMetadata, chunks: Iterator[bytes]) -> None:
        """Replace the whole state by a snapshot's chunks; every waiter is woken."""

    def restore_slices(self, metadata: SnapshotMetadata, chunks: Iterator[bytes]) -> Iterator[None]:
        """`restore`, with a few milliseconds of work at each `next()`. The state stays as it was
        until the last one, which puts the whole in its place."""
