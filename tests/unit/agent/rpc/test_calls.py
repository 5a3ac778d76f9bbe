"""Calls over real sockets: many at once, cancelled, failing, refused; and garbage on the port."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from tests.harness.eventually import eventually

from callboard.agent.rpc import (
    Channel,
    Dialer,
    LocalMember,
    Peer,
    RpcClient,
    RpcError,
    RpcFailed,
    RpcServer,
    RpcUnreachable,
)
from callboard.agent.rpc.calls import CallReceiver
from callboard.agent.rpc.connection import FramedConnection, FrameReceiver, split_address
from callboard.agent.rpc.links import PeerLink
from callboard.agent.rpc.wire import (
    ANSWER_PART_BYTES,
    ENCODER,
    FRAME_BYTES_MAX,
    MAGIC,
    Call,
    Cancel,
    FrameKind,
)


def member(number: int, cluster: str = "cluster-1", datacenter: str = "dc1") -> LocalMember:
    return LocalMember(f"id-{number}", f"agent-{number}", datacenter, cluster)


@asynccontextmanager
async def serving(who: LocalMember | None = None) -> AsyncIterator[RpcServer]:
    server = RpcServer(who or member(1))

    async def echo(peer: Peer, body: bytes) -> bytes:
        return body

    server.register("echo", echo)
    await server.start("127.0.0.1", 0)
    try:
        yield server
    finally:
        await server.stop()


@asynccontextmanager
async def calling(who: LocalMember | None = None, source: str = "") -> AsyncIterator[RpcClient]:
    client = RpcClient(Dialer(who or member(2), source_address=source))
    try:
        yield client
    finally:
        await client.stop()


def receiver_of(connection: FramedConnection) -> CallReceiver:
    receiver = connection.receiver._channel  # type: ignore[union-attr]
    assert isinstance(receiver, CallReceiver)
    return receiver


async def talk_raw(server: RpcServer, data: bytes) -> bytes:
    """Send bytes, return what comes until the server hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        writer.write(data)
        await writer.drain()
        async with asyncio.timeout(10):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)


async def test_call_returns_the_handlers_answer() -> None:
    async with serving() as server, calling() as client:
        assert await client.call(server.address, "echo", b"hello", 5) == b"hello"


async def test_handler_knows_who_calls() -> None:
    async with serving() as server, calling() as client:

        async def name(peer: Peer, body: bytes) -> bytes:
            return f"{peer.node_id} {peer.node_name}".encode()

        server.register("name", name)
        assert await client.call(server.address, "name", b"", 5) == b"id-2 agent-2"


async def test_connections_come_from_the_source_address() -> None:
    async with serving() as server, calling(source="127.11.0.9") as client:

        async def address(peer: Peer, body: bytes) -> bytes:
            return peer.address.encode()

        server.register("address", address)
        answer = await client.call(server.address, "address", b"", 5)
        assert answer.startswith(b"127.11.0.9:")


async def test_calls_at_once_share_a_connection_and_do_not_wait_for_each_other() -> None:
    async with serving() as server, calling() as client:
        release = asyncio.Event()

        async def wait(peer: Peer, body: bytes) -> bytes:
            await release.wait()
            return b"waited"

        server.register("wait", wait)
        slow = asyncio.create_task(client.call(server.address, "wait", b"", 5))
        numbers = [str(number).encode() for number in range(100)]
        answers = await asyncio.gather(
            *(client.call(server.address, "echo", number, 5) for number in numbers)
        )
        assert answers == numbers
        assert not slow.done()
        assert len(server._connections) == 1
        release.set()
        assert await slow == b"waited"


@pytest.mark.parametrize("excess", [-1, 0, 1])
async def test_answer_longer_than_a_frame_arrives_whole_and_others_pass_it(excess: int) -> None:
    async with serving() as server, calling() as client:
        long = bytes(range(256)) * ((FRAME_BYTES_MAX[Channel.RPC] + ANSWER_PART_BYTES) // 256)
        long = long[: len(long) - ANSWER_PART_BYTES + excess]

        async def dump(peer: Peer, body: bytes) -> bytes:
            return long

        server.register("dump", dump)
        dumped = asyncio.create_task(client.call(server.address, "dump", b"", 60))
        assert await client.call(server.address, "echo", b"between", 60) == b"between"
        assert await dumped == long
        assert len(server._connections) == 1


async def test_answer_that_nobody_would_take_is_refused_in_words(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("callboard.agent.rpc.calls.ANSWER_BYTES_MAX", 1000)
    async with serving() as server, calling() as client:
        with pytest.raises(RpcFailed, match="an answer of 1001 bytes, at most 1000"):
            await client.call(server.address, "echo", b"x" * 1001, 5)
        assert await client.call(server.address, "echo", b"x" * 1000, 5) == b"x" * 1000
    assert "rpc answer too long" in caplog.text


async def test_answer_that_never_ends_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callboard.agent.rpc.client.ANSWER_BYTES_MAX", 5 << 20)
    async with serving() as server, calling() as client:
        with pytest.raises(RpcUnreachable, match="an answer of more than"):
            await client.call(server.address, "echo", b"x" * (13 << 20), 30)


async def test_call_longer_than_a_frame_is_refused_and_costs_no_other() -> None:
    async with serving() as server, calling() as client:
        with pytest.raises(RpcFailed, match="is too long"):
            await client.call(server.address, "echo", bytes(FRAME_BYTES_MAX[Channel.RPC]), 5)
        assert await client.call(server.address, "echo", b"on", 5) == b"on"
        assert len(server._connections) == 1


async def test_error_of_a_handler_reaches_the_caller_as_text() -> None:
    async with serving() as server, calling() as client:

        async def refuse(peer: Peer, body: bytes) -> bytes:
            raise RpcError("not today")

        server.register("refuse", refuse)
        with pytest.raises(RpcFailed, match=r"^not today$"):
            await client.call(server.address, "refuse", b"", 5)


async def test_handler_that_breaks_answers_and_the_server_serves_on() -> None:
    async with serving() as server, calling() as client:

        async def broken(peer: Peer, body: bytes) -> bytes:
            raise KeyError("oops")

        server.register("broken", broken)
        with pytest.raises(RpcFailed, match="internal error"):
            await client.call(server.address, "broken", b"", 5)
        assert await client.call(server.address, "echo", b"on", 5) == b"on"


async def test_unknown_method_fails_with_its_name() -> None:
    async with serving() as server, calling() as client:
        with pytest.raises(RpcFailed, match="'nothing' is not served"):
            await client.call(server.address, "nothing", b"", 5)


def blocking(started: asyncio.Event, freed: asyncio.Event) -> Callable[..., Awaitable[bytes]]:
    async def block(peer: Peer, body: bytes) -> bytes:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            freed.set()
        return b""

    return block


async def test_cancelled_call_frees_the_handler_within_a_second() -> None:
    async with serving() as server, calling() as client:
        started, freed = asyncio.Event(), asyncio.Event()
        server.register("block", blocking(started, freed))
        call = asyncio.create_task(client.call(server.address, "block", b"", 60))
        await asyncio.wait_for(started.wait(), 5)
        call.cancel()
        await asyncio.wait_for(freed.wait(), 1)


async def test_call_cancelled_before_it_began_leaves_nothing_behind() -> None:
    async with serving() as server:
        dialed = await Dialer(member(2)).dial(server.address, Channel.RPC)
        for number in range(10):
            dialed.connection.send(FrameKind.CALL, ENCODER.encode(Call(number, "echo", b"")))
            dialed.connection.send(FrameKind.CANCEL, ENCODER.encode(Cancel(number)))
        served = await eventually(lambda: [receiver_of(c) for c in server._connections])
        await eventually(lambda: not served[0]._tasks)
        dialed.connection.close()


async def test_call_out_of_time_frees_the_handler_and_says_it_was_sent() -> None:
    async with serving() as server, calling() as client:
        started, freed = asyncio.Event(), asyncio.Event()
        server.register("block", blocking(started, freed))
        with pytest.raises(RpcUnreachable) as caught:
            await client.call(server.address, "block", b"", 0.05)
        assert caught.value.sent
        await asyncio.wait_for(freed.wait(), 1)


async def test_lost_connection_frees_the_handler_and_fails_the_call() -> None:
    async with serving() as server, calling() as client:
        started, freed = asyncio.Event(), asyncio.Event()
        server.register("block", blocking(started, freed))
        call = asyncio.create_task(client.call(server.address, "block", b"", 60))
        await asyncio.wait_for(started.wait(), 5)
        for connection in list(server._connections):
            connection.abort("test")
        with pytest.raises(RpcUnreachable) as caught:
            await call
        assert caught.value.sent
        await asyncio.wait_for(freed.wait(), 1)


async def test_closed_port_is_unreachable_and_nothing_was_sent() -> None:
    async with serving() as server:
        address = server.address
    async with calling() as client:
        with pytest.raises(RpcUnreachable) as caught:
            await client.call(address, "echo", b"", 5)
        assert not caught.value.sent


async def test_client_connects_again_after_a_restart_of_the_server() -> None:
    async with calling() as client:
        async with serving() as server:
            address = server.address
            await client.call(address, "echo", b"", 5)
        host, port = split_address(address)
        again = RpcServer(member(1))

        async def echo(peer: Peer, body: bytes) -> bytes:
            return b"again"

        again.register("echo", echo)
        await again.start(host, port)

        async def call() -> bytes:
            return await client.call(address, "echo", b"", 5)

        attempt: Callable[[], bytes | Awaitable[bytes]] = call
        assert await eventually(attempt) == b"again"
        await again.stop()


async def test_large_answer_comes_whole() -> None:
    async with serving() as server, calling() as client:
        body = random.Random(1).randbytes(5 << 20)
        assert await client.call(server.address, "echo", body, 20) == body


@pytest.mark.parametrize(
    ("caller", "text"),
    [
        (member(2, cluster="other"), "cluster is cluster-1 here, other on the other side"),
        (member(2, datacenter="dc9"), "datacenter is 'dc1' here, 'dc9' on the other side"),
    ],
)
async def test_refusal_is_told_to_the_caller_and_logged_on_both_sides(
    caller: LocalMember, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    async with serving() as server, calling(caller) as client:
        with pytest.raises(RpcUnreachable, match=text):
            await client.call(server.address, "echo", b"", 5)
    reasons = {record.name: record.__dict__["reason"] for record in caplog.records}
    assert text in reasons["callboard.agent.rpc.server"]
    assert text in reasons["callboard.agent.rpc.dialing"]


async def test_channel_that_is_not_mounted_is_refused() -> None:
    async with serving() as server:
        with pytest.raises(RpcUnreachable, match="channel 'snapshot' is not served"):
            await Dialer(member(2)).dial(server.address, Channel.SNAPSHOT)


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        MAGIC + b"\xff\xff\xff\xff\x01",
        MAGIC + b"\x00\x00\x00\x00",
        MAGIC + b"\x00\x00\x00\x03\x01\x91\x01",
        MAGIC + b"\x00\x00\x00\x02\x04\x90",
    ],
)
async def test_garbage_is_hung_up_on_and_logged_and_the_server_serves_on(
    garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    async with serving() as server, calling() as client:
        assert await talk_raw(server, garbage) == b""
        await eventually(lambda: "rejected an rpc connection" in caplog.text)
        assert await client.call(server.address, "echo", b"on", 5) == b"on"


async def test_garbage_is_logged_at_a_bounded_rate(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    async with serving() as server:
        await asyncio.gather(*(talk_raw(server, b"garbage") for _ in range(60)))
    assert 0 < len(caplog.records) <= 30


async def test_garbage_after_the_handshake_is_hung_up_on() -> None:
    async with serving() as server:
        dialed = await Dialer(member(2)).dial(server.address, Channel.RPC)
        dialed.connection.send(FrameKind.CALL, b"\xc1")
        await eventually(lambda: dialed.connection.closed)


async def test_frame_beyond_the_channels_limit_is_hung_up_on() -> None:
    async with serving() as server:
        dialed = await Dialer(member(2)).dial(server.address, Channel.RPC)
        dialed.connection.send_raw((FRAME_BYTES_MAX[Channel.RPC] + 1).to_bytes(4, "big") + b"xx")
        await eventually(lambda: dialed.connection.closed)


class Collector:
    """Mounted on the raft channel: keeps what comes."""

    def __init__(self) -> None:
        self.peers: list[Peer] = []
        self.bodies: list[bytes] = []
        self.connections: list[FramedConnection] = []

    def __call__(self, peer: Peer, connection: FramedConnection) -> FrameReceiver:
        self.peers.append(peer)
        self.connections.append(connection)
        return self

    def frame_received(self, kind: int, body: bytes) -> None:
        self.bodies.append(body)

    def connection_lost(self, reason: str) -> None: ...


@asynccontextmanager
async def linking(
    address_of: Callable[[str], str | None], peer: str = "id-1"
) -> AsyncIterator[PeerLink]:
    link = PeerLink(Dialer(member(2)), peer, Channel.RAFT, address_of, random.Random(1))
    link.start()
    try:
        yield link
    finally:
        await link.stop()


async def test_link_carries_messages_in_order() -> None:
    async with serving() as server:
        collector = Collector()
        server.mount(Channel.RAFT, collector)
        async with linking(lambda peer: server.address) as link:
            await eventually(lambda: link.connected)
            for number in range(10):
                assert link.send(bytes([number]))
            await eventually(lambda: collector.bodies == [bytes([n]) for n in range(10)])
            assert collector.peers[0].node_id == "id-2"


async def test_link_drops_what_it_cannot_send() -> None:
    async with linking(lambda peer: None) as link:
        assert not link.send(b"x")


async def test_link_is_made_again_after_a_loss() -> None:
    async with serving() as server:
        collector = Collector()
        server.mount(Channel.RAFT, collector)
        async with linking(lambda peer: server.address) as link:
            await eventually(lambda: link.connected)
            collector.connections[0].abort("test")
            await eventually(lambda: len(collector.peers) == 2 and link.connected)


async def test_link_follows_its_peer_to_another_address() -> None:
    async with serving(member(1)) as wrong, serving(member(3)) as right:
        for server in (wrong, right):
            server.mount(Channel.RAFT, Collector())
        known = {"id-3": wrong.address}
        async with linking(known.get, peer="id-3") as link:
            await eventually(lambda: link._wrong_peer_logged)
            assert not link.connected
            known["id-3"] = right.address
            await eventually(lambda: link.connected)
