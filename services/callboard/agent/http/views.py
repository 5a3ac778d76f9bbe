"""What a caller may see of lists: elements it has no right to read are left out, as Consul does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from callboard.catalog.authorizer import ALLOW_ALL, Authorizer
from callboard.catalog.discovery import HealthEntry
from callboard.catalog.objects import Check, KeyValue, Node, ServiceInstance


def nodes(rights: Authorizer, found: Sequence[Node]) -> Sequence[Node]:
    """The nodes the caller may read."""
    if rights is ALLOW_ALL:
        return found
    return [node for node in found if rights.node_read(node.name)]


def instances(rights: Authorizer, found: Sequence[ServiceInstance]) -> Sequence[ServiceInstance]:
    """The instances the caller may read: their service and their node."""
    if rights is ALLOW_ALL:
        return found
    return [s for s in found if rights.service_read(s.service) and rights.node_read(s.node)]


def checks(rights: Authorizer, found: Sequence[Check]) -> Sequence[Check]:
    """The checks the caller may read: of its service, or of the node alone."""
    if rights is ALLOW_ALL:
        return found
    return [
        check
        for check in found
        if (
            rights.service_read(check.service_name)
            if check.service_name
            else rights.node_read(check.node)
        )
    ]


def entries(rights: Authorizer, found: Sequence[HealthEntry]) -> Sequence[HealthEntry]:
    """The health entries the caller may read."""
    if rights is ALLOW_ALL:
        return found
    return [
        entry
        for entry in found
        if rights.service_read(entry.service.service) and rights.node_read(entry.node.name)
    ]


def keys(rights: Authorizer, found: Sequence[KeyValue]) -> Sequence[KeyValue]:
    """The keys the caller may read."""
    if rights is ALLOW_ALL:
        return found
    return [entry for entry in found if rights.key_read(entry.key)]


def has_tags(service_tags: Iterable[str], wanted: tuple[str, ...]) -> bool:
    """Whether all wanted tags (lower case) are among a service's, without regard to case."""
    if not wanted:
        return True
    present = {tag.lower() for tag in service_tags}
    return all(tag in present for tag in wanted)
