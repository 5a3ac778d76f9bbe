"""The caller's half of the rpc channel: one pooled connection per address, many calls on each.

A call that is cancelled or timed out is told to the server, so a parked request there is freed.
Only while calls are out is the other side pinged: a stopped process keeps its sockets.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable

import msgspec

from callboard.agent.rpc.connection import FramedConnection
from callboard.agent.rpc.dialing import Dialer
from callboard.agent.rpc.errors import ProtocolError, RpcFailed, RpcUnreachable
from callboard.agent.rpc.wire import (
    ANSWER_BYTES_MAX,
    ENCODER,
    FRAME_BYTES_MAX,
    AnswerTo,
    Call,
    Cancel,
    Channel,
    Failure,
    FrameKind,
    Peer,
    decode_body,
)

log = logging.getLogger(__name__)

PING_INTERVAL_S = 2.0
SILENCE_MAX_S = 6.0
"""Calls are out, and no byte came for so long: the other side is given up."""
IDLE_MAX_S = 60.0
"""A connection without calls is closed after this."""
UNSENT_BYTES_MAX = 64 << 20
"""Requests the other side does not read: beyond this new calls fail."""
CALL_HEAD_BYTES_MAX = 1024
"""What a frame holds beside a call's body."""

_ANSWER = msgspec.msgpack.Decoder(AnswerTo)
_FAILURE = msgspec.msgpack.Decoder(Failure)


class RpcClient:
    """Calls methods of other agents by address."""

    def __init__(self, dialer: Dialer) -> None:
        self._dialer = dialer
        self._connections: dict[str, _CallConnection] = {}
        self._dials: dict[str, asyncio.Task[_CallConnection]] = {}
        self._stopped = False

    async def call(self, address: str, method: str, body: bytes, timeout_s: float) -> bytes:
        """Call `method` at "ip:port" and return its answer.

        Raises RpcUnreachable (its `sent` tells whether the call may have been carried out) or
        RpcFailed with the handler's text.
        """
        sent = False
        try:
            async with asyncio.timeout(timeout_s):
                connection = self._connections.get(address)
                if connection is None:
                    connection = await self._connect(address)
                sent = True
                return await connection.call(method, body)
        except TimeoutError as problem:
            raise RpcUnreachable(
                f"{address}: no answer to {method} within {timeout_s} s", sent=sent
            ) from problem

    def peer(self, address: str) -> Peer | None:
        """Who answers at `address`, if connected."""
        connection = self._connections.get(address)
        return connection.peer if connection is not None else None

    async def stop(self) -> None:
        """Close all connections; calls that are out fail."""
        self._stopped = True
        for dial in list(self._dials.values()):
            dial.cancel()
        for connection in list(self._connections.values()):
            connection.close("the agent stops")

    async def _connect(self, address: str) -> _CallConnection:
        if self._stopped:
            raise RpcUnreachable(f"{address}: the agent stops", sent=False)
        dial = self._dials.get(address)
        if dial is None:
            dial = asyncio.get_running_loop().create_task(self._dial(address))
            self._dials[address] = dial
            dial.add_done_callback(lambda done: self._dialled(address, done))
        try:
            # Shielded: other callers wait for the same connection.
            return await asyncio.shield(dial)
        except asyncio.CancelledError:
            if dial.cancelled():
                raise RpcUnreachable(f"{address}: the agent stops", sent=False) from None
            raise

    async def _dial(self, address: str) -> _CallConnection:
        dialed = await self._dialer.dial(address, Channel.RPC)
        connection = _CallConnection(dialed.connection, dialed.peer)
        self._connections[address] = connection
        connection.on_lost = lambda: self._forget(address, connection)
        return connection

    def _dialled(self, address: str, dial: asyncio.Task[_CallConnection]) -> None:
        self._dials.pop(address, None)
        if not dial.cancelled():
            dial.exception()  # (retrieved: all callers may have gone)

    def _forget(self, address: str, connection: _CallConnection) -> None:
        if self._connections.get(address) is connection:
            del self._connections[address]


class _CallConnection:
    """One pooled connection and the calls that are out on it."""

    def __init__(self, connection: FramedConnection, peer: Peer) -> None:
        self.peer = peer
        self.on_lost: Callable[[], None] = lambda: None
        self._connection = connection
        connection.receiver = self
        self._loop = asyncio.get_running_loop()
        self._ids = itertools.count(1)
        self._calls: dict[int, asyncio.Future[bytes]] = {}
        self._parts: dict[int, bytearray] = {}
        """What came of long answers."""
        self._used_at = self._loop.time()
        self._timer = self._loop.call_later(PING_INTERVAL_S, self._watch)

    async def call(self, method: str, body: bytes) -> bytes:
        if self._connection.closed or self._connection.pending_bytes > UNSENT_BYTES_MAX:
            raise RpcUnreachable(f"{self.peer.address}: cannot send", sent=False)
        if len(body) > FRAME_BYTES_MAX[Channel.RPC] - CALL_HEAD_BYTES_MAX:
            # (sent, it would cost the connection and every other call on it)
            raise RpcFailed(f"a call of {method} with {len(body)} bytes is too long")
        number = next(self._ids)
        answer: asyncio.Future[bytes] = self._loop.create_future()
        if not self._calls:
            self._connection.last_received_at = self._loop.time()
        self._calls[number] = answer
        self._used_at = self._loop.time()
        self._connection.send(FrameKind.CALL, ENCODER.encode(Call(number, method, body)))
        try:
            return await answer
        except asyncio.CancelledError:
            self._connection.send(FrameKind.CANCEL, ENCODER.encode(Cancel(number)))
            raise
        finally:
            self._calls.pop(number, None)
            self._parts.pop(number, None)

    def close(self, reason: str) -> None:
        self._connection.close(reason)

    def frame_received(self, kind: int, body: bytes) -> None:
        if kind == FrameKind.ANSWER:
            answer = decode_body(_ANSWER, body)
            waiting = self._calls.get(answer.id)
            if waiting is not None and not waiting.done():
                before = self._parts.pop(answer.id, None)
                waiting.set_result(answer.body if before is None else bytes(before + answer.body))
        elif kind == FrameKind.ANSWER_PART:
            self._take_part(decode_body(_ANSWER, body))
        elif kind == FrameKind.FAILURE:
            failure = decode_body(_FAILURE, body)
            waiting = self._calls.get(failure.id)
            if waiting is not None and not waiting.done():
                waiting.set_exception(RpcFailed(failure.text))
        elif kind != FrameKind.PONG:
            raise ProtocolError(f"frame of kind {kind} on the rpc channel")

    def _take_part(self, part: AnswerTo) -> None:
        waiting = self._calls.get(part.id)
        if waiting is None or waiting.done():
            return
        parts = self._parts.setdefault(part.id, bytearray())
        if len(parts) + len(part.body) > ANSWER_BYTES_MAX:
            raise ProtocolError(f"an answer of more than {ANSWER_BYTES_MAX} bytes")
        parts += part.body

    def connection_lost(self, reason: str) -> None:
        self._timer.cancel()
        self.on_lost()
        for waiting in list(self._calls.values()):
            if not waiting.done():
                waiting.set_exception(
                    RpcUnreachable(f"{self.peer.address}: connection lost: {reason}", sent=True)
                )

    def _watch(self) -> None:
        now = self._loop.time()
        if self._connection.is_old():
            self.on_lost()  # the next call dials anew; those that are out are waited for
            if not self._calls:
                self._connection.close("old")
                return
        if self._calls:
            self._used_at = now
            if now - self._connection.last_received_at > SILENCE_MAX_S:
                self._connection.abort("no sign of life")
                return
            self._connection.send(FrameKind.PING, b"")
        elif now - self._used_at > IDLE_MAX_S:
            self._connection.close("idle")
            return
        self._timer = self._loop.call_later(PING_INTERVAL_S, self._watch)
