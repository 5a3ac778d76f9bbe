"""Raft's channels: who may speak, what is hung up on, and snapshots on their way."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
from tests.harness.eventually import eventually

from callboard.agent.consensus.disk import MemoryDisk
from callboard.agent.consensus.disk_thread import LoopThread
from callboard.agent.consensus.network import PeerNetwork
from callboard.agent.consensus.snapshots import SnapshotStore, file_name
from callboard.agent.consensus.transfer import Begin, Chunk, End, SnapshotInbox
from callboard.agent.rpc import Channel, Dialer, LocalMember, RpcServer
from callboard.agent.rpc.dialing import Dialed
from callboard.agent.rpc.wire import FrameKind
from callboard.raft.codec import encode_message
from callboard.raft.messages import (
    Configuration,
    Message,
    MessageKind,
    SnapshotMetadata,
)

METADATA = SnapshotMetadata(42, 3, Configuration(("id-1", "id-2")))
SNAPSHOT = Message(MessageKind.SNAPSHOT, "id-1", "id-2", 3, snapshot=METADATA)
HEARTBEAT = Message(MessageKind.HEARTBEAT, "id-1", "id-2", 3)


class Side:
    """One end: a server with a network, and what it received."""

    def __init__(self, number: int, addresses: dict[str, str]) -> None:
        self.local = LocalMember(f"id-{number}", f"agent-{number}", "dc1", "cluster")
        self.server = RpcServer(self.local)
        self.dialer = Dialer(self.local)
        self.disk = MemoryDisk(remembers=True)
        self.inbox = SnapshotInbox(SnapshotStore(self.disk, "cluster"), LoopThread("snapshots"))
        self.taking = True
        self.received: list[tuple[Message, bool]] = []
        self.network = PeerNetwork(
            self.dialer,
            self.server,
            addresses.get,
            random.Random(number),
            receive=lambda message, urgent: self.received.append((message, urgent)),
            inbox=lambda: self.inbox if self.taking else None,
        )

    def write_snapshot(self, chunks: list[bytes]) -> None:
        writer = self.inbox.store.begin(METADATA)
        for chunk in chunks:
            writer.add(chunk)
        writer.finish()


@asynccontextmanager
async def two_ends(
    addresses: dict[str, str] | None = None,
) -> AsyncIterator[tuple[Side, Side]]:
    addresses = {} if addresses is None else addresses
    ends = [Side(1, addresses), Side(2, addresses)]
    for end in ends:
        await end.server.start("127.0.0.1", 0)
        addresses[end.local.node_id] = end.server.address
    try:
        yield ends[0], ends[1]
    finally:
        for end in ends:
            await end.network.stop()
            await end.server.stop()
            await end.inbox.stop(5.0)


async def raw(end: Side, to: Side, channel: Channel) -> Dialed:
    return await end.dialer.dial(to.server.address, channel)


async def test_heartbeats_and_appends_travel_on_connections_of_their_own() -> None:
    async with two_ends() as (one, two):
        one.network.start(["id-2"])
        append = Message(MessageKind.APPEND, "id-1", "id-2", 3)
        await eventually(lambda: one.network.send(HEARTBEAT) and one.network.send(append))
        await eventually(lambda: len(two.received) >= 2)
        assert (HEARTBEAT, True) in two.received
        assert (append, False) in two.received


async def test_member_that_moved_is_dialled_where_it_is_now() -> None:
    addresses: dict[str, str] = {}
    async with two_ends(addresses) as (one, _):
        one.network.start(["id-2"])
        await eventually(lambda: one.network.send(HEARTBEAT))
        moved = Side(2, addresses)
        await moved.server.start("127.0.0.1", 0)
        try:
            # The old connection is alive: nobody resets it.
            addresses["id-2"] = moved.server.address
            await eventually(lambda: one.network.send(HEARTBEAT) and moved.received)
        finally:
            await moved.server.stop()


async def test_message_to_a_member_not_linked_is_lost() -> None:
    async with two_ends() as (one, _):
        assert not one.network.send(HEARTBEAT)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"garbage",
        encode_message(msgspec.structs.replace(HEARTBEAT, sender="id-9")),
    ],
)
async def test_malformed_message_or_one_of_another_sender_is_hung_up_on(body: bytes) -> None:
    async with two_ends() as (one, two):
        dialed = await raw(one, two, Channel.HEARTBEAT)
        dialed.connection.send(FrameKind.MESSAGE, body)
        await eventually(lambda: dialed.connection.closed)
        assert two.received == []


async def test_member_of_another_cluster_greeted_before_ours_was_known_is_hung_up_on() -> None:
    async with two_ends() as (one, two):
        two.local.cluster_id = ""
        dialed = await raw(one, two, Channel.HEARTBEAT)
        two.local.cluster_id = "another"
        dialed.connection.send(FrameKind.MESSAGE, encode_message(HEARTBEAT))
        await eventually(lambda: dialed.connection.closed)
        assert two.received == []


async def test_snapshot_arrives_whole_and_durable_before_its_message() -> None:
    async with two_ends() as (one, two):
        chunks = [random.Random(n).randbytes(300_000) for n in range(10)]
        one.write_snapshot(chunks)
        assert await one.network.send_snapshot(SNAPSHOT, one.inbox)
        assert two.received == [(SNAPSHOT, False)]
        two.disk.lose_unsynced()
        assert list(two.inbox.store.chunks(METADATA)) == chunks


async def test_damaged_snapshot_is_not_taken() -> None:
    async with two_ends() as (one, two):
        one.write_snapshot([b"x" * 1000])
        one.disk._files[file_name(METADATA)].written[-100] ^= 1
        assert not await one.network.send_snapshot(SNAPSHOT, one.inbox)
        assert two.received == []
        await eventually(lambda: two.disk.names() == [])


async def test_missing_snapshot_is_not_sent() -> None:
    async with two_ends() as (one, two):
        assert not await one.network.send_snapshot(SNAPSHOT, one.inbox)
        assert two.received == []


async def test_snapshot_to_a_server_without_a_cluster_is_not_delivered() -> None:
    async with two_ends() as (one, two):
        two.taking = False
        one.write_snapshot([b"x"])
        assert not await one.network.send_snapshot(SNAPSHOT, one.inbox)


def begin(size: int = 10, identifier: str = "ab", message: Message = SNAPSHOT) -> bytes:
    return msgspec.msgpack.encode(Begin(identifier, encode_message(message), size))


def chunk(offset: int = 0, data: bytes = b"12345", identifier: str = "ab") -> bytes:
    return msgspec.msgpack.encode(Chunk(identifier, offset, data))


END = msgspec.msgpack.encode(End("ab"))
BEGIN, CHUNK = FrameKind.SNAPSHOT_BEGIN, FrameKind.SNAPSHOT_CHUNK


@pytest.mark.parametrize(
    "frames",
    [
        [(CHUNK, chunk())],
        [(BEGIN, begin(size=0))],
        [(BEGIN, begin(identifier="../x"))],
        [(BEGIN, begin(message=HEARTBEAT))],
        [(BEGIN, begin(message=msgspec.structs.replace(SNAPSHOT, sender="id-9")))],
        [(BEGIN, begin()), (BEGIN, begin())],
        [(BEGIN, begin()), (CHUNK, chunk(offset=5))],
        [(BEGIN, begin()), (CHUNK, chunk(identifier="cd"))],
        [(BEGIN, begin()), (CHUNK, chunk(data=b"x" * 11))],
        [(BEGIN, begin()), (CHUNK, chunk()), (FrameKind.SNAPSHOT_END, END)],
        [(BEGIN, begin()), (FrameKind.MESSAGE, b"")],
        [(BEGIN, b"garbage")],
    ],
)
async def test_snapshot_out_of_order_is_hung_up_on_and_leaves_nothing(
    frames: list[tuple[FrameKind, bytes]],
) -> None:
    async with two_ends() as (one, two):
        dialed = await raw(one, two, Channel.SNAPSHOT)
        for kind, body in frames:
            dialed.connection.send(kind, body)
        await eventually(lambda: dialed.connection.closed)
        await eventually(lambda: two.disk.names() == [])
        assert two.received == []


async def test_sender_that_falls_silent_is_hung_up_on_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("callboard.agent.consensus.transfer.CHUNK_TIMEOUT_S", 0.1)
    async with two_ends() as (one, two):
        dialed = await raw(one, two, Channel.SNAPSHOT)
        for kind, body in ((BEGIN, begin()), (CHUNK, chunk())):
            dialed.connection.send(kind, body)
        await eventually(lambda: dialed.connection.closed)
        await eventually(lambda: two.disk.names() == [])


async def test_newer_snapshot_ends_the_one_before() -> None:
    async with two_ends() as (one, two):
        first = await raw(one, two, Channel.SNAPSHOT)
        first.connection.send(BEGIN, begin(identifier="aa"))
        first.connection.send(CHUNK, chunk(identifier="aa"))
        await eventually(lambda: two.disk.names() == ["incoming-aa.snap.tmp"])
        one.write_snapshot([b"x"])
        assert await one.network.send_snapshot(SNAPSHOT, one.inbox)
        await eventually(lambda: first.connection.closed)
        await eventually(lambda: two.disk.names() == [file_name(METADATA)])
