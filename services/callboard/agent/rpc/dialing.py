"""Outgoing connections: dial, shake hands, know who answered.

`Dialer` holds what all dials of an agent share: who we are, the source address, the TLS context.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from dataclasses import dataclass

import msgspec

from callboard.agent.rpc.connection import FramedConnection, FrameReceiver, split_address
from callboard.agent.rpc.errors import ProtocolError, RpcUnreachable
from callboard.agent.rpc.security import RpcSecurity
from callboard.agent.rpc.wire import (
    ENCODER,
    FRAME_BYTES_MAX,
    MAGIC,
    Channel,
    FrameKind,
    LocalMember,
    Peer,
    Refused,
    Welcome,
    decode_body,
    encode_frame,
    hello_of,
)
from callboard.chassis.logs import RateLimited
from callboard.pki.accepting import SHUTDOWN_TIMEOUT_S
from callboard.pki.reasons import explain

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 2.0
"""Of the TCP connection and the handshake together: a black hole answers neither."""

_WELCOME = msgspec.msgpack.Decoder(Welcome)
_REFUSED = msgspec.msgpack.Decoder(Refused)


class _Handshake:
    """The receiver until the other side has answered."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[Welcome | Refused] = asyncio.get_running_loop().create_future()

    def frame_received(self, kind: int, body: bytes) -> None:
        if self.answer.done():
            raise ProtocolError("frame before the handshake was over")
        if kind == FrameKind.WELCOME:
            self.answer.set_result(decode_body(_WELCOME, body))
        elif kind == FrameKind.REFUSED:
            self.answer.set_result(decode_body(_REFUSED, body))
        else:
            raise ProtocolError(f"frame of kind {kind} instead of a welcome")

    def connection_lost(self, reason: str) -> None:
        if not self.answer.done():
            self.answer.set_exception(ConnectionError(reason))


@dataclass(slots=True)
class Dialed:
    """A connection whose handshake is done. Set `connection.receiver` before awaiting anything."""

    connection: FramedConnection
    peer: Peer


class Dialer:
    """Makes connections for one agent."""

    def __init__(
        self,
        member: LocalMember,
        *,
        source_address: str = "",
        security: RpcSecurity | None = None,
    ) -> None:
        """`source_address`: the IP address connections come from; "" = the system chooses.
        `security`: speak mutual TLS; without it in the clear."""
        self.member = member
        self._local = (source_address, 0) if source_address else None
        self._security = security
        self._limited = RateLimited(log)

    @property
    def renews(self) -> bool:
        """Whether connections become old: those of TLS."""
        return self._security is not None

    async def dial(
        self, address: str, channel: Channel, receiver: FrameReceiver | None = None
    ) -> Dialed:
        """Connect to "ip:port" and shake hands. Raises RpcUnreachable (nothing was sent)."""
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                return await self._dial(address, channel, receiver)
        except TimeoutError as problem:
            raise RpcUnreachable(f"{address}: no answer to the handshake", sent=False) from problem
        except ssl.SSLError as problem:
            reason = explain(problem)
            self._limited.warning(
                address, "no TLS with another agent", {"addr": address, "reason": reason}
            )
            raise RpcUnreachable(f"{address}: {reason}", sent=False) from problem
        except ConnectionResetError as problem:
            hint = " in the handshake: has it mutual TLS off?" if self._security else ""
            raise RpcUnreachable(f"{address}: hung up{hint}", sent=False) from problem
        except (OSError, ValueError) as problem:
            raise RpcUnreachable(f"{address}: {problem}", sent=False) from problem

    async def _dial(self, address: str, channel: Channel, receiver: FrameReceiver | None) -> Dialed:
        host, port = split_address(address)
        handshake = _Handshake()
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: FramedConnection(handshake, None),
            host,
            port,
            ssl=self._security.dialling if self._security else None,
            server_hostname=self._security.server_name if self._security else None,
            ssl_shutdown_timeout=SHUTDOWN_TIMEOUT_S if self._security else None,
            local_addr=self._local,
        )
        try:
            hello = ENCODER.encode(hello_of(self.member, channel))
            connection.send_raw(MAGIC + encode_frame(FrameKind.HELLO, hello))
            answer = await handshake.answer
        except ConnectionError as problem:
            if self._security is not None:  # (to us the TLS handshake was over)
                self._limited.warning(
                    address,
                    "another agent hung up after the TLS handshake",
                    {"addr": address, "reason": str(problem)},
                )
            raise
        except BaseException:
            connection.abort("handshake given up")
            raise
        if isinstance(answer, Refused):
            connection.close()
            self._limited.warning(
                f"{address} {channel}",
                "connection refused by the other agent",
                {"addr": address, "channel": str(channel), "reason": answer.reason},
            )
            raise RpcUnreachable(f"{address}: refused: {answer.reason}", sent=False)
        if self._security is not None:
            shown = self._security.peer(connection)
            reason = self._security.refusal_of_listener(shown, answer.node_name)
            if reason:
                connection.abort(reason)
                self._limited.warning(
                    address, "another agent is not believed", {"addr": address, "reason": reason}
                )
                raise RpcUnreachable(f"{address}: {reason}", sent=False)
        if connection.closed:
            raise RpcUnreachable(f"{address}: closed after the handshake", sent=False)
        if self._security is not None:
            self._security.hold(connection)
        connection.accept_frames_up_to(FRAME_BYTES_MAX[channel])
        connection.receiver = receiver
        peer = Peer(answer.node_id, answer.node_name, answer.cluster_id, address)
        return Dialed(connection, peer)
