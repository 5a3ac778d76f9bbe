"""What an agent says of itself in gossip, and how Consul's users see it.

On the wire the role is `callboard`: no Consul client may take us for its RPC server. The HTTP
API and the CLI show `consul` for servers and `node` for clients, which their users know.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from callboard.catalog.version import CONSUL_VERSION, VERSION

ROLE = "callboard"
PROTOCOL_VERSION = "2"
PORT_MAX = 65535


@dataclass(frozen=True, slots=True)
class AgentTags:
    """An agent's tags; `expect` 0 and `bootstrap` False mean not said."""

    node_id: str
    datacenter: str
    server: bool
    rpc_port: int
    expect: int = 0
    bootstrap: bool = False

    def to_wire(self) -> dict[str, str]:
        """The tags as serf carries them: short strings, 512 bytes in all."""
        tags = {
            "role": ROLE,
            "dc": self.datacenter,
            "id": self.node_id,
            "vsn": PROTOCOL_VERSION,
            "build": VERSION,
        }
        if self.server:
            tags |= {"srv": "1", "port": str(self.rpc_port)}
        if self.expect:
            tags["expect"] = str(self.expect)
        if self.bootstrap:
            tags["bootstrap"] = "1"
        return tags


def from_wire(tags: Mapping[str, str]) -> AgentTags | None:
    """What another agent says of itself; None when it is no Callboard agent (a serf agent)."""
    if tags.get("role") != ROLE:
        return None
    try:
        port = int(tags.get("port", "0"))
        expect = int(tags.get("expect", "0"))
    except ValueError:
        return None
    if not 0 <= port <= PORT_MAX or expect < 0:
        return None
    return AgentTags(
        node_id=tags.get("id", ""),
        datacenter=tags.get("dc", ""),
        server=tags.get("srv") == "1",
        rpc_port=port,
        expect=expect,
        bootstrap=tags.get("bootstrap") == "1",
    )


def as_consul(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags as Consul's API and CLI show them; a foreign member's are left as they are."""
    known = from_wire(tags)
    if known is None:
        return dict(tags)
    shown = {
        "role": "consul" if known.server else "node",
        "dc": known.datacenter,
        "id": known.node_id,
        "segment": "",
        "vsn": PROTOCOL_VERSION,
        "vsn_min": "2",
        "vsn_max": "3",
        "build": CONSUL_VERSION,
        "acls": "0",
    }
    if known.server:
        shown |= {"port": str(known.rpc_port), "raft_vsn": "3"}
    if known.expect:
        shown["expect"] = str(known.expect)
    if known.bootstrap:
        shown["bootstrap"] = "1"
    return shown
