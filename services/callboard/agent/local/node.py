"""How an agent's node stands in the catalog: one description for itself and for the leader.

Both the agent (anti-entropy) and the leader (reconciler) register the node; were they to differ in
one field, the node's index would move for ever.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from callboard.catalog.objects import Node

SEGMENT_META = {"consul-network-segment": ""}
"""Consul's own entry in every agent's node meta."""


def describe_node(
    *, name: str, node_id: str, address: str, datacenter: str, meta: Mapping[str, str]
) -> Node:
    """The catalog's node for an agent that is reached at `address`."""
    family = "ipv6" if ipaddress.ip_address(address).version == 6 else "ipv4"
    return Node(
        id=node_id,
        name=name,
        address=address,
        datacenter=datacenter,
        tagged_addresses={
            "lan": address,
            f"lan_{family}": address,
            "wan": address,
            f"wan_{family}": address,
        },
        meta={**meta, **SEGMENT_META},
    )


def same_node(one: Node, other: Node) -> bool:
    """Whether two descriptions say the same, whatever their indexes."""
    return (
        one.id == other.id
        and one.name == other.name
        and one.address == other.address
        and dict(one.tagged_addresses) == dict(other.tagged_addresses)
        and dict(one.meta) == dict(other.meta)
    )
