"""The state store: applies commands, answers reads, knows each resource's index and who waits.

Readers see immutable objects through `DiscoveryView` and the methods here; writers go through
`Engine.propose`, never through this class. Applying and snapshots belong to the consensus driver:
it calls `apply`/`advance` in log order, and after each batch `drain_woken`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from callboard.catalog.changes import WatchKey
from callboard.catalog.discovery import HealthEntry, Listener
from callboard.catalog.objects import Check, KeyValue, Node, ServiceInstance
from callboard.raft.messages import SnapshotMetadata


class Waiter(Protocol):
    """Someone parked on a resource: a blocking query."""

    def wake(self) -> None:
        """The index moved (or the whole state was replaced): look again. Must not raise."""


class StateStore:
    """The replicated state machine and its read side."""

    def __init__(self, datacenter: str = "dc1", *, epoch: str = "") -> None:
        self.datacenter = datacenter
        self.epoch = epoch
        """Names the history the indexes belong to (the cluster's id): equal on all agents."""
        self.ready = False
        """Set by whoever assembles the agent, once the log known at start is applied."""

    # ---- StateMachine (the consensus driver calls these)
    @property
    def applied_index(self) -> int:
        raise NotImplementedError

    def apply(self, index: int, command: bytes) -> object:
        """Apply a committed command; True/False, an int, or a str: an error text.

        Register, Deregister, KeyValueDelete and KeyValueDeleteTree answer True; KeyValueSet and
        KeyValueDelete with check-and-set False when it failed; TombstoneReap how many it forgot.
        Raises UnknownCommand (with the index) for what this version does not know.
        """
        raise NotImplementedError

    def advance(self, index: int) -> None:
        raise NotImplementedError

    def drain_woken(self) -> list[Waiter]:
        """End a batch: tell the listeners its changes, and return whom to wake (each once)."""
        raise NotImplementedError

    def snapshot(self) -> Iterator[bytes]:
        raise NotImplementedError

    def restore(self, metadata: SnapshotMetadata, chunks: Iterator[bytes]) -> None:
        raise NotImplementedError

    def state_hash(self) -> int:
        """64 bits, equal on all replicas at one applied index, and after a restore (I12)."""
        raise NotImplementedError

    # ---- reads: DiscoveryView, and
    def node(self, name: str) -> Node | None:
        raise NotImplementedError

    def node_by_id(self, node_id: str) -> Node | None:
        raise NotImplementedError

    def nodes(self) -> Sequence[Node]:
        raise NotImplementedError

    def nodes_at(self, address: str) -> Sequence[Node]:
        raise NotImplementedError

    def services_at(self, address: str) -> Sequence[ServiceInstance]:
        raise NotImplementedError

    def service(self, node: str, service_id: str) -> ServiceInstance | None:
        raise NotImplementedError

    def check(self, node: str, check_id: str) -> Check | None:
        raise NotImplementedError

    def service_names(self) -> Mapping[str, tuple[str, ...]]:
        raise NotImplementedError

    def service_instances(self, name: str) -> Sequence[ServiceInstance]:
        raise NotImplementedError

    def node_services(self, node: str) -> Sequence[ServiceInstance]:
        raise NotImplementedError

    def node_checks(self, node: str) -> Sequence[Check]:
        raise NotImplementedError

    def service_checks(self, name: str) -> Sequence[Check]:
        raise NotImplementedError

    def checks(self, status: str = "any") -> Sequence[Check]:
        raise NotImplementedError

    def health(self, service: str) -> Sequence[HealthEntry]:
        raise NotImplementedError

    def key(self, key: str) -> KeyValue | None:
        raise NotImplementedError

    def keys_below(self, prefix: str) -> Sequence[KeyValue]:
        """Every key that begins with the prefix, in byte order."""
        raise NotImplementedError

    def tombstones(self) -> tuple[int, int]:
        """How many deleted keys are remembered, and the index of the newest deletion (0: none)."""
        raise NotImplementedError

    # ---- indexes and waiting
    def index(self, key: WatchKey) -> int:
        """The X-Consul-Index of a resource (may be 0: the edge answers at least 1)."""
        raise NotImplementedError

    def wait(self, key: WatchKey, waiter: Waiter, above: int = 0) -> None:
        """Wake `waiter` once when index(key) moves above `above` by a command applied later."""
        raise NotImplementedError

    def unwait(self, key: WatchKey, waiter: Waiter) -> None:
        """Forget the waiter; unknown ones are ignored."""
        raise NotImplementedError

    def listen(self, listener: Listener, *, reset: Callable[[], None] | None = None) -> None:
        raise NotImplementedError

    def unlisten(self, listener: Listener) -> None:
        raise NotImplementedError
