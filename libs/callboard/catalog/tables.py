"""The catalog in memory: nodes, services and checks, with every look-up readers need.

Used by the agent's state store and by the name server's copy. Objects are immutable and shared;
a table only points at them. Indexes of resources, waiters and replication are not here.

Keys are lower-case names: Consul matches node and service names without regard to case.
Per-node tables are copied on the first write after `copy()`, so a pinned copy costs one shallow
copy per table of nodes, however many services there are.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence

from callboard.catalog.changes import Change
from callboard.catalog.discovery import HealthEntry
from callboard.catalog.instances import InstanceLists
from callboard.catalog.objects import PASSING, Check, Node, ServiceInstance
from callboard.catalog.pinned import PinnedTables

_Key = tuple[str, str]
"""(lower-case node name, service or check ID)."""

_Checks = Check | tuple[Check, ...]
"""The checks of one instance: most have one, and a tuple of one costs as much as its contents."""

_NO_CHECKS: tuple[Check, ...] = ()


class CatalogTables:
    """Nodes, services and checks with their look-ups.

    Writers call `put_*` and `delete_*` in log order; each returns the Change it made. Referential
    rules (a service needs a node) are the caller's: the feed may deliver in any order.
    """

    def __init__(self) -> None:
        self.names_version = 0
        """Moves exactly when `service_names()` gives another answer."""
        self._nodes: dict[str, Node] = {}
        self._services: dict[str, dict[str, ServiceInstance]] = {}
        self._checks: dict[str, dict[str, Check]] = {}
        self._own_services: set[str] = set()
        self._own_checks: set[str] = set()
        self._node_ids: dict[str, str] = {}
        self._node_addresses: dict[str, tuple[str, ...]] = {}
        self._by_address = InstanceLists()
        self._by_service = InstanceLists()
        self._instance_checks: dict[str, dict[str, _Checks]] = {}
        self._unhealthy: dict[_Key, Check] = {}
        self._tag_counts: dict[str, dict[str, int]] = {}
        self._name_counts: dict[str, int] = {}
        self._service_total = 0
        self._check_total = 0
        self._sorted_nodes: list[Node] | None = None
        self._sorted_names: dict[str, tuple[str, ...]] | None = None

    # ---------------------------------------------------------------- reads

    @property
    def counts(self) -> tuple[int, int, int]:
        """How many (nodes, services, checks)."""
        return len(self._nodes), self._service_total, self._check_total

    def node(self, name: str) -> Node | None:
        return self._nodes.get(name.lower())

    def node_by_id(self, node_id: str) -> Node | None:
        """The node with this UUID, in any case."""
        name = self._node_ids.get(node_id.lower())
        return None if name is None else self._nodes[name]

    def nodes(self) -> Sequence[Node]:
        """Every node, sorted by name."""
        if self._sorted_nodes is None:
            self._sorted_nodes = sorted(self._nodes.values(), key=_node_name)
        return self._sorted_nodes

    def nodes_at(self, address: str) -> Sequence[Node]:
        """The nodes with this address, sorted by name."""
        return [self._nodes[name] for name in sorted(self._node_addresses.get(address, ()))]

    def service(self, node: str, service_id: str) -> ServiceInstance | None:
        table = self._services.get(node.lower())
        return None if table is None else table.get(service_id)

    def check(self, node: str, check_id: str) -> Check | None:
        table = self._checks.get(node.lower())
        return None if table is None else table.get(check_id)

    def services_at(self, address: str) -> Sequence[ServiceInstance]:
        """The instances with this address of their own, sorted by node and ID."""
        return self._by_address.get(address)

    def service_names(self) -> Mapping[str, tuple[str, ...]]:
        """Service name → union of its instances' tags, both sorted."""
        if self._sorted_names is None:
            self._sorted_names = {
                name: tuple(sorted(self._tag_counts[name])) for name in sorted(self._tag_counts)
            }
        return self._sorted_names

    def service_tags(self, name: str) -> frozenset[str] | None:
        """The tags of the service of exactly this name; None when it has no instance."""
        counts = self._tag_counts.get(name)
        return None if counts is None else frozenset(counts)

    def has_service(self, name: str) -> bool:
        return name.lower() in self._by_service

    def service_instances(self, name: str) -> Sequence[ServiceInstance]:
        """The instances of a service on all nodes, sorted by node and ID."""
        return self._by_service.get(name.lower())

    def node_services(self, node: str) -> Sequence[ServiceInstance]:
        """The instances on a node, sorted by ID."""
        table = self._services.get(node.lower())
        return () if table is None else [table[key] for key in sorted(table)]

    def node_checks(self, node: str) -> Sequence[Check]:
        """All checks on a node, its own and its services', sorted by CheckID."""
        table = self._checks.get(node.lower())
        return () if table is None else [table[key] for key in sorted(table)]

    def instance_checks(self, node: str, service_id: str) -> tuple[Check, ...]:
        """The checks of one instance ("" = the node's own), sorted by CheckID."""
        table = self._instance_checks.get(node.lower())
        return _NO_CHECKS if table is None else _several(table.get(service_id, _NO_CHECKS))

    def service_checks(self, name: str) -> Sequence[Check]:
        """The instances' own checks (not their nodes'), sorted by node and CheckID."""
        found: list[Check] = []
        for instance in self.service_instances(name):
            found += self.instance_checks(instance.node, instance.id)
        found.sort(key=_check_place)
        return found

    def checks(self, status: str = "any") -> Sequence[Check]:
        """All checks, or those in one status, sorted by node and CheckID."""
        if status in ("any", PASSING):
            return [
                check
                for node in sorted(self._checks)
                for _, check in sorted(self._checks[node].items())
                if status == "any" or check.status == PASSING
            ]
        return [
            self._unhealthy[key]
            for key in sorted(self._unhealthy)
            if self._unhealthy[key].status == status
        ]

    def health(self, service: str) -> Sequence[HealthEntry]:
        """Every instance with its node and checks; one whose node is unknown is left out."""
        entries: list[HealthEntry] = []
        for instance in self.service_instances(service):
            name = instance.node.lower()
            node = self._nodes.get(name)
            if node is None:
                continue
            table = self._instance_checks.get(name)
            checks = _NO_CHECKS
            if table is not None:
                checks = _several(table.get("", _NO_CHECKS))
                checks += _several(table.get(instance.id, _NO_CHECKS))
            entries.append(HealthEntry(node, instance, checks))
        return entries

    # ---------------------------------------------------------------- pinned copies

    def pin(self) -> PinnedTables:
        """This version for a slow reader; later writes do not show in it."""
        self._own_services.clear()
        self._own_checks.clear()
        return PinnedTables(self._nodes.copy(), self._services.copy(), self._checks.copy())

    def copy(self) -> CatalogTables:
        """An independent table with the same objects (rebuilt: for a second writer)."""
        pinned = self.pin()
        return CatalogTables.build(pinned.nodes(), pinned.services(), pinned.checks())

    @classmethod
    def build(
        cls,
        nodes: Iterable[Node],
        services: Iterable[ServiceInstance],
        checks: Iterable[Check],
    ) -> CatalogTables:
        """Tables holding exactly these objects."""
        tables = cls()
        for node in nodes:
            tables.put_node(node)
        for service in services:
            tables.put_service(service)
        for check in checks:
            tables.put_check(check)
        return tables

    def difference(self, newer: CatalogTables, index: int) -> list[Change]:
        """The changes that turn this catalog into `newer`, deletes first, all at `index`."""
        deletes = [
            Change(index, "delete", "check", check.node, check.check_id, check)
            for check in self.pin().checks()
            if newer.check(check.node, check.check_id) is None
        ]
        deletes += [
            Change(index, "delete", "service", service.node, service.id, service)
            for service in self.pin().services()
            if newer.service(service.node, service.id) is None
        ]
        deletes += [
            Change(index, "delete", "node", node.name, "", node)
            for node in self._nodes.values()
            if newer.node(node.name) is None
        ]
        return deletes + list(self._additions(newer, index))

    def _additions(self, newer: CatalogTables, index: int) -> Iterator[Change]:
        pinned = newer.pin()
        for node in pinned.nodes():
            was_node = self.node(node.name)
            if was_node != node:
                yield Change(index, "put", "node", node.name, "", node, was_node)
        for service in pinned.services():
            was_service = self.service(service.node, service.id)
            if was_service != service:
                yield Change(
                    index, "put", "service", service.node, service.id, service, was_service
                )
        for check in pinned.checks():
            was_check = self.check(check.node, check.check_id)
            if was_check != check:
                yield Change(index, "put", "check", check.node, check.check_id, check, was_check)

    # ---------------------------------------------------------------- writes

    def apply(self, change: Change) -> Change | None:
        """Make a change received from elsewhere (the feed): like the put or delete it names."""
        value = change.value
        if change.operation == "put":
            if isinstance(value, Node):
                return self.put_node(value)
            if isinstance(value, ServiceInstance):
                return self.put_service(value)
            if isinstance(value, Check):
                return self.put_check(value)
            raise ValueError("a put without a value")
        if change.kind == "node":
            return self.delete_node(change.node, change.index)
        if change.kind == "service":
            return self.delete_service(change.node, change.id, change.index)
        return self.delete_check(change.node, change.id, change.index)

    def put_node(self, node: Node) -> Change:
        """Add or replace a node; its services and checks stay."""
        name = _fold(node.name)
        old = self._nodes.get(name)
        self._nodes[name] = node
        self._sorted_nodes = None
        if old is None or old.id != node.id:
            if old is not None:
                self._forget_id(old, name)
            if node.id:
                self._node_ids[node.id.lower()] = name
        if old is None or old.address != node.address:
            if old is not None:
                _discard(self._node_addresses, old.address, name)
            _include(self._node_addresses, node.address, name)
        return Change(node.modify_index, "put", "node", node.name, "", node, old)

    def put_service(self, service: ServiceInstance) -> Change:
        """Add or replace an instance, which may change the name of its service."""
        node = _fold(service.node)
        table = self._writable_services(node)
        old = table.get(service.id)
        table[service.id] = service
        if old is None:
            self._service_total += 1
            self._link_service(service)
        elif old.service == service.service and old.tags == service.tags:
            self._replace_service(old, service)
        else:
            self._count_tags(service)  # before the old ones go: a reordered tag never vanishes
            self._unlink_service(old)
            self._link_service(service)
            self._uncount_tags(service)
        return Change(
            service.modify_index, "put", "service", service.node, service.id, service, old
        )

    def put_check(self, check: Check) -> Change:
        """Add or replace a check, which may move it to another instance of the node."""
        node = _fold(check.node)
        table = self._writable_checks(node)
        old = table.get(check.check_id)
        if old is not None:
            self._unlink_check(node, old)
        else:
            self._check_total += 1
        table[check.check_id] = check
        self._link_check(node, check)
        return Change(check.modify_index, "put", "check", check.node, check.check_id, check, old)

    def delete_node(self, name: str, index: int) -> Change | None:
        """Remove a node; its services and checks are the caller's to remove first."""
        name = name.lower()
        old = self._nodes.pop(name, None)
        if old is None:
            return None
        self._sorted_nodes = None
        self._forget_id(old, name)
        _discard(self._node_addresses, old.address, name)
        return Change(index, "delete", "node", old.name, "", old)

    def delete_service(self, node: str, service_id: str, index: int) -> Change | None:
        """Remove an instance; its checks are the caller's to remove first."""
        node = node.lower()
        if service_id not in self._services.get(node, ()):
            return None
        table = self._writable_services(node)
        old = table.pop(service_id)
        if not table:
            del self._services[node]
        self._service_total -= 1
        self._unlink_service(old)
        return Change(index, "delete", "service", old.node, service_id, old)

    def delete_check(self, node: str, check_id: str, index: int) -> Change | None:
        node = node.lower()
        if check_id not in self._checks.get(node, ()):
            return None
        table = self._writable_checks(node)
        old = table.pop(check_id)
        if not table:
            del self._checks[node]
        self._check_total -= 1
        self._unlink_check(node, old)
        return Change(index, "delete", "check", old.node, check_id, old)

    # ---------------------------------------------------------------- look-ups' upkeep

    def _writable_services(self, node: str) -> dict[str, ServiceInstance]:
        """The node's table, copied first if a pinned version still shares it."""
        table = self._services.get(node)
        if table is None or node not in self._own_services:
            table = {} if table is None else table.copy()
            self._services[node] = table
            self._own_services.add(node)
        return table

    def _writable_checks(self, node: str) -> dict[str, Check]:
        table = self._checks.get(node)
        if table is None or node not in self._own_checks:
            table = {} if table is None else table.copy()
            self._checks[node] = table
            self._own_checks.add(node)
        return table

    def _forget_id(self, node: Node, name: str) -> None:
        if node.id and self._node_ids.get(node.id.lower()) == name:
            del self._node_ids[node.id.lower()]

    def _link_service(self, service: ServiceInstance) -> None:
        self._by_service.put(_fold(service.service), service)
        if service.address:
            self._by_address.put(service.address, service)
        self._count_tags(service)

    def _count_tags(self, service: ServiceInstance) -> None:
        counts = self._tag_counts.get(service.service)
        if counts is None:
            counts = self._tag_counts[service.service] = {}
            self._names_changed()
        self._name_counts[service.service] = self._name_counts.get(service.service, 0) + 1
        for tag in service.tags:
            if tag not in counts:
                self._names_changed()
            counts[tag] = counts.get(tag, 0) + 1

    def _uncount_tags(self, service: ServiceInstance) -> None:
        counts = self._tag_counts[service.service]
        for tag in service.tags:
            counts[tag] -= 1
            if counts[tag] == 0:
                del counts[tag]
                self._names_changed()
        self._name_counts[service.service] -= 1
        if self._name_counts[service.service] == 0:
            del self._name_counts[service.service]
            del self._tag_counts[service.service]
            self._names_changed()

    def _names_changed(self) -> None:
        self._sorted_names = None
        self.names_version += 1

    def _replace_service(self, old: ServiceInstance, new: ServiceInstance) -> None:
        """The same instance under the same name with the same tags: the usual change."""
        self._by_service.put(new.service.lower(), new)
        if old.address and old.address != new.address:
            self._by_address.remove(old.address, old)
        if new.address:
            self._by_address.put(new.address, new)

    def _unlink_service(self, service: ServiceInstance) -> None:
        self._by_service.remove(service.service.lower(), service)
        if service.address:
            self._by_address.remove(service.address, service)
        self._uncount_tags(service)

    def _link_check(self, node: str, check: Check) -> None:
        table = self._instance_checks.get(node)
        if table is None:
            table = self._instance_checks[node] = {}
        present = table.get(check.service_id)
        if present is None:
            table[check.service_id] = check
        else:
            table[check.service_id] = tuple(sorted((*_several(present), check), key=_check_id))
        if check.status != PASSING:
            self._unhealthy[(node, check.check_id)] = check

    def _unlink_check(self, node: str, check: Check) -> None:
        table = self._instance_checks[node]
        left = [each for each in _several(table[check.service_id]) if each is not check]
        if left:
            table[check.service_id] = left[0] if len(left) == 1 else tuple(left)
        else:
            del table[check.service_id]
            if not table:
                del self._instance_checks[node]
        self._unhealthy.pop((node, check.check_id), None)


def _include(table: dict[str, tuple[str, ...]], address: str, entry: str) -> None:
    table[address] = (*table.get(address, ()), entry)


def _discard(table: dict[str, tuple[str, ...]], address: str, entry: str) -> None:
    left = tuple(each for each in table[address] if each != entry)
    if left:
        table[address] = left
    else:
        del table[address]


def _several(checks: _Checks) -> tuple[Check, ...]:
    return (checks,) if isinstance(checks, Check) else checks


def _fold(name: str) -> str:
    """The key of a name: interned, so that 100,000 keys of one node are one string."""
    return sys.intern(name.lower())


def _node_name(node: Node) -> str:
    return node.name.lower()


def _check_id(check: Check) -> str:
    return check.check_id


def _check_place(check: Check) -> tuple[str, str]:
    return check.node.lower(), check.check_id
