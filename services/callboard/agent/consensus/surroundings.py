"""What consensus stands on: disks, network, clock, and the neighbours in the agent."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from callboard.agent.consensus.disk import Disk
from callboard.agent.consensus.disk_thread import DiskThread, LoopThread
from callboard.agent.consensus.network import NetworkFactory, PeerNetwork
from callboard.agent.ports import StateMachine
from callboard.agent.rpc import Dialer, RpcClient, RpcServer


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the driver stands on; each may be a simulated one."""

    data: Disk
    """The data directory: the cluster's mark."""
    raft: Disk
    """Its directory for log and snapshots."""
    state: StateMachine
    server: RpcServer
    client: RpcClient
    dialer: Dialer
    address_of: Callable[[str], str | None]
    """Node id -> "ip:port" of its RPC listener, as gossip knows it; may change at any time."""
    servers: Callable[[], Mapping[str, str]]
    """The same for every other server known alive: whom to found a cluster with."""
    after_apply: Callable[[], None]
    """Called once after each slice of applied entries: wake who waits."""
    on_fatal: Callable[[str], None]
    """The process must leave; why. Called once."""
    state_hash: Callable[[], int] | None = None
    """Hash of the state machine's state, to be compared between agents (I12)."""
    observe_commit_s: Callable[[float], None] = lambda seconds: None
    """Told how long each proposal took on the leader, until applied; for metrics."""
    observe_write_s: Callable[[float], None] = lambda seconds: None
    """Told how long each write of the log took, until durable; for metrics."""
    network: NetworkFactory = PeerNetwork
    disk_thread: Callable[[str], DiskThread] = LoopThread
    """Begins a thread of this name; called on the loop."""
    now: Callable[[], float] = time.monotonic
    rng: random.Random
