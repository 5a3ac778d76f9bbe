"""What Register and Deregister do to the catalog, and which resources each change moves.

A command is checked whole before anything is changed: it happens entirely or answers an error text
(Consul's). Everything is decided from the state at hand, so replicas agree. Registering what is
already there changes nothing and moves no index.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from callboard.agent.state.digest import MASK, object_hash
from callboard.agent.state.indexes import ResourceIndexes
from callboard.catalog.changes import Change
from callboard.catalog.commands import Deregister, Register
from callboard.catalog.interning import Interner
from callboard.catalog.objects import (
    CRITICAL,
    PASSING,
    SERF_HEALTH,
    WARNING,
    Check,
    Node,
    ServiceInstance,
)
from callboard.catalog.tables import CatalogTables

MISSING_NODE = "Missing node registration"
MISSING_SERVICE = 'failed inserting check: Missing service registration on node "%s"'

_STATUSES = frozenset((PASSING, WARNING, CRITICAL))
_OF_NODE = ("node", "node-services", "node-checks")
_OF_SERVICE = ("service", "service-instances", "service-checks")


class Refused(Exception):
    """A registration that may not happen; `str()` is the answer's text."""


class Registrations:
    """The writing side of the catalog's tables."""

    def __init__(self, tables: CatalogTables, indexes: ResourceIndexes) -> None:
        self.tables = tables
        self._indexes = indexes
        self._interner = Interner()
        self._digest = 0
        self.changes: list[Change] = []
        """What was changed since somebody took (and cleared) it."""

    @property
    def digest(self) -> int:
        """Hash of all nodes, services and checks."""
        return self._digest & MASK

    # ---------------------------------------------------------------- commands

    def register(self, index: int, command: Register) -> bool | str:
        """Put a node, a service, checks; True, or the error's text when nothing was done."""
        try:
            renamed, node = self._plan_node(index, command)
            service = self._plan_service(node, command.service)
            checks = [self._plan_check(node, service, check) for check in command.checks]
        except Refused as refusal:
            return str(refusal)
        if renamed is not None:
            self._remove_node(index, renamed)
        self._put_node(index, node)
        if service is not None:
            self._put_service(index, node, service)
        for check in checks:
            self._put_check(index, check)
        return True

    def deregister(self, index: int, command: Deregister) -> bool:
        """Remove a check, a service or a node; True also when there was nothing."""
        node = self.tables.node(command.node)
        if command.service_id:
            self._remove_service(index, command.node, command.service_id)
        elif command.check_id:
            self._remove_check(index, command.node, command.check_id)
        elif node is not None:
            self._remove_node(index, node)
        return True

    def load(
        self,
        nodes: Sequence[Node],
        services: Sequence[ServiceInstance],
        checks: Sequence[Check],
    ) -> None:
        """Add objects of a snapshot with the indexes they have; no resource moves."""
        share = self._interner
        for each in nodes:
            node = share.node(each, *_indexes(each))
            self._digest += object_hash(node)
            self.tables.put_node(node)
        for row in services:
            service = share.service(row, row.node, *_indexes(row))
            self._digest += object_hash(service)
            self.tables.put_service(service)
        for record in checks:
            owner = self.tables.service(record.node, record.service_id)
            check = share.check(record, record.node, *_indexes(record))
            if owner is not None:
                check = replace(check, service_id=owner.id)
            self._digest += object_hash(check)
            self.tables.put_check(check)

    # ---------------------------------------------------------------- plans (nothing changes)

    def _plan_node(self, index: int, command: Register) -> tuple[Node | None, Node]:
        """(the node that is renamed and goes, the node as it will stand)."""
        wanted = command.node
        by_name = self.tables.node(wanted.name)
        by_id = self.tables.node_by_id(wanted.id) if wanted.id else None
        if by_name is not None and command.skip_node_update:
            return None, by_name
        renamed = None
        if by_id is not None and by_id is not by_name:
            self._check_name_is_free(wanted, by_name, may_have_no_id=False)
            renamed = by_id
        elif by_id is None and wanted.id:
            self._check_name_is_free(wanted, by_name, may_have_no_id=True)
        old = renamed or by_name
        node = self._interner.node(
            wanted, old.create_index if old else index, old.modify_index if old else index
        )
        if by_name is None:
            return renamed, node
        # The name keeps its first spelling, and a registration without an ID keeps the node's.
        if node.name != by_name.name or not node.id:
            node = replace(node, name=by_name.name, id=node.id or by_name.id)
        return renamed, node

    def _check_name_is_free(
        self, wanted: Node, holder: Node | None, *, may_have_no_id: bool
    ) -> None:
        """A new id takes the name of a failed or left node, never of a live one."""
        if holder is None or (not holder.id and may_have_no_id):
            return
        alive = self.tables.check(holder.name, SERF_HEALTH)
        if alive is None or alive.status == CRITICAL:
            return
        raise Refused(
            f'failed inserting node: Error while renaming Node ID: "{wanted.id}"'
            f" ({wanted.address}): Node name {wanted.name} is reserved by node"
            f" {holder.id} with name {holder.name} ({holder.address})"
        )

    def _plan_service(self, node: Node, service: ServiceInstance | None) -> ServiceInstance | None:
        if service is None:
            return None
        if not service.service:
            raise Refused("Must provide service name with ID")
        if not service.id:
            service = replace(service, id=service.service)
        return service

    def _plan_check(self, node: Node, service: ServiceInstance | None, check: Check) -> Check:
        """The check with its defaults, the name and tags of its service, and without indexes."""
        if check.node and check.node.lower() != node.name.lower():
            raise Refused(f'check node "{check.node}" does not match node "{node.name}"')
        check_id = check.check_id or check.name
        if not check_id:
            raise Refused("Must provide check ID or name")
        status = check.status or CRITICAL
        if status not in _STATUSES:
            raise Refused(f'Invalid check status: "{status}"')
        name, service_id = "", ""
        tags: tuple[str, ...] = ()
        if check.service_id:
            owner = self._owner(node, service, check.service_id)
            name, tags, service_id = owner.service, owner.tags, owner.id
        return replace(
            check,
            node=node.name,
            check_id=check_id,
            status=status,
            service_id=service_id,
            service_name=name,
            service_tags=tags,
        )

    def _owner(
        self, node: Node, service: ServiceInstance | None, service_id: str
    ) -> ServiceInstance:
        if service is not None and service.id == service_id:
            return service
        # Of a node that is renamed nothing is kept: its services are not to be found here.
        owner = self.tables.service(node.name, service_id)
        if owner is None:
            raise Refused(MISSING_SERVICE % node.name)
        return owner

    # ---------------------------------------------------------------- changes

    def _put_node(self, index: int, node: Node) -> None:
        old = self.tables.node(node.name)
        if old is not None and old == node:
            return
        node = replace(node, modify_index=index)
        self._made(self.tables.put_node(node))
        move = self._indexes.move
        name = node.name.lower()
        move("nodes", "", index)
        move("node", name, index)
        move("node-services", name, index)
        if old is None:
            move("node-checks", name, index)
            return
        for service in self._service_names_on(name):
            move("service", service, index)
            move("service-instances", service, index)

    def _put_service(self, index: int, node: Node, wanted: ServiceInstance) -> None:
        old = self.tables.service(node.name, wanted.id)
        share = self._interner.service
        if old is None:
            service = share(wanted, node.name, index, index)
        else:
            service = share(wanted, node.name, old.create_index, old.modify_index)
            if service == old:
                return
            service = replace(service, modify_index=index)
        version = self.tables.names_version
        self._made(self.tables.put_service(service))
        self._service_moved(index, service, version)
        if old is not None and (old.service, old.tags) != (service.service, service.tags):
            self._follow_service(index, old, service)

    def _follow_service(self, index: int, old: ServiceInstance, new: ServiceInstance) -> None:
        """The instance has another name or other tags: so do its checks."""
        for check in self.tables.instance_checks(new.node, new.id):
            self._put_check(
                index,
                replace(check, service_name=new.service, service_tags=new.tags),
            )
        if old.service.lower() != new.service.lower():
            self._instance_left(index, old.service.lower())

    def _put_check(self, index: int, wanted: Check) -> None:
        old = self.tables.check(wanted.node, wanted.check_id)
        share = self._interner.check
        if old is None:
            check = share(wanted, wanted.node, index, index)
        else:
            check = share(wanted, wanted.node, old.create_index, old.modify_index)
            if check == old:
                return
            check = replace(check, modify_index=index)
        self._made(self.tables.put_check(check))
        self._check_moved(index, check)
        if old is not None:
            if old.status != check.status:
                self._indexes.move("checks", old.status, index)
            if old.service_id != check.service_id or old.service_name != check.service_name:
                self._check_moved(index, old)

    def _remove_node(self, index: int, node: Node) -> None:
        for check in self.tables.node_checks(node.name):
            self._remove_check(index, node.name, check.check_id)
        for service in self.tables.node_services(node.name):
            self._remove_service(index, node.name, service.id)
        self._made(self.tables.delete_node(node.name, index))
        name = node.name.lower()
        self._indexes.move("nodes", "", index)
        for kind in _OF_NODE:
            self._indexes.move(kind, name, index)
        self._indexes.retire(_OF_NODE, name)

    def _remove_service(self, index: int, node: str, service_id: str) -> None:
        for check in self.tables.instance_checks(node, service_id):
            self._remove_check(index, node, check.check_id)
        version = self.tables.names_version
        change = self.tables.delete_service(node, service_id, index)
        if change is None:
            return
        self._made(change)
        service = change.value
        assert isinstance(service, ServiceInstance)
        self._service_moved(index, service, version)
        if not self.tables.has_service(service.service):
            self._indexes.retire(_OF_SERVICE, service.service.lower())

    def _remove_check(self, index: int, node: str, check_id: str) -> None:
        change = self.tables.delete_check(node, check_id, index)
        if change is None:
            return
        self._made(change)
        assert isinstance(change.value, Check)
        self._check_moved(index, change.value)

    # ---------------------------------------------------------------- what a change moves

    def _made(self, change: Change | None) -> None:
        assert change is not None, "a change of nothing"
        if change.operation == "delete":
            self._digest -= object_hash(change.value)
        else:
            self._digest += object_hash(change.value)
            if change.previous is not None:
                self._digest -= object_hash(change.previous)
        self.changes.append(change)

    def _service_moved(self, index: int, service: ServiceInstance, version: int) -> None:
        move = self._indexes.move
        node, name = service.node.lower(), service.service.lower()
        move("node", node, index)
        move("node-services", node, index)
        move("service", name, index)
        move("service-instances", name, index)
        if self.tables.names_version != version:
            move("services", "", index)

    def _instance_left(self, index: int, name: str) -> None:
        """An instance took another name: its old service changed, and may be no more."""
        self._indexes.move("service", name, index)
        self._indexes.move("service-instances", name, index)
        if not self.tables.has_service(name):
            self._indexes.retire(_OF_SERVICE, name)

    def _check_moved(self, index: int, check: Check) -> None:
        move = self._indexes.move
        node = check.node.lower()
        move("checks", "", index)
        move("checks", check.status, index)
        move("node", node, index)
        move("node-checks", node, index)
        if check.service_name:
            name = check.service_name.lower()
            move("service", name, index)
            move("service-checks", name, index)
            return
        for name in self._service_names_on(node):
            move("service", name, index)

    def _service_names_on(self, node: str) -> list[str]:
        """The distinct services on a node, in the order of their names (replicas agree)."""
        return sorted({each.service.lower() for each in self.tables.node_services(node)})


def _indexes(stored: Node | ServiceInstance | Check) -> tuple[int, int]:
    """The indexes of a decoded object, one number where they are equal."""
    created, modified = stored.create_index, stored.modify_index
    return (modified, modified) if created == modified else (created, modified)
