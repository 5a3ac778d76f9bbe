"""Names of the catalog's topics. Pure.

    /catalog/services/{service}         as GET /v1/health/service/{service} answers
    /catalog/nodes/{node}               as GET /v1/catalog/node/{node}
    /catalog/checks/{node}/{check ID}   an element of GET /v1/health/node/{node}
    /cluster/leader  /cluster/members   beside the catalog's log

A topic is what its template expands to (RFC 6570, 3.2.2): of a name, all but letters, digits and
`-._~` is percent-encoded, as encodeURIComponent has it, so that `/catalog/checks/{node}/{id}` finds
every check: service:web is `service%3Aweb`. Names are spelled as they were registered.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple
from urllib.parse import quote, unquote

BEGINNINGS = ("/catalog/", "/cluster/")
"""Of all topics here, and of what asks for them."""

LEADER = "/cluster/leader"
MEMBERS = "/cluster/members"
BESIDE = (LEADER, MEMBERS)
"""Topics whose values are no entries of the catalog's log."""

SERVICES = "/catalog/services/"
NODES = "/catalog/nodes/"
CHECKS = "/catalog/checks/"


_LOG = "/catalog/"
"""What the topics of the catalog's log begin with."""
_EXPRESSION = re.compile(r"(\{[^{}]*\})")


class Topic(NamedTuple):
    """What a topic's name names."""

    kind: Literal["service", "node", "check"]
    name: str
    """Of the service or the node."""
    id: str = ""
    """Of the check."""


def service_topic(name: str) -> str:
    """The topic of a service."""
    return SERVICES + quote(name, safe="")


def node_topic(name: str) -> str:
    """The topic of a node."""
    return NODES + quote(name, safe="")


def check_topic(node: str, check_id: str) -> str:
    """The topic of a check."""
    return f"{CHECKS}{quote(node, safe='')}/{quote(check_id, safe='')}"


def canonical_template(text: str) -> str:
    """A URI template of the catalog's topics with all that is between its variables written as
    in `canonical`; any other text as it is."""
    if not text.startswith(_LOG):
        return text
    return "".join(
        piece if piece.startswith("{") else _canonical_segments(piece)
        for piece in _EXPRESSION.split(text)
    )


def canonical(text: str) -> str:
    """A topic of the catalog's log as it is written here, if `text` names one in another way
    (`service:web`); any other text as it is."""
    if not text.startswith((SERVICES, NODES, CHECKS)):
        return text
    return _canonical_segments(text)


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


def _canonical_segments(text: str) -> str:
    return "/".join(quote(unquote(segment), safe="") for segment in text.split("/"))
