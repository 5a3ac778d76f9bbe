"""The media port as sessions see it."""

from __future__ import annotations

import asyncio
import random

import pytest
import uvloop
from aioice import stun
from tests.harness.eventually import eventually
from tests.harness.webrtc_client import BareClient, FramedRelay
from tests.unit.gateway.peer.probe import Probe, check
from tests.unit.gateway.peer.test_peer import REPORT, joined

from callboard.gateway.peer.transports import MediaTransports


def question(**attributes: object) -> bytes:
    """A Binding request to a STUN server."""
    message = stun.Message(
        stun.Method.BINDING, stun.Class.REQUEST, attributes={**attributes} if attributes else None
    )
    message.add_fingerprint()
    return bytes(message)


async def test_port_is_one_for_udp_and_tcp(transports: MediaTransports) -> None:
    assert transports.socket.getsockname() == ("127.0.0.1", transports.port)
    _, writer = await asyncio.open_connection("127.0.0.1", transports.port)
    assert await eventually(lambda: transports.connections == 1)
    writer.close()
    await writer.wait_closed()
    assert await eventually(lambda: transports.connections == 0)


async def test_candidates_are_of_udp_and_tcp(transports: MediaTransports) -> None:
    assert transports.candidates(loopback=False) == ()
    udp, tcp = transports.candidates(loopback=True)
    assert f"udp 2130706431 127.0.0.1 {transports.port} typ host" in udp
    assert f"127.0.0.1 {transports.port} typ host tcptype passive" in tcp


async def test_stun_is_answered_to_anybody(transports: MediaTransports) -> None:
    probe = await Probe.open(transports.port)
    probe.send(question())
    (answer,) = await eventually(lambda: probe.answers)
    assert answer.attributes["XOR-MAPPED-ADDRESS"] == ("127.0.0.1", probe.port)
    assert transports.pairs == 0
    await probe.close()


async def test_username_that_is_nobodys_is_unauthenticated(transports: MediaTransports) -> None:
    probe = await Probe.open(transports.port)
    probe.send(check("nobody", "x" * 24))
    (answer,) = await eventually(lambda: probe.answers)
    assert answer.error_code == 401
    probe.send(question(USERNAME="nobody:them"))
    assert await eventually(lambda: len(probe.answers) == 2)
    assert probe.answers[1].error_code == 400
    await probe.close()


async def test_closed_peer_is_nobody(transports: MediaTransports) -> None:
    peer = transports.peer()
    ufrag, password = peer.ufrag, peer.password
    peer.restart()
    newer = peer.ufrag, peer.password
    peer.close()
    peer.close()
    probe = await Probe.open(transports.port)
    probe.send(check(ufrag, password))
    probe.send(check(*newer))
    assert await eventually(lambda: len(probe.answers) == 2)
    assert [answer.error_code for answer in probe.answers] == [401, 401]
    with pytest.raises(ConnectionError):
        peer.restart()
    await probe.close()


async def test_peers_have_credentials_of_the_given_source() -> None:
    made = []
    for _ in range(2):
        transports = MediaTransports("127.0.0.1", 0, rng=random.Random(5))
        made.append((transports.peer().ufrag, transports.peer().password))
        await transports.stop()
    assert made[0] == made[1]


async def test_ufrags_of_two_peers_differ_even_if_the_source_repeats_itself() -> None:
    class Repeating(random.Random):
        drawn = 0

        def choice(self, seq):  # type: ignore[no-untyped-def] # as typeshed has it
            Repeating.drawn += 1
            return seq[0] if Repeating.drawn <= 64 else super().choice(seq)

    transports = MediaTransports("127.0.0.1", 0, rng=Repeating(1))
    assert transports.peer().ufrag == "AAAAAAAA"
    assert transports.peer().ufrag != "AAAAAAAA"
    await transports.stop()


async def test_port_in_use_is_an_error(transports: MediaTransports) -> None:
    with pytest.raises(OSError, match="in use"):
        MediaTransports("127.0.0.1", transports.port)


async def test_word_that_is_no_entry_is_an_error() -> None:
    with pytest.raises(ValueError, match="stun:HOST:PORT"):
        MediaTransports("127.0.0.1", 0, ["http://x"])


async def test_ipv6_port_takes_both_families() -> None:
    transports = MediaTransports("::", 0)
    await transports.start()
    for host in ("127.0.0.1", "::1"):
        probe = await Probe.open(transports.port, host)
        probe.send(question())
        (answer,) = await eventually(lambda: probe.answers)  # noqa: B023 - awaited at once
        assert answer.attributes["XOR-MAPPED-ADDRESS"] == (host, probe.port)
        await probe.close()
    async with joined(transports) as both:
        assert both.peer.pair.address.host == "127.0.0.1"
        both.peer.send_rtcp(REPORT)
        assert await eventually(lambda: both.client.rtcp)
    await transports.stop()


async def test_stop_says_good_bye_to_all() -> None:
    transports = MediaTransports("127.0.0.1", 0)
    await transports.start()
    async with joined(transports) as both:
        await transports.stop()
        assert await eventually(lambda: both.client.dtls.state == "closed")
        assert both.closed == []


async def test_joins_and_leaves_leave_nothing_behind(transports: MediaTransports) -> None:
    for _ in range(5):
        async with joined(transports):
            pass
    assert len(transports) == 0
    assert transports.pairs == 0
    assert transports._by_ufrag == {}


def test_uvloop_carries_both_ways() -> None:
    async def both_ways() -> None:
        transports = MediaTransports("127.0.0.1", 0)
        await transports.start()
        async with joined(transports) as by_udp:
            by_udp.peer.send_rtcp(REPORT)
            assert await eventually(lambda: by_udp.client.rtcp)
        relay = await FramedRelay.open("127.0.0.1", transports.port)
        async with joined(transports, relay) as by_tcp:
            assert by_tcp.peer.pair.reliable
            by_tcp.peer.send_rtcp(REPORT)
            await by_tcp.client.send_pli(3)
            assert await eventually(lambda: by_tcp.client.rtcp and by_tcp.rtcp)
            while by_tcp.peer.pair.send(bytes([0x80, 96]) + bytes(1200)):
                pass
        await relay.close()
        await transports.stop()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(both_ways())


@pytest.mark.slow
async def test_client_of_another_peer_cannot_join(transports: MediaTransports) -> None:
    peer, client = transports.peer(), await BareClient.open()
    other = transports.peer()
    with pytest.raises((ConnectionError, TimeoutError)):
        await client.check(
            transports.candidates(loopback=True), peer.ufrag, other.password, within_s=1.0
        )
    assert transports.counters.checks == 0
    peer.close()
    other.close()
    await client.close()
