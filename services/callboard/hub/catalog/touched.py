"""Which topics a change of the catalog touches. Pure.

A topic is touched when an object that its value is made of was put or deleted, whether or not its
bytes are others for it. So the topics of a log index follow from its changes and the catalog after
them alone, and every hub counts them alike.
"""

from __future__ import annotations

from collections.abc import Iterable

from callboard.catalog.changes import Change
from callboard.catalog.objects import Check, Node, ServiceInstance
from callboard.catalog.tables import CatalogTables
from callboard.hub.catalog.naming import check_topic, node_topic, service_topic


def touched(changes: Iterable[Change], tables: CatalogTables) -> list[str]:
    """The topics that the changes of one index touched, sorted; `tables` is as they left it, and
    they are as it returned them (with what they replaced)."""
    topics: set[str] = set()
    nodes: set[str] = set()
    """All services on these have another value."""
    services: set[str] = set()
    for change in changes:
        for it in (change.previous, change.value):
            if isinstance(it, Node):
                topics.add(node_topic(it.name))
                nodes.add(it.name)
            elif isinstance(it, ServiceInstance):
                topics.add(node_topic(it.node))
                services.add(it.service)
            elif isinstance(it, Check):
                topics.add(check_topic(it.node, it.check_id))
                if not it.service_id:
                    nodes.add(it.node)
                elif instance := tables.service(it.node, it.service_id):
                    services.add(instance.service)
    for node in nodes:  # one that has left a node left by a change of its own
        services.update(each.service for each in tables.node_services(node))
    for name in {each.lower() for each in services}:
        # health/service/web lists instances of Web, too
        services.update({each.service for each in tables.service_instances(name)})
    topics.update(map(service_topic, services))
    return sorted(topics)
