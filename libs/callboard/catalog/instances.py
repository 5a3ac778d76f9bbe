"""The instances of each service, kept sorted by node and ID: eight bytes an instance.

A list that was handed out is never changed again: the next write copies it first. So a reader may
walk it in slices, and loading a service of ten thousand instances copies nothing.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from callboard.catalog.objects import ServiceInstance


class InstanceLists:
    """Lower-case service name → its instances on all nodes."""

    __slots__ = ("_given", "_lists")

    def __init__(self) -> None:
        self._lists: dict[str, list[ServiceInstance]] = {}
        self._given: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._lists

    def get(self, name: str) -> Sequence[ServiceInstance]:
        """The instances, sorted by node (in lower case) and ID; a pinned version."""
        found = self._lists.get(name)
        if found is None:
            return ()
        self._given.add(name)
        return found

    def put(self, name: str, service: ServiceInstance) -> None:
        """Add the instance, or replace the one with its node and ID."""
        instances = self._writable(name)
        place = _place(service)
        at = bisect_left(instances, place, key=_place)
        if at < len(instances) and _place(instances[at]) == place:
            instances[at] = service
        else:
            instances.insert(at, service)

    def remove(self, name: str, service: ServiceInstance) -> None:
        """Remove the instance, which must be there."""
        instances = self._writable(name)
        at = bisect_left(instances, _place(service), key=_place)
        assert _place(instances[at]) == _place(service), "an instance that was never put"
        del instances[at]
        if not instances:
            del self._lists[name]

    def _writable(self, name: str) -> list[ServiceInstance]:
        instances = self._lists.get(name)
        if instances is None:
            self._lists[name] = instances = []
        elif name in self._given:
            self._lists[name] = instances = instances.copy()
        self._given.discard(name)
        return instances


def _place(service: ServiceInstance) -> tuple[str, str]:
    return service.node.lower(), service.id
