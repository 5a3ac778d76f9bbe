"""A small catalog in memory, for tests that only read one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from callboard.catalog.changes import Change
from callboard.catalog.objects import Check, Node, ServiceInstance, Weights
from callboard.catalog.tables import CatalogTables
from callboard.feed.copy import CatalogCopy


class Farm(CatalogCopy):
    """A copy that a test fills by hand; every `add` is one change, told to the listeners."""

    def __init__(self, *, ready: bool = True, datacenter: str = "dc1") -> None:
        super().__init__(datacenter)
        if ready:
            self.replace(CatalogTables(), 1, epoch="test", datacenter=datacenter)

    def node_at(self, name: str, address: str, meta: dict[str, str] | None = None) -> Node:
        """Put a node."""
        node = Node(name=name, address=address, meta=meta or {}, modify_index=self._next())
        self._put("node", name, "", node)
        return node

    def service_on(
        self,
        node: str,
        service: str,
        *,
        port: int = 80,
        tags: Sequence[str] = (),
        address: str = "",
        id: str = "",
        weights: Weights | None = None,
    ) -> ServiceInstance:
        """Put an instance; its ID is the service's name unless given."""
        instance = ServiceInstance(
            node=node,
            id=id or service,
            service=service,
            port=port,
            tags=tuple(tags),
            address=address,
            weights=weights or Weights(),
            modify_index=self._next(),
        )
        self._put("service", node, instance.id, instance)
        return instance

    def check_on(self, node: str, status: str, *, service: str = "", id: str = "") -> Check:
        """Put a check of a node, or of the instance on it with the ID `service`."""
        names = [each.service for each in self.node_services(node) if each.id == service]
        check = Check(
            node=node,
            check_id=id or f"check:{service or 'node'}",
            status=status,
            service_id=service,
            service_name=names[0] if names else "",
            modify_index=self._next(),
        )
        self._put("check", node, check.check_id, check)
        return check

    def remove(self, changes: Iterable[Change]) -> None:
        """Delete what these changes name."""
        self.apply(list(changes))

    def remove_service(self, node: str, id: str) -> None:
        """Delete an instance."""
        self.remove([Change(self._next(), "delete", "service", node, id, None)])

    def remove_node(self, name: str) -> None:
        """Delete a node alone."""
        self.remove([Change(self._next(), "delete", "node", name, "", None)])

    def _put(self, kind: str, node: str, id: str, value: Node | ServiceInstance | Check) -> None:
        change = Change(self._next(), "put", kind, node, id, value)  # type: ignore[arg-type]
        self.apply([change])

    def _next(self) -> int:
        self.applied_index += 1
        return self.applied_index


def article_farm() -> Farm:
    """What the walk-through announces: `web` with the tag `rails` on agent-1 and agent-4."""
    farm = Farm()
    for number in (1, 2, 3, 4):
        farm.node_at(f"agent-{number}", f"10.0.0.{number}", {"rack": f"r{number}"})
        farm.check_on(f"agent-{number}", "passing", id="serfHealth")
    for number in (1, 2, 3):
        farm.service_on(f"agent-{number}", "consul", port=8300)
    farm.service_on("agent-1", "web", tags=["rails"])
    farm.service_on("agent-4", "web", tags=["rails"])
    return farm
