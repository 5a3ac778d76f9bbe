"""Names of the catalog's topics. Pure.

    /catalog/services/{service}         as GET /v1/health/service/{service} answers
    /catalog/nodes/{node}               as GET /v1/catalog/node/{node}
    /catalog/checks/{node}/{check ID}   an element of GET /v1/health/node/{node}
    /cluster/leader  /cluster/members   beside the catalog's log

A name is a segment of a path: what RFC 3986 (3.3) does not allow in one is percent-encoded, and a
slash within a name, too. It is spelled as it was registered.
"""

from __future__ import annotations

from typing import Literal, NamedTuple
from urllib.parse import quote, unquote

BEGINNINGS = ("/catalog/", "/cluster/")
"""Of all topics here, and of what asks for them."""

LEADER = "/cluster/leader"
MEMBERS = "/cluster/members"

SERVICES = "/catalog/services/"
NODES = "/catalog/nodes/"
CHECKS = "/catalog/checks/"
_PLAIN = "!$&'()*+,;=:@"
"""Beside letters, digits and `-._~`."""


class Topic(NamedTuple):
    """What a topic's name names."""

    kind: Literal["service", "node", "check"]
    name: str
    """Of the service or the node."""
    id: str = ""
    """Of the check."""


def service_topic(name: str) -> str:
    """The topic of a service."""
    return SERVICES + quote(name, _PLAIN)


def node_topic(name: str) -> str:
    """The topic of a node."""
    return NODES + quote(name, _PLAIN)


def check_topic(node: str, check_id: str) -> str:
    """The topic of a check."""
    return f"{CHECKS}{quote(node, _PLAIN)}/{quote(check_id, _PLAIN)}"


def parse(text: str) -> Topic | None:
    """What a topic of the catalog's log names; None for any other text, also for another way to
    write the same name."""
    topic = None
    if text.startswith(SERVICES):
        topic = Topic("service", unquote(text[len(SERVICES) :]))
        same = service_topic(topic.name)
    elif text.startswith(NODES):
        topic = Topic("node", unquote(text[len(NODES) :]))
        same = node_topic(topic.name)
    elif text.startswith(CHECKS):
        node, _, check_id = text[len(CHECKS) :].partition("/")
        topic = Topic("check", unquote(node), unquote(check_id))
        same = check_topic(topic.name, topic.id)
    else:
        return None
    return topic if same == text else None
