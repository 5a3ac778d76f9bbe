"""What the driver is told: times in seconds, thresholds in log entries."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsensusSettings:
    """Settings of one server's consensus. Raises ValueError if they contradict each other."""

    bootstrap_expect: int = 0
    """Servers that found the cluster together: 1, 3 or 5; 0 = never found one [bootstrap_expect].
    `-bootstrap` and `-dev` are 1."""
    raft_multiplier: int = 1
    """Scales the heartbeat and election times, 1 to 10 [performance.raft_multiplier]."""
    heartbeat_interval_s: float = 0.1
    election_timeout_s: float = 0.5
    """The least; each election draws from one to two times this."""
    snapshot_threshold: int = 8192
    """Entries applied since the last snapshot that cause the next (Consul: the same)."""
    snapshot_bytes: int = 64 << 20
    """So many bytes of commands since the last snapshot cause the next, however few they are: the
    log is in memory until then, and read whole at a start."""
    snapshot_trailing: int = 10_240
    """Entries kept behind a snapshot for followers that lag a little (Consul: the same)."""
    state_hash_interval: int = 1024
    """Every so many entries all agents' states are compared (I12)."""
    segment_bytes: int = 16 << 20

    def __post_init__(self) -> None:
        if self.bootstrap_expect not in (0, 1, 3, 5):
            raise ValueError("bootstrap_expect must be 1, 3 or 5")
        if not 1 <= self.raft_multiplier <= 10:
            raise ValueError("raft_multiplier must be 1 to 10")

    @property
    def heartbeat_s(self) -> float:
        """The heartbeat interval as scaled."""
        return self.heartbeat_interval_s * self.raft_multiplier

    @property
    def election_s(self) -> float:
        """The least election time-out as scaled."""
        return self.election_timeout_s * self.raft_multiplier
