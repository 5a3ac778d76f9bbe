"""The value of a topic as JSON, in Consul's spelling. Pure.

A large value is a list of many instances, of which a change touches few: the parts of those values
that were rendered last are remembered, so that a change of a service of a thousand instances costs
the rendering of one, and the copying of the rest. What is remembered is brought up to date by every
change that touches its topic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from callboard.catalog.discovery import HealthEntry
from callboard.catalog.objects import ServiceInstance
from callboard.catalog.render import (
    check_json,
    health_entry_json,
    json,
    node_json,
    node_service_json,
)
from callboard.catalog.tables import CatalogTables
from callboard.hub.catalog.naming import Topic, parse
from callboard.hub.catalog.touched import Place

REMEMBERED_BYTES_MAX = 32 << 20
CHANGED_PARTS_MIN = 8
"""Values of fewer instances are as soon made anew: they are not remembered when they change."""

READ_PARTS_MIN = 100
"""The same of those that are rendered for a new reader."""

_Parts = dict[Place, bytes]
"""The JSON of each instance in a value, in its order."""


class Values:
    """Renders topics."""

    def __init__(self, remembered_bytes_max: int = REMEMBERED_BYTES_MAX) -> None:
        self._bytes_max = remembered_bytes_max
        self._bytes = 0
        self._remembered: dict[str, tuple[int, _Parts]] = {}
        """By topic, with how long they are; those used last at the end."""

    @property
    def remembered_bytes(self) -> int:
        """How long the parts remembered are."""
        return self._bytes

    def clear(self) -> None:
        """Forget all parts."""
        self._remembered.clear()
        self._bytes = 0

    def value(
        self, topic: str, tables: CatalogTables, changed: Iterable[Place] | None = None
    ) -> list[bytes] | None:
        """The value of a topic, in pieces between which commas go (`event_data` copies them once);
        None if there is no such thing (any more).

        `changed` has the instances that a change touched. It must be called for every change that
        touches the topic; without `changed` any time between.
        """
        named = parse(topic)
        if named is None:
            return None
        if named.kind == "check":
            check = tables.check(named.name, named.id)
            return [check_json(check)] if check is not None and check.node == named.name else None
        if named.kind == "service":
            if tables.service_tags(named.name) is None:
                self._forget(topic)
                return None
            return _enclosed(b"[", self._parts(topic, named, tables, changed), b"]")
        node = tables.node(named.name)
        if node is None or node.name != named.name:
            self._forget(topic)
            return None
        head = b'{"Node":%b,"Services":{' % node_json(node)
        return _enclosed(head, self._parts(topic, named, tables, changed), b"}}")

    def _parts(
        self, topic: str, named: Topic, tables: CatalogTables, changed: Iterable[Place] | None
    ) -> _Parts:
        """What the value is made of."""
        make_one, make_all = _MAKERS[named.kind]
        length, parts = self._forget(topic)
        for place in changed or ():
            if parts is None:
                break
            part = make_one(tables, named.name, place)
            if part is None or place not in parts:  # it comes or goes: the order is another
                parts = None
            else:
                length += len(part) - len(parts[place])
                parts[place] = part
        if parts is None:
            parts = make_all(tables, named.name)
            length = sum(map(len, parts.values()))
        if len(parts) >= (READ_PARTS_MIN if changed is None else CHANGED_PARTS_MIN):
            self._remember(topic, length, parts)
        return parts

    def _remember(self, topic: str, length: int, parts: _Parts) -> None:
        self._remembered[topic] = (length, parts)
        self._bytes += length
        while self._bytes > self._bytes_max:
            self._forget(next(iter(self._remembered)))

    def _forget(self, topic: str) -> tuple[int, _Parts | None]:
        length, parts = self._remembered.pop(topic, (0, None))
        self._bytes -= length
        return length, parts


def _entry(tables: CatalogTables, name: str, place: Place) -> bytes | None:
    """An instance as an element of its service's value; None if it is not one."""
    service, node = tables.service(*place), tables.node(place[0])
    if service is None or node is None or service.service.lower() != name.lower():
        return None
    checks = tables.instance_checks(place[0], "") + tables.instance_checks(*place)
    return health_entry_json(HealthEntry(node, service, checks))


def _entries(tables: CatalogTables, name: str) -> _Parts:
    return {
        (entry.service.node.lower(), entry.service.id): health_entry_json(entry)
        for entry in tables.health(name)
    }


def _service(tables: CatalogTables, name: str, place: Place) -> bytes | None:
    """An instance as a member of its node's "Services"; None if it is not one."""
    service = tables.service(*place)
    return None if service is None or place[0] != name.lower() else _member(service)


def _services(tables: CatalogTables, name: str) -> _Parts:
    low = name.lower()
    return {(low, service.id): _member(service) for service in tables.node_services(name)}


def _member(service: ServiceInstance) -> bytes:
    return b"%b:%b" % (json(service.id), node_service_json(service))


_One = Callable[[CatalogTables, str, Place], bytes | None]
_All = Callable[[CatalogTables, str], _Parts]
_MAKERS: dict[str, tuple[_One, _All]] = {
    "service": (_entry, _entries),
    "node": (_service, _services),
}


def _enclosed(before: bytes, parts: _Parts, after: bytes) -> list[bytes]:
    pieces = list(parts.values()) or [b""]
    pieces[0] = before + pieces[0]
    pieces[-1] += after
    return pieces


def event_data(topic: str, index: int, value: list[bytes] | None) -> bytes:
    """What readers get: the topic, the index that the value is of, and the value or null."""
    pieces = value or [b"null"]
    pieces[0] = b'{"Topic":%b,"Index":%d,"Value":%b' % (json(topic), index, pieces[0])
    pieces[-1] += b"}"
    return b",".join(pieces)
