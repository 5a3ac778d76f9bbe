"""The value of a topic as JSON, in Consul's spelling. Pure.

A large value is a list of many parts, of which a change touches one: the parts of those rendered
last are remembered with the objects they were made of, so that a service of a thousand instances
costs a change one instance's rendering, and the copying of the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from callboard.catalog.discovery import HealthEntry
from callboard.catalog.objects import ServiceInstance
from callboard.catalog.render import (
    array,
    check_json,
    health_entry_json,
    json,
    mapping,
    node_json,
    node_service_json,
)
from callboard.catalog.tables import CatalogTables
from callboard.hub.catalog.naming import parse

REMEMBERED_BYTES_MAX = 32 << 20
REMEMBERED_PARTS_MIN = 8
"""A value of fewer parts is as soon made anew."""

T = TypeVar("T")
_Parts = dict[str, tuple[object, bytes]]
"""The JSON of each part, and the object it was made of, by the part's key."""


class Values:
    """Renders topics."""

    def __init__(self, remembered_bytes_max: int = REMEMBERED_BYTES_MAX) -> None:
        self._bytes_max = remembered_bytes_max
        self._bytes = 0
        self._remembered: dict[str, tuple[int, _Parts]] = {}
        """By topic, those used last at the end."""

    @property
    def remembered_bytes(self) -> int:
        """How long the parts remembered are."""
        return self._bytes

    def clear(self) -> None:
        """Forget all parts."""
        self._remembered.clear()
        self._bytes = 0

    def value(self, topic: str, tables: CatalogTables, *, remember: bool = True) -> bytes | None:
        """The value of a topic; None if there is no such thing (any more). `remember`: it has
        just changed, and may well change again."""
        named = parse(topic)
        if named is None:
            return None
        if named.kind == "service":
            if tables.service_tags(named.name) is None:
                self._forget(topic)
                return None
            entries = tables.health(named.name)
            return array(self._parts(topic, entries, _place, health_entry_json, remember).values())
        node = tables.node(named.name)
        if named.kind == "node":
            if node is None or node.name != named.name:
                self._forget(topic)
                return None
            services = tables.node_services(node.name)
            parts = self._parts(topic, services, _id, node_service_json, remember)
            return b'{"Node":%b,"Services":%b}' % (node_json(node), mapping(parts.items()))
        check = tables.check(named.name, named.id)
        return check_json(check) if check is not None and check.node == named.name else None

    def _forget(self, topic: str) -> None:
        length, _ = self._remembered.pop(topic, (0, {}))
        self._bytes -= length

    def _parts(
        self,
        topic: str,
        objects: Iterable[T],
        key: Callable[[T], str],
        render: Callable[[T], bytes],
        remember: bool,
    ) -> dict[str, bytes]:
        """Each object's JSON by its key, in the order given."""
        _, known = self._remembered.get(topic, (0, {}))
        parts: _Parts = {}
        length = 0
        for it in objects:
            place = key(it)
            part = known.get(place)
            if part is None or (part[0] is not it and part[0] != it):
                part = (it, render(it))
            parts[place] = part
            length += len(part[1])
        if remember:
            self._forget(topic)
            if len(parts) >= REMEMBERED_PARTS_MIN:
                self._remember(topic, length, parts)
        return {place: part[1] for place, part in parts.items()}

    def _remember(self, topic: str, length: int, parts: _Parts) -> None:
        self._remembered[topic] = (length, parts)
        self._bytes += length
        while self._bytes > self._bytes_max:
            self._forget(next(iter(self._remembered)))


def _place(entry: HealthEntry) -> str:
    return f"{entry.service.node}\0{entry.service.id}"


def _id(service: ServiceInstance) -> str:
    return service.id


def event_data(topic: str, index: int, value: bytes | None) -> bytes:
    """What readers get: the topic, the index that the value is of, and the value or null."""
    return b'{"Topic":%b,"Index":%d,"Value":%b}' % (json(topic), index, value or b"null")
