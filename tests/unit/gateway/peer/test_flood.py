"""Whatever comes to the media port: it lives, answers its peers, and keeps nothing of it.

100,000 packets; ten times as many with BUDGET=ci.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.harness.eventually import eventually
from tests.harness.webrtc_client import FramedRelay
from tests.unit.gateway.peer.probe import Probe, check
from tests.unit.gateway.peer.test_peer import Joined, joined

from callboard.gateway.mux.framing import framed
from callboard.gateway.mux.tcp import TcpLimits
from callboard.gateway.peer.transports import MediaTransports

PACKETS = 1_000_000 if os.environ.get("BUDGET") == "ci" else 100_000
BURST = 64
"""Sent before the port has its turn: the socket's queue holds more."""
MEMORY_BYTES_MAX = 24 << 20
"""By which the process may grow meanwhile."""
FIRST_BYTES = (0, 1, 20, 22, 23, 63, 64, 127, 128, 129, 144, 191, 192, 255)


def resident_bytes() -> int:
    """Of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def samples(both: Joined, password: str) -> list[bytes]:
    """Packets that are nearly genuine."""
    ufrag = both.peer.ufrag
    hello = bytes([22, 254, 253]) + bytes(8) + (60).to_bytes(2, "big") + bytes([1]) + bytes(59)
    return [
        check(ufrag, password, nominate=True),
        check(ufrag, password, controlled=True),
        check("somebody", password),
        hello,
        bytes([0x80, 96]) + bytes(60),
        bytes([0x80, 200, 0, 6]) + bytes(40),
    ]


def packets_of(rng: random.Random, known: list[bytes]) -> Callable[[], bytes]:
    """Noise, cut and changed packets."""

    def mutated() -> bytes:
        packet = bytearray(rng.choice(known))
        for _ in range(rng.randrange(1, 4)):
            packet[rng.randrange(len(packet))] = rng.randrange(256)
        return bytes(packet[: rng.randrange(1, len(packet) + 1)] if rng.random() < 0.3 else packet)

    def noise() -> bytes:
        return bytes([rng.choice(FIRST_BYTES)]) + rng.randbytes(rng.choice((0, 7, 19, 60, 400)))

    return lambda: mutated() if rng.random() < 0.6 else noise()


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_port_survives_any_packets_of_strangers_and_of_a_peer(
    transports: MediaTransports,
) -> None:
    rng = random.Random(8189)
    async with joined(transports) as both:
        strange = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        strange.setblocking(False)
        strange.connect(("127.0.0.1", transports.port))
        peers_own = both.client.ice._connection._nominated[1].protocol.transport
        where = ("127.0.0.1", transports.port)
        strangers = packets_of(rng, samples(both, "x" * 24))
        peers = packets_of(rng, samples(both, both.peer.password))
        before = 0
        for burst in range(PACKETS // BURST):
            for number in range(BURST):
                if number % 4:
                    try:
                        strange.send(strangers())
                    except OSError:  # its own queue is full of answers, or of packets
                        continue
                else:
                    peers_own.sendto(peers(), where)
            await asyncio.sleep(0)
            if burst == PACKETS // BURST // 10:
                before = resident_bytes()
        assert await eventually(lambda: transports.counters.datagrams > 0.9 * PACKETS)
        strange.close()
        assert resident_bytes() - before < MEMORY_BYTES_MAX
        assert transports.pairs == 1
        assert len(transports) == 1
        counters = transports.counters
        told = (counters.strangers, counters.malformed, counters.srtp_forged)
        assert all(count > PACKETS // 100 for count in told), told

        await both.client.check_again(both.peer.ufrag, both.peer.password)
        await both.client.send_pli(1)
        assert await eventually(lambda: both.rtcp)
        assert both.closed == []


@pytest.mark.slow
async def test_listener_survives_any_bytes() -> None:
    limits = TcpLimits(connections=16, unchecked=8, unchecked_per_address=8)
    transports = MediaTransports("127.0.0.1", 0, tcp_limits=limits)
    await transports.start()
    rng = random.Random(6544)
    for _ in range(PACKETS // 500):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", transports.port)
            for _ in range(rng.randrange(1, 4)):
                data = rng.randbytes(rng.randrange(1, 3000))
                writer.write(framed(data[:2000]) if rng.random() < 0.5 else data)
            await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()
        assert transports.connections <= 8
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)
    assert await eventually(lambda: transports.connections == 0)
    relay = await FramedRelay.open("127.0.0.1", transports.port)
    async with joined(transports, relay) as both:
        assert both.peer.pair.reliable, "it still takes who behaves"
    await relay.close()
    await transports.stop()


async def test_unauthenticated_answers_are_bounded(transports: MediaTransports) -> None:
    probe = await Probe.open(transports.port)
    for number in range(2000):
        probe.send(check("somebody", "x" * 24))
        if number % 50 == 0:
            await asyncio.sleep(0)
    assert await eventually(lambda: transports.counters.refused_checks == 2000)
    assert transports.counters.unanswered > 0
    assert len(probe.came) <= 2000 - transports.counters.unanswered
    await probe.close()
