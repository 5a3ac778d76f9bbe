"""Which servers there are and where: kept up to date from member events, cheap to ask.

Raft and forwarding know servers by node id; gossip knows where an id is now. A failed server keeps
its last address, for gossip may be wrong and dialling is how one finds out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from callboard.agent.membership.tags import AgentTags, from_wire


class SeenMember(Protocol):
    """What is used of a gossip member."""

    @property
    def name(self) -> str: ...
    @property
    def address(self) -> str: ...
    @property
    def tags(self) -> Mapping[str, str]: ...
    @property
    def status(self) -> str: ...


class ServerDirectory:
    """The server agents of one datacenter. Call `changed` after every member event."""

    def __init__(
        self, members: Callable[[], Iterable[SeenMember]], datacenter: str, own_id: str
    ) -> None:
        self._members = members
        self._datacenter = datacenter
        self._own_id = own_id
        self._addresses: dict[str, str] = {}
        self._alive: dict[str, str] = {}
        self.count = 0
        """Members of any kind that gossip knows."""

    def changed(self) -> None:
        """Look at the members anew."""
        alive: dict[str, str] = {}
        self.count = 0
        for member in self._members():
            self.count += 1
            tags = from_wire(member.tags)
            if tags is None or not tags.server or tags.datacenter != self._datacenter:
                continue
            address = _join(member.address, tags)
            if member.status in ("alive", "leaving"):
                alive[tags.node_id] = address
                self._addresses[tags.node_id] = address
            elif tags.node_id not in alive:
                self._addresses.setdefault(tags.node_id, address)
        self._alive = alive

    def address_of(self, node_id: str) -> str | None:
        """ "ip:port" of a server's RPC listener, as last known; None if it was never seen."""
        return self._addresses.get(node_id)

    def others(self) -> Mapping[str, str]:
        """Node id → "ip:port" of every other server thought alive."""
        return {i: address for i, address in self._alive.items() if i != self._own_id}

    def alive(self) -> list[str]:
        """ "ip:port" of every server thought alive."""
        return list(self._alive.values())


def _join(host: str, tags: AgentTags) -> str:
    return f"[{host}]:{tags.rpc_port}" if ":" in host else f"{host}:{tags.rpc_port}"
