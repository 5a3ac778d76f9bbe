"""Mutual TLS on TCP 8300: who may dial, who may answer, and what for (by role).

Raft, heartbeats and snapshots are for servers of the catalog; calls for agents. A certificate that
names its machine speaks for that machine alone. What is refused is told to the other side in words,
by the handshake's REFUSED frame.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping

from callboard.agent.rpc.wire import Channel
from callboard.pki.live import LiveIdentity
from callboard.pki.roles import AGENT, SERVER, Peer, WrongRole, authorise, peer_of

Certificate = Mapping[str, object]

ALLOWED = {
    Channel.RPC: (SERVER, AGENT),
    Channel.RAFT: (SERVER,),
    Channel.HEARTBEAT: (SERVER,),
    Channel.SNAPSHOT: (SERVER,),
}


class RpcSecurity:
    """The contexts of one agent's rpc, and its judgement of certificates."""

    def __init__(self, identity: LiveIdentity, trust: str) -> None:
        """`trust` is our trust domain: "dc1.consul"."""
        self.listening = identity.for_clients(client=ssl.CERT_REQUIRED)
        self.dialling = identity.for_servers()
        self.server_name = f"server.{trust}"
        """Who is dialled must prove this name, whatever its address."""
        self._trust = trust

    def is_server(self, certificate: Certificate | None) -> bool:
        """Whether the other side is a server of the catalog."""
        return SERVER in peer_of(certificate, self._trust).roles

    def refusal(
        self, certificate: Certificate | None, channel: Channel, node_name: str
    ) -> str | None:
        """Why a dialler that calls itself `node_name` is refused; None when it is not."""
        peer = peer_of(certificate, self._trust)
        try:
            authorise(peer, ALLOWED[channel], f"channel {channel}")
        except WrongRole as problem:
            return str(problem)
        return _other_name(peer, node_name)

    def refusal_of_listener(self, certificate: Certificate | None, node_name: str) -> str | None:
        """Why who answered is not believed; None when it is."""
        peer = peer_of(certificate, self._trust)
        if SERVER not in peer.roles:
            return "the other side's certificate is not a server's"
        return _other_name(peer, node_name)


def _other_name(peer: Peer, node_name: str) -> str | None:
    if peer.node and peer.node.lower() != node_name.lower():
        return f"the certificate is {peer.node}'s, and {node_name} uses it"
    return None
