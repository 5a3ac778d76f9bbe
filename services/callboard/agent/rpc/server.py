"""The listener on TCP 8300: shakes hands, then gives each connection to its channel.

Garbage is answered by hanging up and a log line, the log lines being bounded in rate. The number
of connections is bounded; one more is hung up on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import msgspec

from callboard.agent.rpc.calls import CallReceiver
from callboard.agent.rpc.connection import FramedConnection, FrameReceiver, join_address
from callboard.agent.rpc.errors import ProtocolError, RpcError
from callboard.agent.rpc.security import RpcSecurity
from callboard.agent.rpc.wire import (
    ENCODER,
    FRAME_BYTES_MAX,
    MAGIC,
    Channel,
    FrameKind,
    Hello,
    LocalMember,
    Peer,
    Refused,
    Welcome,
    answer_hello,
    decode_body,
    encode_frame,
)
from callboard.pki.accepting import TlsListener
from callboard.pki.roles import SERVER

log = logging.getLogger(__name__)

HANDSHAKE_TIMEOUT_S = 5.0
STOP_TIMEOUT_S = 5.0
CONNECTIONS_MAX = 1024
"""Agents hold a handful of connections to each server."""
LOG_LINES_PER_SECOND = 5

Handler: TypeAlias = Callable[[Peer, bytes], Awaitable[bytes]]
ChannelFactory: TypeAlias = Callable[[Peer, FramedConnection], FrameReceiver]

_HELLO = msgspec.msgpack.Decoder(Hello)


class RpcServer:
    """Serves calls by registered handlers, and other channels by mounted factories."""

    def __init__(self, member: LocalMember, *, security: RpcSecurity | None = None) -> None:
        """`security`: speak mutual TLS; without it in the clear."""
        self.member = member
        self._security = security
        self._handlers: dict[str, Handler] = {}
        self._channels: dict[Channel, ChannelFactory] = {Channel.RPC: self._serve_calls}
        self._connections: dict[FramedConnection, None] = {}
        # (ordered, unlike a set: a simulation plays the same run twice)
        self._listener: asyncio.Server | None = None
        self._tls_listener: TlsListener | None = None
        self._name: tuple[Any, ...] = ("", 0)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._logged_second = 0
        self._logged_lines = 0

    def register(self, method: str, handler: Handler, *, servers_only: bool = False) -> None:
        """Serve calls of `method`. The handler may raise RpcError: its text is the answer.

        `servers_only`: calls of those whose certificate is no server's are refused.
        """
        self._handlers[method] = _for_servers(method, handler) if servers_only else handler

    def mount(self, channel: Channel, factory: ChannelFactory) -> None:
        """Give connections of `channel` to the receivers that `factory` makes."""
        self._channels[channel] = factory

    async def start(self, host: str, port: int) -> None:
        """Listen. OSError if the address is taken."""
        self._loop = asyncio.get_running_loop()

        def accepted() -> FramedConnection:
            return FramedConnection(None, self._made)

        if self._security is not None:
            self._tls_listener = TlsListener(
                accepted,
                self._security.listening,
                timeout_s=HANDSHAKE_TIMEOUT_S,
                failed=self._handshake_failed,
            )
            await self._tls_listener.start(host, port)
            self._name = self._tls_listener.name
        else:
            self._listener = await self._loop.create_server(accepted, host, port, backlog=256)
            self._name = self._listener.sockets[0].getsockname()

    @property
    def port(self) -> int:
        """The port listened on (useful after port 0)."""
        return int(self._name[1])

    @property
    def address(self) -> str:
        """ "ip:port" listened on."""
        return join_address(self._name[0], self._name[1])

    async def stop(self) -> None:
        """Stop listening and hang up on everybody; handlers at work are cancelled."""
        if self._listener is not None:
            self._listener.close()
        if self._tls_listener is not None:
            await self._tls_listener.stop()
        for connection in list(self._connections):
            connection.abort("the agent stops")
        if self._listener is not None:
            # (from Python 3.12 on this waits for the connections too: they were aborted above)
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await self._listener.wait_closed()

    # Handshake -----------------------------------------------------------------------------

    def _made(self, connection: FramedConnection) -> None:
        if len(self._connections) >= CONNECTIONS_MAX:
            self.log_rejected(connection.remote_address, "too many connections")
            connection.abort("too many connections")
            return
        self._connections[connection] = None
        connection.receiver = _Greeter(self, connection)

    def _handshake_failed(self, address: str, reason: str) -> None:
        assert self._security is not None
        self._security.count("handshake")
        self.log_rejected(address, reason)

    def forget(self, connection: FramedConnection) -> None:
        """A connection is gone."""
        self._connections.pop(connection, None)

    def greet(self, connection: FramedConnection, hello: Hello) -> FrameReceiver | None:
        """Answer a HELLO; the receiver of what follows, or None if refused."""
        answer = answer_hello(hello, self.member)
        if isinstance(answer, Welcome) and Channel(hello.channel) not in self._channels:
            answer = Refused(f"channel {hello.channel!r} is not served by this agent")
        shown = None if self._security is None else self._security.peer(connection)
        if isinstance(answer, Welcome) and self._security is not None and shown is not None:
            reason = self._security.refusal(shown, Channel(hello.channel), hello.node_name)
            answer = Refused(reason) if reason else answer
        if isinstance(answer, Refused):
            connection.send_raw(MAGIC + encode_frame(FrameKind.REFUSED, ENCODER.encode(answer)))
            connection.close(answer.reason)
            self.log_rejected(connection.remote_address, answer.reason, hello.node_name)
            return None
        if self._security is not None:
            self._security.hold(connection)
        channel = Channel(hello.channel)
        connection.send_raw(MAGIC + encode_frame(FrameKind.WELCOME, ENCODER.encode(answer)))
        connection.accept_frames_up_to(FRAME_BYTES_MAX[channel])
        peer = Peer(
            hello.node_id,
            hello.node_name,
            hello.cluster_id,
            connection.remote_address,
            shown is None or SERVER in shown.roles,
        )
        return self._channels[channel](peer, connection)

    def log_rejected(self, address: str, reason: str, name: str = "") -> None:
        """Say that a connection was not taken; at most a few lines a second."""
        second = int(asyncio.get_running_loop().time())
        if second != self._logged_second:
            self._logged_second, self._logged_lines = second, 0
        self._logged_lines += 1
        if self._logged_lines <= LOG_LINES_PER_SECOND:
            log.warning(
                "rejected an rpc connection",
                extra={"addr": address, "reason": reason, "node": name},
            )

    def _serve_calls(self, peer: Peer, connection: FramedConnection) -> FrameReceiver:
        return CallReceiver(self._handlers, peer, connection)


def _for_servers(method: str, handler: Handler) -> Handler:
    async def guarded(peer: Peer, body: bytes) -> bytes:
        if not peer.server:
            raise RpcError(f"{method} is for servers of the catalog")
        return await handler(peer, body)

    return guarded


class _Greeter:
    """The receiver of an accepted connection: first the handshake, then passes all on."""

    def __init__(self, server: RpcServer, connection: FramedConnection) -> None:
        self._server = server
        self._connection = connection
        self._channel: FrameReceiver | None = None
        self._greeted = False
        self._timer = asyncio.get_running_loop().call_later(
            HANDSHAKE_TIMEOUT_S, connection.abort, "no handshake in time"
        )

    def frame_received(self, kind: int, body: bytes) -> None:
        if self._channel is not None:
            self._channel.frame_received(kind, body)
            return
        if kind != FrameKind.HELLO:
            raise ProtocolError(f"frame of kind {kind} instead of a hello")
        if self._greeted:
            raise ProtocolError("frame after a refusal")
        hello = decode_body(_HELLO, body)
        self._timer.cancel()
        self._greeted = True
        self._channel = self._server.greet(self._connection, hello)

    def connection_lost(self, reason: str) -> None:
        self._timer.cancel()
        self._server.forget(self._connection)
        if self._channel is not None:
            self._channel.connection_lost(reason)
        elif not self._greeted and reason != "closed by the other side":
            self._server.log_rejected(self._connection.remote_address, reason)
