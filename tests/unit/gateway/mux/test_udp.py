"""The UDP side of the media port."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
from tests.harness.eventually import eventually

from callboard.gateway.mux.counters import MediaCounters
from callboard.gateway.mux.kinds import Kind
from callboard.gateway.mux.pairs import MuxPair
from callboard.gateway.mux.udp import BATCH_MAX, UdpPort, address_of
from callboard.gateway.ports import Address

RTP = bytes([0x80, 96]) + bytes(20)
STUN = bytes(20)


class Taker:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.packets: list[tuple[Kind, bytes, float]] = []
        self.gone: list[MuxPair] = []

    def received(self, kind: Kind, packet: bytes, pair: MuxPair, now: float) -> None:
        self.packets.append((kind, packet, now))

    def lost(self, pair: MuxPair) -> None:
        self.gone.append(pair)

    def writable(self, pair: MuxPair) -> None:
        raise AssertionError("UDP has no queue of ours")


class Stand:
    """A port, and a socket that sends to it."""

    def __init__(self) -> None:
        self.counters = MediaCounters()
        self.stun: list[tuple[bytes, MuxPair]] = []
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        self.port = UdpPort(
            sock, lambda data, pair: self.stun.append((data, pair)), self.counters, lambda: 42.0
        )
        self.client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.client.connect(sock.getsockname())
        self.client.setblocking(False)
        self.port.open()


@pytest.fixture
async def stand() -> AsyncIterator[Stand]:
    """Open while a test runs."""
    opened = Stand()
    yield opened
    opened.client.close()
    opened.port.close()


async def test_packet_of_a_stranger_is_counted_and_dropped(stand: Stand) -> None:
    stand.client.send(RTP)
    stand.client.send(b"\x46nothing")
    assert await eventually(lambda: stand.counters.datagrams == 2)
    assert stand.counters.strangers == 1
    assert stand.counters.malformed == 1
    assert stand.port.pairs == {}


async def test_stun_of_anybody_comes_with_the_way_back(stand: Stand) -> None:
    stand.client.send(STUN)
    assert await eventually(lambda: stand.stun)
    data, pair = stand.stun[0]
    assert data == STUN
    assert pair.address == Address("127.0.0.1", stand.client.getsockname()[1])
    assert stand.port.pairs == {}, "nothing is kept of who showed no password"
    assert pair.send(b"answer")
    assert await eventually(lambda: stand.client.recv(100)) == b"answer"


async def test_kept_pair_gives_its_packets_to_its_owner(stand: Stand) -> None:
    taker = Taker()
    stand.client.send(STUN)
    assert await eventually(lambda: stand.stun)
    pair = stand.stun[0][1]
    pair.keep(taker)
    stand.client.send(RTP)
    assert await eventually(lambda: taker.packets) == [(Kind.RTP, RTP, 42.0)]
    stand.client.send(STUN)
    assert await eventually(lambda: len(stand.stun) == 2)
    assert stand.stun[1][1] is pair
    pair.release()
    stand.client.send(RTP)
    assert await eventually(lambda: stand.counters.strangers == 1)


async def test_pair_that_changes_hands_is_lost_to_the_former_owner(stand: Stand) -> None:
    first, second = Taker(), Taker()
    stand.client.send(STUN)
    assert await eventually(lambda: stand.stun)
    pair = stand.stun[0][1]
    pair.keep(first)
    pair.keep(first)
    assert first.gone == []
    pair.keep(second)
    assert first.gone == [pair]
    assert second.gone == []


async def test_failing_owner_does_not_stop_the_port(
    stand: Stand, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(Taker):
        def received(self, kind: Kind, packet: bytes, pair: MuxPair, now: float) -> None:
            raise RuntimeError("a defect")

    stand.client.send(STUN)
    assert await eventually(lambda: stand.stun)
    stand.stun[0][1].keep(Failing())
    for _ in range(5):
        stand.client.send(RTP)
    stand.client.send(STUN)
    assert await eventually(lambda: len(stand.stun) == 2)
    assert caplog.text.count("could not be taken") == 1, "who sends it fills no disk"
    assert "a defect" in caplog.text


async def test_flood_leaves_the_loop_its_turns(stand: Stand) -> None:
    for _ in range(3 * BATCH_MAX):
        stand.client.send(STUN)
    seen: list[int] = []
    while not seen or seen[-1] < 3 * BATCH_MAX:
        await asyncio.sleep(0)
        seen.append(len(stand.stun))
    steps = [after - before for before, after in zip([0, *seen], seen, strict=False)]
    assert max(steps) <= BATCH_MAX


async def test_datagram_that_cannot_be_sent_is_counted(stand: Stand) -> None:
    assert not stand.port.send(bytes(70_000), ("127.0.0.1", 9))
    assert stand.counters.unsent == 1


async def test_receive_buffer_is_as_large_as_the_kernel_lets_it(stand: Stand) -> None:
    plain = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    default = plain.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    plain.close()
    assert stand.port.receive_buffer_bytes >= default


def test_addresses_of_both_families_are_plain() -> None:
    assert address_of(("192.0.2.1", 5)) == Address("192.0.2.1", 5)
    assert address_of(("::ffff:192.0.2.1", 5, 0, 0)) == Address("192.0.2.1", 5)
    assert address_of(("2001:db8::1", 5, 0, 0)) == Address("2001:db8::1", 5)
    assert address_of(("fe80::1", 5, 0, 3)) == Address("fe80::1%3", 5)
    assert address_of(("fe80::1%eth0", 5, 0, 3)) == Address("fe80::1%3", 5)
