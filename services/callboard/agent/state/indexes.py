"""The index of each resource: the log index of the last command that changed what is read there.

Functions of the applied log only, so X-Consul-Index is equal on all agents and after a restart. A
name that is gone keeps its last index among the newest RETIRED_MAX of its kind; older ones share
a floor, at least as high, so no index ever falls (Consul keeps one "last extinction" index
for all services, which wakes readers of missing services for each other's ends).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from callboard.agent.state.digest import MASK, position_hash

RETIRED_MAX = 4096
"""Names per kind whose end is remembered exactly."""

KINDS = (
    "nodes",
    "node",
    "node-services",
    "node-checks",
    "services",
    "service",
    "service-instances",
    "service-checks",
    "checks",
)
"""ONLY APPEND: snapshots name them."""


class ResourceIndexes:
    """Indexes of the catalog's resources (keys have their own in `keyvalues`)."""

    def __init__(self, moved: Callable[[str, str, int], None]) -> None:
        self._moved = moved
        self._current: dict[str, dict[str, int]] = {kind: {} for kind in KINDS}
        self._retired: dict[str, dict[str, int]] = {kind: {} for kind in KINDS}
        self._floors: dict[str, int] = dict.fromkeys(KINDS, 0)
        self._digest = 0

    @property
    def digest(self) -> int:
        """Hash of all indexes."""
        return self._digest & MASK

    def get(self, kind: str, name: str) -> int:
        """The resource's index; 0 for what never was."""
        found = self._current[kind].get(name)
        if found is not None:
            return found
        return self._retired[kind].get(name, self._floors[kind])

    def move(self, kind: str, name: str, index: int) -> None:
        """The resource changed at `index`: its waiters are woken."""
        table = self._current[kind]
        old = table.get(name)
        if old == index:
            return
        table[name] = index
        if old is None:
            old = self._retired[kind].pop(name, 0)
        self._digest += position_hash(kind, name) * (index - old)
        self._moved(kind, name, index)

    def retire(self, kinds: Iterable[str], name: str) -> None:
        """The resource is gone (its last `move` said so): remember when, in bounded memory."""
        for kind in kinds:
            index = self._current[kind].pop(name, None)
            if index is None:
                continue
            retired = self._retired[kind]
            retired[name] = index
            if len(retired) > RETIRED_MAX:
                oldest = next(iter(retired))
                floor = retired.pop(oldest)
                self._digest -= position_hash(kind, oldest) * floor
                self._raise_floor(kind, floor)

    def _raise_floor(self, kind: str, floor: int) -> None:
        # Retired in log order, so the oldest is the lowest of those left and above the floor.
        self._digest += position_hash(kind, "\0floor") * (floor - self._floors[kind])
        self._floors[kind] = floor

    def dump(self) -> list[tuple[str, str, dict[str, int]]]:
        """Copies of the tables, for a snapshot: (kind, "current" | "retired" | "floor", table)."""
        tables: list[tuple[str, str, dict[str, int]]] = []
        for kind in KINDS:
            tables.append((kind, "floor", {"": self._floors[kind]}))
            tables.append((kind, "retired", self._retired[kind].copy()))
            tables.append((kind, "current", self._current[kind].copy()))
        return tables

    def load(self, kind: str, part: str, table: dict[str, int]) -> None:
        """Add part of a dumped table to these indexes; nobody is woken. Raises KeyError."""
        if part == "floor":
            self._raise_floor(kind, table[""])
            return
        target = (self._current if part == "current" else self._retired)[kind]
        for name, index in table.items():
            target[name] = index
            self._digest += position_hash(kind, name) * index
