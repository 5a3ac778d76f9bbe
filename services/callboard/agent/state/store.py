"""The state store: applies commands, answers reads, knows each resource's index and who waits.

Readers see immutable objects through `DiscoveryView` and the methods here; writers go through
`Engine.propose`, never through this class. Applying and snapshots belong to the consensus driver:
it calls `apply`/`advance` in log order, and after each batch `drain_woken`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from callboard.agent.state import fsm, snapshot
from callboard.agent.state.digest import MASK
from callboard.agent.state.waits import Waiter, WaitSets
from callboard.catalog.changes import Change, WatchKey
from callboard.catalog.discovery import HealthEntry, Listener
from callboard.catalog.objects import Check, KeyValue, Node, ServiceInstance
from callboard.catalog.tables import CatalogTables
from callboard.raft.messages import SnapshotMetadata

__all__ = ["StateStore", "Waiter"]


class StateStore:
    """The replicated state machine and its read side."""

    def __init__(self, datacenter: str = "dc1", *, epoch: str = "") -> None:
        self.datacenter = datacenter
        self.epoch = epoch
        """Names the history the indexes belong to (the cluster's id): equal on all agents."""
        self.ready = False
        """Set by whoever assembles the agent, once the log known at start is applied."""
        self._waits = WaitSets()
        self._state = fsm.State(self._waits)
        self._applied_index = 0
        self._listeners: list[tuple[Listener, Callable[[], None] | None]] = []

    # ---------------------------------------------------------------- StateMachine

    @property
    def applied_index(self) -> int:
        """The log index of the last entry applied."""
        return self._applied_index

    def apply(self, index: int, command: bytes) -> bool | int | str:
        """Apply a committed command; True/False, an int, or a str: an error text.

        Register, Deregister, KeyValueDelete and KeyValueDeleteTree answer True; KeyValueSet and
        KeyValueDelete with check-and-set False when it failed; TombstoneReap how many it forgot.
        Raises UnknownCommand (with the index) for what this version does not know.
        """
        assert index > self._applied_index, f"entry {index} applied after {self._applied_index}"
        result = fsm.apply(self._state, index, command)
        self._applied_index = index
        return result

    def advance(self, index: int) -> None:
        """Pass an entry without a command: no resource moves."""
        assert index > self._applied_index, f"entry {index} passed after {self._applied_index}"
        self._applied_index = index

    def drain_woken(self) -> list[Waiter]:
        """End a batch: tell the listeners its changes, and return whom to wake (each once)."""
        self._announce_changes()
        return self._waits.drain()

    def snapshot(self) -> Iterator[bytes]:
        """The state as it stands now, as chunks of a few milliseconds each; applying may go on."""
        chunks = snapshot.encode(self._state, self._applied_index, self.datacenter)
        first = next(chunks)  # pins the version here and now, not at the caller's first next()

        def rest() -> Iterator[bytes]:
            yield first
            yield from chunks

        return rest()

    def restore(self, metadata: SnapshotMetadata, chunks: Iterator[bytes]) -> None:
        """Replace the whole state by a snapshot's; every waiter is woken by `drain_woken`.

        Raises SnapshotError, with the state unchanged, for anything but a whole snapshot of
        `metadata.index`.
        """
        for _ in self.restore_slices(metadata, chunks):
            pass

    def restore_slices(self, metadata: SnapshotMetadata, chunks: Iterator[bytes]) -> Iterator[None]:
        """`restore` in slices of a few milliseconds: one a `next()`, swapped in by the last."""
        restore = snapshot.Restore(self._waits)
        for kind, payload in snapshot.records(chunks):
            restore.add(kind, payload)
            yield
        state = restore.finish()
        header = restore.header
        if header is None or header.applied_index != metadata.index:
            raise snapshot.SnapshotError(f"snapshot {header} is not of index {metadata.index}")
        yield
        self._announce_changes()
        old, self._state = self._state, state
        self._applied_index = metadata.index
        self._waits.wake_all()
        self._announce_replacement(old)

    def state_hash(self) -> int:
        """64 bits, equal on all replicas at one applied index, and after a restore (I12)."""
        return (self._state.digest + self._applied_index) & MASK

    def _announce_changes(self) -> None:
        changes = self._state.registrations.changes
        if changes:
            self._state.registrations.changes = []
            for listener, _ in tuple(self._listeners):
                listener(changes)

    def _announce_replacement(self, old: fsm.State) -> None:
        difference: list[Change] | None = None
        for listener, reset in tuple(self._listeners):
            if reset is not None:
                reset()
                continue
            if difference is None:
                difference = old.tables.difference(self._state.tables, self._applied_index)
            listener(difference)

    # ---------------------------------------------------------------- reads

    def node(self, name: str) -> Node | None:
        return self._state.tables.node(name)

    @property
    def tables(self) -> CatalogTables:
        """The tables as they are now; another object after a restore."""
        return self._state.tables

    def node_by_id(self, node_id: str) -> Node | None:
        return self._state.tables.node_by_id(node_id)

    def nodes(self) -> Sequence[Node]:
        """Every node, sorted by name."""
        return self._state.tables.nodes()

    def nodes_at(self, address: str) -> Sequence[Node]:
        return self._state.tables.nodes_at(address)

    def services_at(self, address: str) -> Sequence[ServiceInstance]:
        return self._state.tables.services_at(address)

    def service(self, node: str, service_id: str) -> ServiceInstance | None:
        return self._state.tables.service(node, service_id)

    def check(self, node: str, check_id: str) -> Check | None:
        return self._state.tables.check(node, check_id)

    def service_names(self) -> Mapping[str, tuple[str, ...]]:
        """Service name → union of its instances' tags, both sorted."""
        return self._state.tables.service_names()

    def service_instances(self, name: str) -> Sequence[ServiceInstance]:
        return self._state.tables.service_instances(name)

    def node_services(self, node: str) -> Sequence[ServiceInstance]:
        return self._state.tables.node_services(node)

    def node_checks(self, node: str) -> Sequence[Check]:
        return self._state.tables.node_checks(node)

    def instance_checks(self, node: str, service_id: str) -> Sequence[Check]:
        """The checks of one instance ("" = the node's own), sorted by CheckID."""
        return self._state.tables.instance_checks(node, service_id)

    def service_checks(self, name: str) -> Sequence[Check]:
        """The instances' own checks, not their nodes' (health/checks/:service)."""
        return self._state.tables.service_checks(name)

    def checks(self, status: str = "any") -> Sequence[Check]:
        """All checks, or those in one status, sorted by node and CheckID."""
        return self._state.tables.checks(status)

    def health(self, service: str) -> Sequence[HealthEntry]:
        """Every instance with its node and checks, sorted by node and ID."""
        return self._state.tables.health(service)

    def key(self, key: str) -> KeyValue | None:
        return self._state.keys.get(key)

    def keys_below(self, prefix: str) -> Sequence[KeyValue]:
        """Every key that begins with the prefix, in byte order."""
        return self._state.keys.below(prefix)

    def tombstones(self) -> tuple[int, int]:
        """How many deleted keys are remembered, and the newest deletion's index (0: none)."""
        return self._state.keys.tombstones()

    def counts(self) -> tuple[int, int, int, int]:
        """How many (nodes, services, checks, keys): for metrics."""
        return *self._state.tables.counts, len(self._state.keys)

    # ---------------------------------------------------------------- indexes and waiting

    def index(self, key: WatchKey) -> int:
        """The X-Consul-Index of a resource (may be 0: the edge answers at least 1)."""
        kind, name = key
        if kind == "kv":
            return self._state.keys.index(name)
        if kind == "kv-prefix":
            return self._state.keys.prefix_index(name)
        return self._state.indexes.get(kind, name.lower())

    def wait(self, key: WatchKey, waiter: Waiter, above: int = 0) -> None:
        """Wake `waiter` once when index(key) moves above `above` by a command applied later."""
        self._waits.wait(_fold(key), waiter, above)

    def unwait(self, key: WatchKey, waiter: Waiter) -> None:
        """Forget the waiter; unknown ones are ignored."""
        self._waits.unwait(_fold(key), waiter)

    def waiting(self) -> int:
        """How many waits are parked: for metrics and leak tests."""
        return len(self._waits)

    def listen(self, listener: Listener, *, reset: Callable[[], None] | None = None) -> None:
        """Call `listener` with each batch's catalog changes; `reset` when all was replaced
        (without one, the listener gets the difference)."""
        self._listeners.append((listener, reset))

    def unlisten(self, listener: Listener) -> None:
        self._listeners = [pair for pair in self._listeners if pair[0] != listener]


def _fold(key: WatchKey) -> WatchKey:
    """The key as the wake sets know it: node and service names in lower case."""
    return key if key.kind.startswith("kv") else WatchKey(key.kind, key.name.lower())
