"""The Raft core: one member of one group, as a function of its inputs."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence

from callboard.raft.config import Config
from callboard.raft.messages import Message, SnapshotMetadata
from callboard.raft.progress import Progress
from callboard.raft.ready import Ready, Role
from callboard.raft.storage import InitialState


class Raft:
    """One Raft member. Inputs never block; everything to do comes out of `ready()`.

    `now` is monotonic seconds and must not go back. Not thread-safe: one owner, one loop.
    """

    node_id: str
    role: Role
    term: int
    leader: str
    """Node id of the leader of `term`, "" while unknown; own id on the leader."""
    commit: int
    applied: int
    last_index: int
    stable_index: int
    """Everything up to here is durable as it stands, as far as `persisted` told."""
    progress: Mapping[str, Progress]
    """The leader's view of each other member; empty elsewhere."""
    dropped: Counter[str]
    """Messages not acted upon, by reason; for metrics."""
    leader_heard_at: float
    """When this follower last heard its leader (`-inf`: never)."""
    transferee: str
    """Whom leadership is being handed to, or ""; proposals are refused meanwhile."""
    voteless: bool
    """True: this member must not vote (Config.may_vote, or it found its directory rolled back)."""

    def __init__(
        self, config: Config, initial: InitialState, *, now: float, rng: random.Random
    ) -> None:
        raise NotImplementedError

    # inputs -------------------------------------------------------------------------------
    def tick(self, now: float) -> None:
        """Time passed: call when `deadline()` is due. A timer found more than a heartbeat
        interval late is re-armed once instead of firing, as by `resume`."""
        raise NotImplementedError

    def resume(self, now: float) -> None:
        """Woken from a pause: call after the sockets were drained, before `tick`. Re-arms the
        election timer, or on a leader the quorum window (and sends heartbeats), once until the
        next contact: a loop that is always late still elects."""
        raise NotImplementedError

    def step(self, message: Message, now: float) -> None:
        """Take a message from the network; foreign or stale ones are dropped and counted. Raises
        only InvariantBroken and UnsupportedEntry: then the node must stop."""
        raise NotImplementedError

    def propose(self, data: Sequence[bytes], now: float) -> tuple[int, int]:
        """Append commands; returns (index of the first, term). They are sent by the next
        `ready()`, all proposals between two calls in one append. NotLeader, ProposalDropped."""
        raise NotImplementedError

    def read_index(self, context: int, now: float) -> None:
        """Ask for a read barrier; `context` must be greater than all before in this process.
        Answered by Ready.read_states or reads_dropped. NotLeader, ProposalDropped."""
        raise NotImplementedError

    def transfer_leadership(self, to: str, now: float) -> None:
        """Hand leadership to voter `to` once it has all entries; given up after an election
        timeout. NotLeader, ProposalDropped (not an eligible voter)."""
        raise NotImplementedError

    def persisted(self, index: int, term: int, number: int | None = None) -> None:
        """All Readies up to `number` are durable (`Ready.index`, `.term`, `.number` of the last
        one). Without `number` the core infers it from (index, term), the earliest that fits."""
        raise NotImplementedError

    def snapshot_installed(self, metadata: SnapshotMetadata) -> None:
        """State and log were replaced as `Ready.install` asked, durably: acknowledge it."""
        raise NotImplementedError

    def applied_to(self, index: int) -> None:
        """The state machine has applied everything up to `index`."""
        raise NotImplementedError

    def compact(self, metadata: SnapshotMetadata, keep_from: int) -> int:
        """A local snapshot is durable: drop in-memory entries below `keep_from`. Returns the
        first index kept, which is lower while a follower being fed a snapshot needs more."""
        raise NotImplementedError

    def report_unreachable(self, peer: str) -> None:
        """Messages to `peer` were lost (connection down, queue full): probe it again."""
        raise NotImplementedError

    def report_snapshot(self, peer: str, ok: bool) -> None:
        """A SNAPSHOT message's state was streamed to `peer` (`ok`), or not: stop waiting."""
        raise NotImplementedError

    def disk_stalled(self, now: float) -> None:
        """A write was not back within the election timeout: a leader transfers leadership, or
        steps down; nobody campaigns until the next `persisted`."""
        raise NotImplementedError

    # outputs ------------------------------------------------------------------------------
    def ready(self) -> Ready | None:
        """Everything to do since the last call, or None. Taken once."""
        raise NotImplementedError

    def deadline(self) -> float:
        """When to call `tick` (monotonic seconds, always finite); after each input it may have
        moved either way."""
        raise NotImplementedError

    def quorum_heard_at(self, now: float) -> float:
        """Leader: the latest time at which a majority (self included) had been heard since;
        `now - quorum_heard_at(now)` is the leader's last contact. -inf elsewhere."""
        raise NotImplementedError
