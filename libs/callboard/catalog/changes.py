"""What a committed command changed, and the names under which waiters and caches watch for it."""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

from callboard.catalog.objects import Check, Node, ServiceInstance


class WatchKey(NamedTuple):
    """A resource whose index can be asked and waited for.

    kind               name           moves when
    nodes              ""             a node is added, changed or removed
    node               node name      the node, its services or its checks change
    node-services      node name      the node or its services change (catalog/node/:n)
    node-checks        node name      its checks change, or it comes or goes (health/node/:n)
    services           ""             the set of service names or of a name's tags changes
    service            service name   instances, their nodes or checks change (health/service/:s)
    service-instances  service name   instances or their nodes change (catalog/service/:s)
    service-checks     service name   the instances' own checks change (health/checks/:s)
    checks             "" | status    any check; or: a check enters, changes in or leaves a status
    kv                 key            the key
    kv-prefix          prefix         any key below ("" is all)

    Node and service names are matched without regard to case.
    """

    kind: str
    name: str = ""


class Change(msgspec.Struct, frozen=True, gc=False):
    """One object put or deleted at a log index: what the feed sends and the DNS cache drops."""

    index: int
    operation: Literal["put", "delete"]
    kind: Literal["node", "service", "check"]
    node: str
    id: str
    """"" for a node, the service's ID, the check's CheckID."""
    value: Node | ServiceInstance | Check | None
    """The new object, or for a delete the old one."""
    previous: Node | ServiceInstance | Check | None = None
    """What a put replaced, if anything (local knowledge: the feed need not send it)."""
