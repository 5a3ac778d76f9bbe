"""Answers kept until what they were made from changes.

Two levels: a query's bytes behind its ID lead straight to an answer's form (lower-case queries
without options, what resolvers send), and (name, type) to an answer's records. Both are bounded and
emptied when full; a change drops exactly the answers made from it. Negative answers are never kept:
an attacker has more names than we have memory, and they are quick to make. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from callboard.catalog.changes import Change
from callboard.catalog.discovery import DiscoveryView
from callboard.catalog.objects import Check, ServiceInstance
from callboard.dns.packed import Prepared, Variant

QUERIES_MAX = 1 << 16
ANSWERS_MAX = 1 << 16
CHANGES_MAX = 10_000
"""A larger batch empties the cache: looking for what it touches would cost more."""

Key = tuple[bytes, int]
"""(wire name in lower case, type)"""

Table = dict[bytes, tuple[Variant, bytes]]
"""A query behind its ID to (answer, question)."""


@dataclass(slots=True)
class _Kept:
    prepared: Prepared
    depends: tuple[str, ...]
    queries: list[tuple[Table, bytes]] = field(default_factory=list)


class AnswerCache:
    """What was answered, by query and by name."""

    def __init__(self) -> None:
        self.udp: Table = {}
        self.tcp: Table = {}
        self._kept: dict[Key, _Kept] = {}
        self._by_source: dict[str, set[Key]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Key) -> Prepared | None:
        """The records of an answer, if it is known."""
        kept = self._kept.get(key)
        return None if kept is None else kept.prepared

    def put(self, key: Key, prepared: Prepared, depends: tuple[str, ...]) -> None:
        """Keep an answer until something it depends on changes."""
        assert depends, "an answer that depends on nothing would stay for ever"
        if len(self._kept) >= ANSWERS_MAX:
            self.clear()
        self._kept[key] = _Kept(prepared, depends)
        for source in depends:
            self._by_source.setdefault(source, set()).add(key)

    def remember(
        self, key: Key, table: Table, query: bytes, variant: Variant, question: bytes
    ) -> None:
        """Let a query's very bytes lead to a form of a kept answer."""
        if len(self.udp) + len(self.tcp) >= QUERIES_MAX:
            self.forget_queries()
        kept = self._kept[key]
        table[query] = (variant, question)
        kept.queries.append((table, query))

    def drop(self, source: str) -> None:
        """Something changed: drop what was made from it."""
        for key in self._by_source.pop(source, ()):
            kept = self._kept.pop(key)
            for table, query in kept.queries:
                table.pop(query, None)
            for other in kept.depends:
                if other != source:
                    self._by_source[other].discard(key)

    def forget_queries(self) -> None:
        """Empty the first level."""
        self.udp.clear()
        self.tcp.clear()
        for kept in self._kept.values():
            kept.queries.clear()

    def clear(self) -> None:
        """Drop everything."""
        self.udp.clear()
        self.tcp.clear()
        self._kept.clear()
        self._by_source.clear()


def sources(changes: Sequence[Change], view: DiscoveryView) -> tuple[set[str], set[str]]:
    """The (nodes, services), in lower case, whose answers a batch of changes touches.

    A check counts for the service its instance belongs to now: the name it carries may be older.
    """
    nodes: set[str] = set()
    services: set[str] = set()
    for change in changes:
        for value in (change.value, change.previous):
            if isinstance(value, ServiceInstance):
                services.add(value.service.lower())
            elif isinstance(value, Check) and value.service_id:
                for instance in view.node_services(value.node):
                    if instance.id == value.service_id:
                        services.add(instance.service.lower())
            elif value is not None:
                nodes.add(change.node.lower())
    return nodes, services
