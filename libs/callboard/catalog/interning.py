"""Sharing of equal parts between catalog objects: 100,000 instances of few distinct words.

Strings decoded from a log entry or a snapshot are all distinct objects; here they become one per
value, and so do tag tuples, meta maps and weights (597 against 1,165 bytes an instance, measured).
IDs of instances and of their checks are left alone: most are distinct, and an interned string
costs a table entry more. Maps are sorted on the way, so equal objects encode to equal bytes
on every replica.
"""

from __future__ import annotations

from collections.abc import Mapping
from sys import intern
from typing import TypeVar

from callboard.catalog.objects import Check, Node, ServiceAddress, ServiceInstance, Weights

SHARED_MAX = 65_536
"""Distinct values remembered of each kind; beyond it the table starts afresh (old objects keep
their parts, new ones share with each other only)."""

T = TypeVar("T")

_EMPTY_STRINGS: dict[str, str] = {}
_EMPTY_ADDRESSES: dict[str, ServiceAddress] = {}
_EMPTY_DEFINITION: dict[str, object] = {}
_DEFAULT_WEIGHTS = Weights()


class Interner:
    """Tables of shared parts. Nothing observable depends on what is in them."""

    def __init__(self) -> None:
        self._tags: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._maps: dict[tuple[tuple[str, str], ...], dict[str, str]] = {}
        self._weights: dict[tuple[int, int], Weights] = {}

    def node(self, node: Node, create_index: int, modify_index: int) -> Node:
        """The node with these indexes and shared parts."""
        return Node(
            id=intern(node.id),
            name=intern(node.name),
            address=intern(node.address),
            datacenter=intern(node.datacenter),
            tagged_addresses=self.strings(node.tagged_addresses),
            meta=self.strings(node.meta),
            create_index=create_index,
            modify_index=modify_index,
        )

    def service(
        self, service: ServiceInstance, node: str, create_index: int, modify_index: int
    ) -> ServiceInstance:
        """The instance on `node` with these indexes and shared parts."""
        return ServiceInstance(
            node=intern(node),
            id=intern(service.service) if service.id == service.service else service.id,
            service=intern(service.service),
            tags=self.tags(service.tags),
            address=intern(service.address),
            tagged_addresses=self._service_addresses(service.tagged_addresses),
            meta=self.strings(service.meta),
            port=service.port,
            weights=self._weight(service.weights),
            enable_tag_override=service.enable_tag_override,
            kind=intern(service.kind),
            create_index=create_index,
            modify_index=modify_index,
        )

    def check(self, check: Check, node: str, create_index: int, modify_index: int) -> Check:
        """The check on `node` with these indexes and shared parts."""
        return Check(
            node=intern(node),
            check_id=check.check_id if check.service_id else intern(check.check_id),
            name=intern(check.name),
            status=intern(check.status),
            notes=intern(check.notes),
            output=check.output,
            service_id=check.service_id,  # the caller takes it from the instance
            service_name=intern(check.service_name),
            service_tags=self.tags(check.service_tags),
            type=intern(check.type),
            interval=intern(check.interval),
            timeout=intern(check.timeout),
            definition=check.definition or _EMPTY_DEFINITION,
            create_index=create_index,
            modify_index=modify_index,
        )

    def tags(self, tags: tuple[str, ...]) -> tuple[str, ...]:
        if not tags:
            return ()
        found = self._tags.get(tags)
        if found is None:
            found = tuple(intern(tag) for tag in tags)
            _remember(self._tags, found, found)
        return found

    def strings(self, values: Mapping[str, str]) -> dict[str, str]:
        if not values:
            return _EMPTY_STRINGS
        key = tuple(sorted(values.items()))
        found = self._maps.get(key)
        if found is None:
            found = {intern(name): intern(value) for name, value in key}
            _remember(self._maps, key, found)
        return found

    def _service_addresses(self, values: Mapping[str, ServiceAddress]) -> dict[str, ServiceAddress]:
        if not values:
            return _EMPTY_ADDRESSES
        # Usually lan_ipv4 and wan_ipv4 with one value each: share the value between them.
        shared: dict[ServiceAddress, ServiceAddress] = {}
        result: dict[str, ServiceAddress] = {}
        for name in sorted(values):
            value = values[name]
            found = shared.get(value)
            if found is None:
                found = shared[value] = ServiceAddress(intern(value.address), value.port)
            result[intern(name)] = found
        return result

    def _weight(self, weights: Weights) -> Weights:
        if weights == _DEFAULT_WEIGHTS:
            return _DEFAULT_WEIGHTS
        key = (weights.passing, weights.warning)
        found = self._weights.get(key)
        if found is None:
            found = weights
            _remember(self._weights, key, found)
        return found


K = TypeVar("K")


def _remember(table: dict[K, T], key: K, value: T) -> None:
    if len(table) >= SHARED_MAX:
        table.clear()
    table[key] = value
