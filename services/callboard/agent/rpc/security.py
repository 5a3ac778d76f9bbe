"""Mutual TLS on TCP 8300: who may dial, who may answer, and what for (by role).

Raft, heartbeats and snapshots are for servers of the catalog; calls for agents. A certificate that
names its machine speaks for that machine alone. What is refused is told to the other side in words,
by the handshake's REFUSED frame.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import Counter
from weakref import WeakSet

from callboard.agent.rpc.connection import FramedConnection
from callboard.agent.rpc.wire import Channel
from callboard.chassis.metrics import Labels
from callboard.pki.live import Judge, LiveIdentity
from callboard.pki.roles import AGENT, SERVER, Peer, WrongRole, authorise, peer_of

log = logging.getLogger(__name__)

ALLOWED = {
    Channel.RPC: (SERVER, AGENT),
    Channel.RAFT: (SERVER,),
    Channel.HEARTBEAT: (SERVER,),
    Channel.SNAPSHOT: (SERVER,),
}


AGE_MAX_S = 3600.0
"""Of a connection. Who dialled it makes it anew then; who listens hangs up at twice that age."""


class RpcSecurity:
    """The contexts of one agent's rpc, and its judgement of certificates."""

    def __init__(self, identity: LiveIdentity, trust: str) -> None:
        """`trust` is our trust domain: "dc1.consul"."""
        self._identity = identity
        self.listening = identity.for_clients(client=ssl.CERT_REQUIRED)
        self.dialling = identity.for_servers()
        self.server_name = f"server.{trust}"
        """Who is dialled must prove this name, whatever its address."""
        self._trust = trust
        self._standing: WeakSet[FramedConnection] = WeakSet()
        self.refused: Counter[str] = Counter()
        """What was turned away, by why: handshake, role, name, and standing: those whose
        certificate ceased to be accepted."""

    def figures(self) -> dict[Labels, float]:
        """`refused`, as metrics are read."""
        return {(why,): float(count) for why, count in self.refused.items()}

    def count(self, why: str) -> None:
        """Count one that was turned away."""
        self.refused[why] += 1

    def hold(self, connection: FramedConnection) -> None:
        """A connection stands, from or to another agent: `judge` looks at it from now on.

        Whoever dialled makes it anew after an hour, and soon after our certificate, CA or list
        changed: then both sides have seen of each other what is new before the old ends.
        """
        generation = self._identity.generation

        def is_old() -> bool:
            return generation != self._identity.generation or _age_s(connection) > AGE_MAX_S

        connection.is_old = is_old
        self._standing.add(connection)

    def judge(self, judge: Judge) -> None:
        """Hang up on those whose certificate is not accepted any more, or who stay too long."""
        for connection in [one for one in self._standing if not one.closed]:
            reason = judge(connection.certificate_der)
            if reason is not None:
                self.count("standing")
                log.warning(
                    "connection cut: the other agent's certificate is not accepted any more",
                    extra={"addr": connection.remote_address, "reason": reason},
                )
                connection.abort(reason)
            elif _age_s(connection) > 2 * AGE_MAX_S:
                connection.close("old")

    def peer(self, connection: FramedConnection) -> Peer:
        """Who is at the other end, as its certificate says."""
        return peer_of(connection.certificate, self._trust)

    def refusal(self, peer: Peer, channel: Channel, node_name: str) -> str | None:
        """Why a dialler that calls itself `node_name` is refused; None when it is not."""
        try:
            authorise(peer, ALLOWED[channel], f"channel {channel}")
        except WrongRole as problem:
            self.count("role")
            return str(problem)
        reason = _other_name(peer, node_name)
        if reason is not None:
            self.count("name")
        return reason

    def refusal_of_listener(self, peer: Peer, node_name: str) -> str | None:
        """Why who answered is not believed; None when it is."""
        if SERVER not in peer.roles:
            return "the other side's certificate is not a server's"
        return _other_name(peer, node_name)


def _age_s(connection: FramedConnection) -> float:
    return asyncio.get_running_loop().time() - connection.made_at


def _other_name(peer: Peer, node_name: str) -> str | None:
    if peer.node and peer.node.lower() != node_name.lower():
        return f"the certificate is {peer.node}'s, and {node_name} uses it"
    return None
