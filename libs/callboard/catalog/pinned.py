"""One version of the catalog's tables, for readers slower than the next write."""

from __future__ import annotations

from collections.abc import Iterator

from callboard.catalog.objects import Check, Node, ServiceInstance


class PinnedTables:
    """One version of the tables, unaffected by later writes: what snapshots and feeds encode."""

    __slots__ = ("_checks", "_nodes", "_services")

    def __init__(
        self,
        nodes: dict[str, Node],
        services: dict[str, dict[str, ServiceInstance]],
        checks: dict[str, dict[str, Check]],
    ) -> None:
        self._nodes = nodes
        self._services = services
        self._checks = checks

    def nodes(self) -> Iterator[Node]:
        return iter(self._nodes.values())

    def services(self) -> Iterator[ServiceInstance]:
        for table in self._services.values():
            yield from table.values()

    def checks(self) -> Iterator[Check]:
        for table in self._checks.values():
            yield from table.values()
