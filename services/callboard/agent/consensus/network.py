"""The network seam of the driver, and the real one: channels of the agents' RPC.

Appends and their responses have one connection, heartbeats and votes another, each snapshot its
own: a heartbeat waits behind nothing. All are one-way: who wants to say something, dials.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from typing import Protocol

from callboard.agent.consensus.transfer import SnapshotInbox, send_snapshot
from callboard.agent.rpc import Channel, Dialer, LocalMember, Peer, RpcServer, RpcUnreachable
from callboard.agent.rpc.connection import FramedConnection, FrameReceiver
from callboard.agent.rpc.errors import ProtocolError
from callboard.agent.rpc.links import PeerLink
from callboard.agent.rpc.wire import FrameKind
from callboard.raft.codec import CodecError, decode_message, encode_message
from callboard.raft.messages import Message, MessageKind

_BULK = frozenset({MessageKind.APPEND, MessageKind.APPEND_RESPONSE, MessageKind.SNAPSHOT})


class Network(Protocol):
    """What the driver asks of the network. Messages may be lost, delayed, doubled, reordered."""

    def start(self, peers: Iterable[str]) -> None:
        """Begin to link with these members."""

    def send(self, message: Message) -> bool:
        """Send to `message.receiver`; False if it is known to be lost. Never blocks."""

    async def send_snapshot(self, message: Message, snapshots: SnapshotInbox) -> bool:
        """Stream the snapshot that a SNAPSHOT message speaks of; True once it is durable there."""

    async def stop(self) -> None: ...


class NetworkFactory(Protocol):
    """Makes a member's network; the arguments are PeerNetwork's."""

    def __call__(
        self,
        dialer: Dialer,
        server: RpcServer,
        address_of: Callable[[str], str | None],
        rng: random.Random,
        *,
        receive: Callable[[Message, bool], None],
        inbox: Callable[[], SnapshotInbox | None],
    ) -> Network: ...


class PeerNetwork:
    """Links to every other member over RPC connections."""

    def __init__(
        self,
        dialer: Dialer,
        server: RpcServer,
        address_of: Callable[[str], str | None],
        rng: random.Random,
        *,
        receive: Callable[[Message, bool], None],
        inbox: Callable[[], SnapshotInbox | None],
    ) -> None:
        """`receive(message, urgent)` is called on the loop, in the protocol's callback; urgent
        ones are heartbeats and votes. `inbox()` takes in snapshots; None while it cannot."""
        self._dialer = dialer
        self._server = server
        self._address_of = address_of
        self._rng = rng
        self._receive = receive
        self._inbox = inbox
        self._bulk: dict[str, PeerLink] = {}
        self._urgent: dict[str, PeerLink] = {}
        server.mount(Channel.RAFT, lambda peer, _: self._listen_to(peer, urgent=False))
        server.mount(Channel.HEARTBEAT, lambda peer, _: self._listen_to(peer, urgent=True))
        server.mount(Channel.SNAPSHOT, self._take_snapshot)

    def start(self, peers: Iterable[str]) -> None:
        """Begin to dial these members."""
        for peer in peers:
            for links, channel in ((self._bulk, Channel.RAFT), (self._urgent, Channel.HEARTBEAT)):
                link = PeerLink(self._dialer, peer, channel, self._address_of, self._rng)
                links[peer] = link
                link.start()

    def send(self, message: Message) -> bool:
        """Send a message by the channel of its kind; False: dropped."""
        links = self._bulk if message.kind in _BULK else self._urgent
        link = links.get(message.receiver)
        return link is not None and link.send(encode_message(message))

    async def send_snapshot(self, message: Message, snapshots: SnapshotInbox) -> bool:
        """Stream a snapshot on a connection of its own; True once it is durable there."""
        address = self._address_of(message.receiver)
        if address is None:
            return False
        try:
            dialed = await self._dialer.dial(address, Channel.SNAPSHOT)
        except RpcUnreachable:
            return False
        return await send_snapshot(dialed, message, snapshots)

    async def stop(self) -> None:
        """Send what is queued, then hang up."""
        links = [*self._bulk.values(), *self._urgent.values()]
        await asyncio.gather(*(link.stop() for link in links))

    def _listen_to(self, peer: Peer, *, urgent: bool) -> FrameReceiver:
        for links in (self._bulk, self._urgent):
            if (link := links.get(peer.node_id)) is not None:
                link.hurry()
        return _Incoming(peer, self._receive, self._server.member, urgent=urgent)

    def _take_snapshot(self, peer: Peer, connection: FramedConnection) -> FrameReceiver:
        inbox = self._inbox()
        if inbox is None:
            return _Closed(connection)
        return inbox.receiver(peer, connection, lambda message: self._receive(message, False))


class _Incoming:
    """Messages of one peer on one channel."""

    def __init__(
        self,
        peer: Peer,
        receive: Callable[[Message, bool], None],
        local: LocalMember,
        *,
        urgent: bool,
    ) -> None:
        self._peer = peer
        self._receive = receive
        self._local = local
        self._urgent = urgent

    def frame_received(self, kind: int, body: bytes) -> None:
        if kind != FrameKind.MESSAGE:
            raise ProtocolError(f"frame of kind {kind} on a raft channel")
        try:
            message = decode_message(body)
        except CodecError as problem:
            raise ProtocolError(f"raft message: {problem}") from problem
        if self._local.cluster_id not in ("", self._peer.cluster_id):
            # The handshake may have been before this server had read which cluster is its own.
            raise ProtocolError(
                f"message of cluster {self._peer.cluster_id!r}, this is {self._local.cluster_id}"
            )
        if message.sender != self._peer.node_id:
            raise ProtocolError(f"message of {message.sender} sent by {self._peer.node_id}")
        self._receive(message, self._urgent)

    def connection_lost(self, reason: str) -> None:
        """The peer dials again."""


class _Closed:
    """Takes nothing: this server belongs to no cluster yet."""

    def __init__(self, connection: FramedConnection) -> None:
        connection.close("not part of a cluster yet")

    def frame_received(self, kind: int, body: bytes) -> None:
        """Passed over."""

    def connection_lost(self, reason: str) -> None:
        """Nothing was begun."""
