"""Snapshots from agent to agent: streamed in chunks with an id, checked, durable, then told.

    BEGIN (id, the SNAPSHOT message, size) | CHUNK (id, offset, bytes)* | END (id) -> DONE (id)

The sender waits for the socket; the receiver stops reading while its disk is behind. Only when
the file is whole and durable does the receiver's core see the message.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from typing import TypeVar

import msgspec

from callboard.agent.consensus.disk import DiskFile
from callboard.agent.consensus.disk_thread import DiskThread
from callboard.agent.consensus.snapshots import SnapshotCorrupt, SnapshotIntake, SnapshotStore
from callboard.agent.rpc.connection import FramedConnection
from callboard.agent.rpc.dialing import Dialed
from callboard.agent.rpc.errors import ProtocolError
from callboard.agent.rpc.wire import ENCODER, FrameKind, Peer, decode_body
from callboard.raft.codec import CodecError, decode_message, encode_message
from callboard.raft.messages import Message, MessageKind

log = logging.getLogger(__name__)

CHUNK_BYTES = 256 << 10
DRAIN_TIMEOUT_S = 10.0
"""A receiver that takes nothing for so long is given up; Raft tries again."""
CHUNK_TIMEOUT_S = 30.0
"""A sender that says nothing for so long in the middle is given up."""
DONE_TIMEOUT_S = 60.0
"""For checking and syncing a whole snapshot on the other side."""
UNWRITTEN_BYTES_MAX = 4 << 20
"""Received and not yet on the disk: beyond it nothing is read from the socket."""
SNAPSHOT_BYTES_MAX = 8 << 30

T = TypeVar("T")


class Begin(msgspec.Struct, frozen=True, array_like=True):
    """What will come."""

    id: str
    message: bytes
    size: int


class Chunk(msgspec.Struct, frozen=True, array_like=True):
    """Bytes of the file from `offset` on."""

    id: str
    offset: int
    data: bytes


class End(msgspec.Struct, frozen=True, array_like=True):
    """END: that was all. DONE: it is durable here."""

    id: str


_BEGIN = msgspec.msgpack.Decoder(Begin)
_CHUNK = msgspec.msgpack.Decoder(Chunk)
_END = msgspec.msgpack.Decoder(End)


class SnapshotInbox:
    """The snapshots of this agent with the thread that reads and writes them."""

    def __init__(self, store: SnapshotStore, thread: DiskThread) -> None:
        self.store = store
        self._thread = thread
        self._current: _Receiving | None = None
        self._ended = False

    async def run(self, work: Callable[..., T], *arguments: object) -> T:
        """Do disk work in the snapshots' own thread."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def done(result: T) -> None:
            if not future.done():
                future.set_result(result)

        def failed(problem: Exception) -> None:
            if not future.done():
                future.set_exception(problem)

        self._thread.submit(lambda: work(*arguments), done, failed)
        return await future

    def abandon(self, intake: SnapshotIntake) -> None:
        """Remove what was received, in the same thread: a write may be under way there."""

        def failed(problem: Exception) -> None:
            log.warning("cannot remove a partial snapshot", extra={"reason": str(problem)})

        if not self._ended:  # (else the next start removes it)
            self._thread.submit(intake.abandon, lambda _: None, failed)

    def receiver(
        self, peer: Peer, connection: FramedConnection, deliver: Callable[[Message], None]
    ) -> _Receiving:
        """Take a snapshot in; one at a time: a newer one ends the one before."""
        if self._current is not None:
            self._current.give_up("a newer snapshot is sent")
        self._current = _Receiving(self, peer, connection, deliver)
        return self._current

    async def stop(self, timeout_s: float) -> None:
        """End the transfers and the thread; waits so long for a write under way."""
        if self._current is not None:
            await self._current.stop()
        self._ended = True
        try:
            async with asyncio.timeout(timeout_s):
                await self._thread.end()
        except TimeoutError:
            log.warning("left the write of a snapshot behind that does not come back")


class _Receiving:
    """One snapshot that is coming in."""

    def __init__(
        self,
        inbox: SnapshotInbox,
        peer: Peer,
        connection: FramedConnection,
        deliver: Callable[[Message], None],
    ) -> None:
        self._inbox = inbox
        self._peer = peer
        self._connection = connection
        self._deliver = deliver
        self._begin: Begin | None = None
        self._message: Message | None = None
        self._received = 0
        self._unwritten = 0
        self._frames: asyncio.Queue[Chunk | None] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    def frame_received(self, kind: int, body: bytes) -> None:
        if kind == FrameKind.SNAPSHOT_BEGIN:
            self._start(decode_body(_BEGIN, body))
        elif self._begin is None:
            raise ProtocolError(f"frame of kind {kind} before a snapshot's begin")
        elif kind == FrameKind.SNAPSHOT_CHUNK:
            self._take(decode_body(_CHUNK, body), self._begin)
        elif kind == FrameKind.SNAPSHOT_END:
            if decode_body(_END, body).id != self._begin.id or self._received != self._begin.size:
                raise ProtocolError("snapshot ends early")
            self._frames.put_nowait(None)
        else:
            raise ProtocolError(f"frame of kind {kind} on the snapshot channel")

    def connection_lost(self, reason: str) -> None:
        if self._task is not None:
            self._task.cancel()

    def give_up(self, reason: str) -> None:
        self._connection.abort(reason)
        if self._task is not None:
            self._task.cancel()

    async def stop(self) -> None:
        self.give_up("the agent stops")
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    def _start(self, begin: Begin) -> None:
        try:
            message = decode_message(begin.message)
        except CodecError as problem:
            raise ProtocolError(f"snapshot: {problem}") from problem
        plausible = (
            message.kind == MessageKind.SNAPSHOT
            and message.snapshot is not None
            and message.sender == self._peer.node_id
            and 0 < begin.size <= SNAPSHOT_BYTES_MAX
            and begin.id.isalnum()
            and len(begin.id) <= 64
        )
        if self._begin is not None or not plausible:
            raise ProtocolError("not the begin of a snapshot")
        self._begin, self._message = begin, message
        self._task = asyncio.get_running_loop().create_task(self._write(begin, message))

    def _take(self, chunk: Chunk, begin: Begin) -> None:
        if chunk.id != begin.id or chunk.offset != self._received:
            raise ProtocolError("chunk of another snapshot, or out of order")
        self._received += len(chunk.data)
        if self._received > begin.size:
            raise ProtocolError("snapshot longer than announced")
        self._unwritten += len(chunk.data)
        self._frames.put_nowait(chunk)
        if self._unwritten > UNWRITTEN_BYTES_MAX:
            self._connection.pause_reading()

    async def _next(self) -> Chunk | None:
        async with asyncio.timeout(CHUNK_TIMEOUT_S):
            return await self._frames.get()

    async def _write(self, begin: Begin, message: Message) -> None:
        assert message.snapshot is not None
        inbox = self._inbox
        intake = inbox.store.receive(begin.id)
        try:
            while (chunk := await self._next()) is not None:
                await inbox.run(intake.add, chunk.data)
                self._unwritten -= len(chunk.data)
                if self._unwritten < UNWRITTEN_BYTES_MAX // 2:
                    self._connection.resume_reading()
            await inbox.run(inbox.store.accept, intake, message.snapshot)
        except (SnapshotCorrupt, OSError) as problem:
            log.error("cannot take a snapshot in", extra={"reason": str(problem)})
            self._connection.abort("snapshot not taken")
            inbox.abandon(intake)
            return
        except asyncio.CancelledError:
            inbox.abandon(intake)
            raise
        self._deliver(message)
        self._connection.send(FrameKind.SNAPSHOT_DONE, ENCODER.encode(End(begin.id)))


class _AwaitDone:
    """The sender's receiver: waits for DONE."""

    def __init__(self) -> None:
        self.done: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def frame_received(self, kind: int, body: bytes) -> None:
        if kind == FrameKind.SNAPSHOT_DONE and not self.done.done():
            self.done.set_result(decode_body(_END, body).id)

    def connection_lost(self, reason: str) -> None:
        if not self.done.done():
            self.done.set_result("")


async def send_snapshot(dialed: Dialed, message: Message, inbox: SnapshotInbox) -> bool:
    """Stream the snapshot of `message`; True once the other side has it on its disk."""
    answer = _AwaitDone()
    connection = dialed.connection
    connection.receiver = answer
    if dialed.peer.node_id != message.receiver or message.snapshot is None:
        connection.close("another node answered")
        return False
    identifier = secrets.token_hex(8)
    try:
        file = await inbox.run(inbox.store.open_raw, message.snapshot)
        try:
            await _stream(connection, identifier, message, file, inbox)
        finally:
            await inbox.run(file.close)
        async with asyncio.timeout(DONE_TIMEOUT_S):
            return await answer.done == identifier
    except (OSError, TimeoutError) as problem:
        log.warning(
            "snapshot not delivered",
            extra={"peer": dialed.peer.node_name, "reason": str(problem)},
        )
        return False
    finally:
        connection.close("snapshot sent")


async def _stream(
    connection: FramedConnection,
    identifier: str,
    message: Message,
    file: DiskFile,
    inbox: SnapshotInbox,
) -> None:
    size = await inbox.run(file.size)
    begin = Begin(identifier, encode_message(message), size)
    connection.send(FrameKind.SNAPSHOT_BEGIN, ENCODER.encode(begin))
    for offset in range(0, size, CHUNK_BYTES):
        data = await inbox.run(file.read, offset, CHUNK_BYTES)
        chunk = Chunk(identifier, offset, data)
        connection.send(FrameKind.SNAPSHOT_CHUNK, ENCODER.encode(chunk))
        await connection.drain(DRAIN_TIMEOUT_S)
    connection.send(FrameKind.SNAPSHOT_END, ENCODER.encode(End(identifier)))
    await connection.drain(DRAIN_TIMEOUT_S)
