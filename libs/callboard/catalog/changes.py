"""What a committed command changed, and the names under which waiters and caches watch for it."""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

from callboard.catalog.objects import Check, Node, ServiceInstance


class WatchKey(NamedTuple):
    """A resource whose index can be asked and waited for.

    kind            name
    nodes           ""            the list of nodes
    node            node name     one node, its services and checks (lower case)
    services        ""            the names of services and their tags
    service         service name  instances, their nodes and checks (lower case)
    checks          ""            all checks (health/state/*)
    kv              key           one key
    kv-prefix       prefix        every key below ("" is all)
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
