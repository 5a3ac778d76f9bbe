"""A state store driven by hand: commands in, wakes out, without a log or a leader."""

from __future__ import annotations

from callboard.agent.state.store import StateStore
from callboard.catalog.changes import WatchKey
from callboard.catalog.commands import (
    Command,
    Deregister,
    KeyValueDelete,
    KeyValueDeleteTree,
    KeyValueSet,
    Register,
    encode_command,
)
from callboard.catalog.objects import Check, Node, ServiceInstance
from callboard.raft.messages import SnapshotMetadata


class Watcher:
    """A waiter that counts its wakes."""

    def __init__(self) -> None:
        self.wakes = 0

    def wake(self) -> None:
        self.wakes += 1


class DrivenStore:
    """A store with the next log index at hand."""

    def __init__(self, store: StateStore | None = None) -> None:
        self.store = store or StateStore()
        self.log: list[tuple[int, bytes]] = []

    def apply(self, command: Command) -> bool | int | str:
        """Commit and apply one command, and wake whom it concerns."""
        index, data = self.store.applied_index + 1, encode_command(command)
        self.log.append((index, data))
        result = self.store.apply(index, data)
        for waiter in self.store.drain_woken():
            waiter.wake()
        return result

    def node(self, name: str = "n1", address: str = "10.0.0.1", node_id: str = "") -> object:
        return self.apply(Register(node=Node(name=name, address=address, id=node_id)))

    def service(
        self, name: str, node: str = "n1", *, service_id: str = "", **fields: object
    ) -> object:
        """Register an instance on a node that exists or is created."""
        service = ServiceInstance(id=service_id or name, service=name, **fields)  # type: ignore[arg-type]
        return self.apply(Register(node=Node(name=node, address="10.0.0.1"), service=service))

    def check(
        self, check_id: str, status: str = "passing", node: str = "n1", service_id: str = ""
    ) -> object:
        check = Check(check_id=check_id, name=check_id, status=status, service_id=service_id)
        return self.apply(
            Register(
                node=Node(name=node, address="10.0.0.1"), checks=(check,), skip_node_update=True
            )
        )

    def remove(self, node: str = "n1", service_id: str = "", check_id: str = "") -> object:
        return self.apply(Deregister(node=node, service_id=service_id, check_id=check_id))

    def put(self, key: str, value: bytes = b"v", flags: int = 0, cas: int = -1) -> object:
        return self.apply(KeyValueSet(key, value, flags, cas))

    def delete(self, key: str, cas: int = -1) -> object:
        return self.apply(KeyValueDelete(key, cas))

    def delete_below(self, prefix: str) -> object:
        return self.apply(KeyValueDeleteTree(prefix))

    def watch(self, kind: str, name: str = "") -> Watcher:
        """Park a watcher at the resource's present index, as a blocking query does."""
        watcher, key = Watcher(), WatchKey(kind, name)
        self.store.wait(key, watcher, self.store.index(key))
        return watcher

    def index(self, kind: str, name: str = "") -> int:
        return self.store.index(WatchKey(kind, name))

    def restored(self) -> DrivenStore:
        """Another store, restored from this one's snapshot."""
        other = StateStore()
        metadata = SnapshotMetadata(self.store.applied_index, 1)
        other.restore(metadata, iter(list(self.store.snapshot())))
        return DrivenStore(other)
