"""The TCP side of the media port: who may be there, for how long, and how much may wait."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
from tests.harness.eventually import eventually

from callboard.gateway.mux.counters import MediaCounters
from callboard.gateway.mux.framing import framed
from callboard.gateway.mux.kinds import Kind
from callboard.gateway.mux.pairs import MuxPair
from callboard.gateway.mux.tcp import (
    BAD_FRAMES_MAX,
    CLOSING_S,
    QUEUE_BYTES_MAX,
    UNCHECKED_S,
    TcpLimits,
    TcpPort,
)

RTP = bytes([0x80, 96]) + bytes(1190)
KEYFRAME = bytes([0x80, 97]) + bytes(90)
RTCP = bytes([0x80, 200]) + bytes(60)
STUN = bytes(20)


class Taker:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.packets: list[tuple[Kind, bytes]] = []
        self.gone: list[MuxPair] = []
        self.writables = 0
        self.begins_with: bytes | None = None
        """Sent as soon as there is room again."""

    def received(self, kind: Kind, packet: bytes, pair: MuxPair, now: float) -> None:
        self.packets.append((kind, packet))

    def lost(self, pair: MuxPair) -> None:
        self.gone.append(pair)

    def writable(self, pair: MuxPair) -> None:
        self.writables += 1
        if self.begins_with is not None:
            assert pair.send(self.begins_with)


class Stand:
    """A port that says yes to STUN of 20 zeros, and whose clock is moved by hand."""

    def __init__(self, limits: TcpLimits) -> None:
        self.counters = MediaCounters()
        self.now = 0.0
        self.taker = Taker()
        self.pairs: list[MuxPair] = []
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.bind(("127.0.0.1", 0))
        sock.listen(64)
        self.where: tuple[str, int] = sock.getsockname()
        self.port = TcpPort(sock, self._stun, self.counters, lambda: self.now, limits)
        self._writers: list[asyncio.StreamWriter] = []

    def _stun(self, data: bytes, pair: MuxPair) -> None:
        if data == STUN:
            self.pairs.append(pair)
            pair.keep(self.taker)
            pair.send(b"yes")

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A client."""
        reader, writer = await asyncio.open_connection(*self.where)
        self._writers.append(writer)
        return reader, writer

    async def checked(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, MuxPair]:
        """A client that showed its password."""
        reader, writer = await self.connect()
        writer.write(framed(STUN))
        assert await asyncio.wait_for(reader.readexactly(5), 10.0) == framed(b"yes")
        return reader, writer, self.pairs[-1]

    async def close(self) -> None:
        """All of it."""
        for writer in self._writers:
            writer.close()
        for writer in self._writers:
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)
        await self.port.close()
        assert await eventually(lambda: len(self.port) == 0)


@pytest.fixture
async def stand(request: pytest.FixtureRequest) -> AsyncIterator[Stand]:
    """Open while a test runs; limits by `indirect` parameters."""
    opened = Stand(getattr(request, "param", TcpLimits()))
    await opened.port.open()
    yield opened
    await opened.close()


async def is_closed(reader: asyncio.StreamReader) -> bool:
    """Whether the other side closes the connection, within seconds."""
    try:
        return await asyncio.wait_for(reader.read(1), 10.0) == b""
    except ConnectionResetError:
        return True


async def test_packets_of_a_checked_connection_go_to_its_owner(stand: Stand) -> None:
    _, writer, pair = await stand.checked()
    assert pair.reliable
    writer.write(framed(RTP) + framed(b"") + framed(RTCP)[:7])
    await writer.drain()
    writer.write(framed(RTCP)[7:])
    assert await eventually(lambda: len(stand.taker.packets) == 2)
    assert stand.taker.packets == [(Kind.RTP, RTP), (Kind.RTCP, RTCP)]


async def test_connection_without_a_valid_check_is_closed_after_ten_seconds(stand: Stand) -> None:
    reader, _ = await stand.connect()
    kept, _, _ = await stand.checked()
    assert await eventually(lambda: len(stand.port) == 2)
    stand.port.sweep(UNCHECKED_S - 0.1)
    assert len(stand.port) == 2
    stand.port.sweep(UNCHECKED_S)
    assert await is_closed(reader)
    assert await eventually(lambda: len(stand.port) == 1)
    assert not kept.at_eof()
    assert stand.counters.tcp_closed == 1


async def test_connection_that_sends_no_frames_of_ours_is_closed(stand: Stand) -> None:
    reader, writer = await stand.connect()
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    assert await is_closed(reader)


async def test_stranger_on_a_connection_is_closed_after_some_frames(stand: Stand) -> None:
    reader, writer = await stand.connect()
    writer.write(framed(RTP) * (BAD_FRAMES_MAX + 1))
    assert await is_closed(reader)
    assert stand.counters.strangers == BAD_FRAMES_MAX + 1


async def test_connection_that_guesses_passwords_is_closed(stand: Stand) -> None:
    reader, writer = await stand.connect()
    writer.write(framed(b"\x00\x01" + bytes(18)) * (BAD_FRAMES_MAX + 1))
    assert await is_closed(reader)


async def test_owner_learns_that_the_connection_ended(stand: Stand) -> None:
    _, writer, pair = await stand.checked()
    writer.close()
    assert await eventually(lambda: stand.taker.gone) == [pair]
    assert not pair.send(RTCP)


@pytest.mark.parametrize(
    "stand",
    [
        TcpLimits(connections=3),
        TcpLimits(unchecked=3),
        TcpLimits(unchecked_per_address=3),
    ],
    ids=["in all", "unchecked", "of one address"],
    indirect=True,
)
async def test_connection_beyond_a_bound_is_closed_at_once(stand: Stand) -> None:
    readers = [(await stand.connect())[0] for _ in range(3)]
    assert await eventually(lambda: len(stand.port) == 3)
    more, _ = await stand.connect()
    assert await is_closed(more)
    assert len(stand.port) == 3
    assert stand.counters.tcp_refused == 1
    assert not any(reader.at_eof() for reader in readers)


@pytest.mark.parametrize("stand", [TcpLimits(unchecked_per_address=1)], indirect=True)
async def test_checked_connections_do_not_count_against_their_address(stand: Stand) -> None:
    for _ in range(5):
        await stand.checked()
    assert len(stand.port) == 5
    assert stand.counters.tcp_refused == 0


async def fill(pair: MuxPair, packet: bytes) -> int:
    """Send until no more is taken; returns how many were."""
    for count in range(100_000):
        if not pair.send(packet):
            return count
        if count % 16 == 0:
            await asyncio.sleep(0)
    raise AssertionError("the queue has no end")


async def test_full_queue_drops_rtp_and_takes_rtcp_until_it_drains(stand: Stand) -> None:
    """What the owner begins anew with, when it is told, is the first that goes again."""
    reader, _, pair = await stand.checked()
    stand.taker.begins_with = KEYFRAME
    taken = await fill(pair, RTP)
    assert pair.overflowed
    assert taken * len(RTP) < QUEUE_BYTES_MAX + (16 << 20), "what the kernel holds is bounded, too"
    assert pair.send(RTCP), "RTCP still goes"
    assert not pair.send(RTP)
    got = bytearray()
    while stand.taker.writables == 0:
        got += await asyncio.wait_for(reader.read(1 << 16), 10.0)
    assert not pair.overflowed
    assert pair.send(RTP)
    whole = framed(RTP) * taken + framed(RTCP) + framed(KEYFRAME) + framed(RTP)
    while len(got) < len(whole):
        got += await asyncio.wait_for(reader.read(1 << 16), 10.0)
    assert bytes(got) == whole, "frames are whole, and in order"


async def test_queue_that_nobody_reads_is_cut_in_the_end(stand: Stand) -> None:
    _, _, pair = await stand.checked()
    await fill(pair, RTP)
    await fill(pair, RTCP)
    assert await eventually(lambda: stand.taker.gone) == [pair]


async def test_released_connection_whose_end_nobody_reads_is_cut(stand: Stand) -> None:
    _, _, pair = await stand.checked()
    await fill(pair, RTP)
    pair.release()
    stand.port.sweep(CLOSING_S - 0.1)
    assert len(stand.port) == 1
    stand.port.sweep(CLOSING_S)
    assert await eventually(lambda: len(stand.port) == 0)


async def test_released_connection_sends_what_waits_first(stand: Stand) -> None:
    reader, _, pair = await stand.checked()
    pair.send(RTCP)
    pair.release()
    assert await asyncio.wait_for(reader.read(), 10.0) == framed(RTCP)
    assert stand.taker.gone == []
