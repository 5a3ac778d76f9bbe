"""The knobs of one member, with the precedent of each number. Checked whole at construction."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of one Raft member. Times are seconds, sizes are bytes.

    Raises ValueError when the values contradict each other.
    """

    node_id: str
    """This member's id, as in `Configuration`; it lives in the data directory."""
    heartbeat_interval_s: float = 0.1
    """A leader's heartbeats (etcd: 0.1; times raft_multiplier)."""
    election_timeout_s: float = 0.5
    """Silence before a follower asks for an election: drawn from [1x, 2x). Also how long a live
    leader is stuck to, the window of CheckQuorum, and a transfer's patience (etcd: 1.0)."""
    max_inflight: int = 64
    """Unacknowledged append batches per follower (hashicorp/raft: 128, etcd: 512)."""
    max_inflight_bytes: int = 8 << 20
    """Unacknowledged bytes per follower; at least one batch is always allowed."""
    max_batch_bytes: int = 1 << 20
    """Entry data in one append message; a single larger entry travels alone (etcd: 512 KiB)."""
    max_batch_entries: int = 2048
    """Entries in one append message."""
    max_entry_bytes: int = 8 << 20
    """Data of one entry; more is refused at `propose` (Consul's KV limit is 512 KiB a value)."""
    max_uncommitted_bytes: int = 64 << 20
    """Proposed and not yet committed; more is refused (etcd: 2 GiB off by default)."""
    max_pending_reads: int = 100_000
    """Read barriers waiting for a round; more are refused."""
    max_retained_bytes: int = 64 << 20
    """In-memory log kept past a compaction for followers that lag, or catch up from a snapshot;
    beyond it the log is dropped all the same, or memory would go (hashicorp/raft #212)."""
    may_vote: bool = True
    """False: a voter whose data directory was lost. It follows and keeps a copy, but it neither
    campaigns nor grants nor counts, and each of its answers says so (`Message.voteless`)."""

    def __post_init__(self) -> None:
        if not self.node_id:
            raise ValueError("node_id must not be empty")
        if not 0 < self.heartbeat_interval_s < self.election_timeout_s:
            raise ValueError("need 0 < heartbeat_interval_s < election_timeout_s")
        for name in (
            "max_inflight",
            "max_inflight_bytes",
            "max_batch_bytes",
            "max_batch_entries",
            "max_entry_bytes",
            "max_uncommitted_bytes",
            "max_pending_reads",
            "max_retained_bytes",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
