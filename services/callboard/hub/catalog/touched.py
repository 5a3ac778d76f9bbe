"""Which topics a change of the catalog touches. Pure.

A topic is touched when an object that its value is made of was put or deleted, whether or not its
bytes are others for it. So the topics of a log index follow from its changes and the catalog after
them alone, and every hub counts them alike.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from callboard.catalog.changes import Change
from callboard.catalog.objects import Check, Node, ServiceInstance
from callboard.catalog.tables import CatalogTables
from callboard.hub.catalog.naming import check_topic, node_topic, service_topic

Place = tuple[str, str]
"""Of an instance: its node's name in lower case, and its ID."""

Touched = dict[str, set[Place]]
"""Topics in the order of their names, with the instances that are others in the value of each."""


def touched(changes: Iterable[Change], tables: CatalogTables) -> Touched:
    """What the changes of one index touched; `tables` is as they left it, and they are as it
    returned them (with what they replaced)."""
    topics: Touched = defaultdict(set)
    services: Touched = defaultdict(set)
    """By their names as registered."""
    nodes: set[str] = set()
    """All instances on these are others to their services."""
    for change in changes:
        for it in (change.previous, change.value):
            if isinstance(it, Node):
                topics[node_topic(it.name)]
                nodes.add(it.name)
            elif isinstance(it, ServiceInstance):
                place = it.node.lower(), it.id
                topics[node_topic(it.node)].add(place)
                services[it.service].add(place)
            elif isinstance(it, Check):
                topics[check_topic(it.node, it.check_id)]
                if not it.service_id:
                    nodes.add(it.node)
                elif instance := tables.service(it.node, it.service_id):
                    services[instance.service].add((it.node.lower(), it.service_id))
    for node in nodes:  # an instance that has left a node left by a change of its own
        for instance in tables.node_services(node):
            services[instance.service].add((node.lower(), instance.id))
    for name, places in _in_every_spelling(services, tables).items():
        topics[service_topic(name)] |= places
    return dict(sorted(topics.items()))


def _in_every_spelling(services: Touched, tables: CatalogTables) -> Touched:
    """The same by every spelling of the names: health/service/web has instances of Web, too."""
    folded: Touched = defaultdict(set)
    for name, places in services.items():
        folded[name.lower()] |= places
    spelled = {name: folded[name.lower()] for name in services}
    for low, places in folded.items():
        for name in {instance.service for instance in tables.service_instances(low)}:
            spelled[name] = places
    return spelled
