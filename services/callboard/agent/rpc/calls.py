"""The server's half of the rpc channel: each call is a task, cancelled when nobody waits for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

import msgspec

from callboard.agent.rpc.connection import FramedConnection
from callboard.agent.rpc.errors import ProtocolError, RpcError
from callboard.agent.rpc.wire import (
    ANSWER_BYTES_MAX,
    ANSWER_PART_BYTES,
    ENCODER,
    AnswerTo,
    Call,
    Cancel,
    Failure,
    FrameKind,
    Peer,
    decode_body,
)

log = logging.getLogger(__name__)

CALLS_MAX = 16_384
"""Calls at work for one connection; one more fails. (Forwarded blocking queries are parked.)"""
UNSENT_BYTES_MAX = 128 << 20
"""Answers the other side does not read: beyond this it is hung up on."""
DRAIN_TIMEOUT_S = 10.0
"""A caller that takes nothing of a long answer for so long is given up."""

_CALL = msgspec.msgpack.Decoder(Call)
_CANCEL = msgspec.msgpack.Decoder(Cancel)


class CallReceiver:
    """Serves the calls of one connection."""

    def __init__(
        self,
        handlers: Mapping[str, Callable[[Peer, bytes], Awaitable[bytes]]],
        peer: Peer,
        connection: FramedConnection,
    ) -> None:
        self._handlers = handlers
        self._peer = peer
        self._connection = connection
        self._tasks: dict[int, asyncio.Task[None]] = {}

    def frame_received(self, kind: int, body: bytes) -> None:
        if kind == FrameKind.CALL:
            self._start(decode_body(_CALL, body))
        elif kind == FrameKind.CANCEL:
            task = self._tasks.get(decode_body(_CANCEL, body).id)
            if task is not None:
                task.cancel()
        elif kind == FrameKind.PING:
            self._connection.send(FrameKind.PONG, b"")
        else:
            raise ProtocolError(f"frame of kind {kind} on the rpc channel")

    def connection_lost(self, reason: str) -> None:
        for task in list(self._tasks.values()):
            task.cancel()

    def _start(self, call: Call) -> None:
        handler = self._handlers.get(call.method)
        if handler is None:
            self._fail(call.id, f"rpc method {call.method!r} is not served by this agent")
        elif call.id in self._tasks:
            raise ProtocolError(f"call {call.id} is already at work")
        elif len(self._tasks) >= CALLS_MAX:
            self._fail(call.id, "too many calls at once")
        else:
            task = asyncio.get_running_loop().create_task(self._serve(call, handler))
            self._tasks[call.id] = task
            # (not in the task itself: one that is cancelled before it began runs nothing)
            task.add_done_callback(lambda _: self._tasks.pop(call.id, None))

    async def _serve(self, call: Call, handler: Callable[[Peer, bytes], Awaitable[bytes]]) -> None:
        try:
            await self._answer(call, await handler(self._peer, call.body))
        except asyncio.CancelledError:
            pass  # The caller is gone or no longer waits; there is nobody to tell.
        except RpcError as problem:
            self._fail(call.id, str(problem))
        except ConnectionError:
            pass  # The same, in the middle of a long answer.
        except TimeoutError:
            self._connection.abort("a long answer is not read")
        except Exception as problem:
            log.exception("rpc handler failed", extra={"method": call.method})
            self._fail(call.id, f"internal error: {problem}")

    async def _answer(self, call: Call, body: bytes) -> None:
        if len(body) > ANSWER_BYTES_MAX:
            text = f"an answer of {len(body)} bytes, at most {ANSWER_BYTES_MAX} are sent"
            log.error("rpc answer too long", extra={"method": call.method, "reason": text})
            self._fail(call.id, text)
            return
        sent = 0
        while len(body) - sent > ANSWER_PART_BYTES:
            part = AnswerTo(call.id, body[sent : sent + ANSWER_PART_BYTES])
            self._send(FrameKind.ANSWER_PART, ENCODER.encode(part))
            sent += ANSWER_PART_BYTES
            await self._connection.drain(DRAIN_TIMEOUT_S)
        self._send(FrameKind.ANSWER, ENCODER.encode(AnswerTo(call.id, body[sent:])))

    def _fail(self, call: int, text: str) -> None:
        self._send(FrameKind.FAILURE, ENCODER.encode(Failure(call, text)))

    def _send(self, kind: FrameKind, body: bytes) -> None:
        self._connection.send(kind, body)
        if self._connection.pending_bytes > UNSENT_BYTES_MAX:
            self._connection.abort("answers are not read")
