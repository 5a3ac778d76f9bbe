"""The transport to one peer, with an aiortc client at the other end, on real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiortc.rtp import RtcpPsfbPacket, RtcpSdesPacket, RtcpSourceInfo
from tests.harness.eventually import eventually
from tests.harness.webrtc_client import BareClient, FramedRelay
from tests.unit.gateway.peer.conftest import MovedClock
from tests.unit.gateway.peer.probe import Probe, check

from callboard.gateway.peer.peer import BrowserPeer
from callboard.gateway.peer.transports import MediaTransports
from callboard.gateway.ports import Pair

WITHIN_S = 20.0
REPORT = bytes(RtcpSdesPacket(chunks=[RtcpSourceInfo(ssrc=7, items=[(1, b"callboard")])]))


class Joined:
    """A peer and its client, connected; what was heard of both."""

    def __init__(self, peer: BrowserPeer, client: BareClient) -> None:
        self.peer = peer
        self.client = client
        self.closed: list[str] = []
        self.moved: list[Pair] = []
        self.rtcp: list[bytes] = []
        self.rtp: list[bytes] = []
        peer.on_closed = self.closed.append
        peer.on_pair = self.moved.append
        peer.on_rtcp = lambda data, now: self.rtcp.append(data)
        peer.on_rtp = lambda data, now: self.rtp.append(data)


@asynccontextmanager
async def joined(
    transports: MediaTransports, relay: FramedRelay | None = None
) -> AsyncIterator[Joined]:
    """Connect an aiortc client, by UDP or by a relay."""
    peer, client = transports.peer(), await BareClient.open()
    pair = Joined(peer, client)
    connecting = asyncio.ensure_future(peer.connect(client.fingerprints[:1], WITHIN_S))
    candidates = transports.candidates(loopback=True) if relay is None else (relay.candidate,)
    try:
        await client.check(candidates, peer.ufrag, peer.password)
        await client.handshake(peer.fingerprint)
        await connecting
        yield pair
    finally:
        peer.close()
        await client.close()


async def test_client_connects_over_udp_and_packets_go_both_ways(
    transports: MediaTransports,
) -> None:
    async with joined(transports) as both:
        assert not both.peer.pair.reliable
        assert both.peer.profile == "SRTP_AEAD_AES_256_GCM"
        both.peer.send_rtcp(REPORT)
        await both.client.send_pli(1234)
        await both.client.send_rtp(b"payload", ssrc=9, payload_type=96, sequence=65535, timestamp=5)
        assert await eventually(lambda: both.client.rtcp and both.rtcp and both.rtp)
        pli = RtcpPsfbPacket.parse(both.rtcp[0][4:], 1)
        assert pli.media_ssrc == 1234
        assert both.rtp[0][12:] == b"payload"


async def test_client_connects_over_tcp_and_packets_go_both_ways(
    transports: MediaTransports,
) -> None:
    relay = await FramedRelay.open("127.0.0.1", transports.port)
    async with joined(transports, relay) as both:
        assert both.peer.pair.reliable
        both.peer.send_rtcp(REPORT)
        await both.client.send_pli(1234)
        assert await eventually(lambda: both.client.rtcp and both.rtcp)
    await relay.close()


async def test_session_learns_when_a_connection_that_was_full_has_room(
    transports: MediaTransports,
) -> None:
    relay = await FramedRelay.open("127.0.0.1", transports.port)
    async with joined(transports, relay) as both:
        room: list[Pair] = []
        both.peer.on_writable = room.append
        relay.stall()
        packet = bytes([0x80, 96]) + bytes(1200)
        assert await eventually(lambda: not both.peer.pair.send(packet), interval_s=0)
        assert room == []
        relay.flow()
        assert await eventually(lambda: room) == [both.peer.pair]
        assert both.peer.pair.send(packet)
    await relay.close()


async def test_peer_says_good_bye_when_it_is_closed(transports: MediaTransports) -> None:
    async with joined(transports) as both:
        both.peer.close()
        assert await eventually(lambda: both.client.dtls.state == "closed")
        assert both.closed == []
        assert len(transports) == 0
        assert transports.pairs == 0


async def test_good_bye_of_the_client_is_told_once(transports: MediaTransports) -> None:
    async with joined(transports) as both:
        await both.client.dtls.stop()
        assert await eventually(lambda: both.closed) == ["closed by the peer"]
        both.peer.close()
        assert len(both.closed) == 1
        assert len(transports) == 0


async def test_client_that_vanishes_is_gone_after_thirty_seconds(
    transports: MediaTransports, clock: MovedClock
) -> None:
    async with joined(transports) as both:
        await both.client.ice.stop()
        clock.ahead_s += 29.0
        both.peer.sweep(clock())
        assert both.closed == []
        clock.ahead_s += 1.5
        assert await eventually(lambda: both.closed) == ["silent for 30 s"]
        assert len(transports) == 0
        assert transports.counters.peers_gone == 1


async def test_wrong_fingerprint_is_refused_and_the_peer_forgotten(
    transports: MediaTransports,
) -> None:
    peer, client = transports.peer(), await BareClient.open()
    wrong = "sha-256 " + ":".join(["AB"] * 32)
    connecting = asyncio.ensure_future(peer.connect([wrong], WITHIN_S))
    await client.check(transports.candidates(loopback=True), peer.ufrag, peer.password)
    await client.handshake(peer.fingerprint)
    with pytest.raises(ConnectionError, match="none of the fingerprints"):
        await connecting
    assert len(transports) == 0
    assert await eventually(lambda: client.dtls.state == "closed")
    await client.close()


async def test_one_right_fingerprint_among_others_is_enough(transports: MediaTransports) -> None:
    peer, client = transports.peer(), await BareClient.open()
    wrong = "sha-256 " + ":".join(["AB"] * 32)
    some = [wrong, client.fingerprints[2]]
    connecting = asyncio.ensure_future(peer.connect(some, WITHIN_S))
    await client.check(transports.candidates(loopback=True), peer.ufrag, peer.password)
    await client.handshake(peer.fingerprint)
    await connecting
    peer.close()
    await client.close()


async def test_peer_without_fingerprint_is_refused(transports: MediaTransports) -> None:
    peer, client = transports.peer(), await BareClient.open()
    connecting = asyncio.ensure_future(peer.connect([], WITHIN_S))
    await client.check(transports.candidates(loopback=True), peer.ufrag, peer.password)
    with pytest.raises(ConnectionError, match="no fingerprint"):
        await connecting
    await client.close()


@pytest.mark.slow
async def test_wrong_password_is_never_valid(transports: MediaTransports) -> None:
    peer, client = transports.peer(), await BareClient.open()
    connecting = asyncio.ensure_future(peer.connect(client.fingerprints, 1.0))
    with pytest.raises((ConnectionError, TimeoutError)):
        await client.check(transports.candidates(loopback=True), peer.ufrag, "x" * 24, within_s=1.5)
    with pytest.raises(TimeoutError, match="no valid check within 1 s"):
        await connecting
    assert transports.counters.checks == 0
    assert transports.counters.refused_checks > 0
    assert transports.pairs == 0
    await client.close()


@pytest.mark.slow
async def test_peer_whose_handshake_does_not_finish_is_forgotten(
    transports: MediaTransports,
) -> None:
    peer, client = transports.peer(), await BareClient.open()
    connecting = asyncio.ensure_future(peer.connect(client.fingerprints, 1.0))
    await client.check(transports.candidates(loopback=True), peer.ufrag, peer.password)
    with pytest.raises(TimeoutError, match="no DTLS handshake within 1 s"):
        await connecting
    assert len(transports) == 0
    assert transports.pairs == 0
    await client.close()


async def test_close_while_connecting_ends_connect(transports: MediaTransports) -> None:
    peer = transports.peer()
    connecting = asyncio.ensure_future(peer.connect(["sha-256 AB"], WITHIN_S))
    await asyncio.sleep(0)
    peer.close()
    with pytest.raises(ConnectionError, match="closed before"):
        await connecting


async def test_restart_keeps_media_and_retires_old_credentials_with_the_first_new_check(
    transports: MediaTransports,
) -> None:
    async with joined(transports) as both:
        old = both.peer.ufrag, both.peer.password
        new = both.peer.restart()
        assert new != old
        assert (both.peer.ufrag, both.peer.password) == new
        await both.client.check_again(*old)
        await both.client.check_again(*new)
        assert list(transports._by_ufrag) == [new[0]], "nothing is left of the old ones"
        probe = await Probe.open(transports.port)
        probe.send(check(*old))
        (answer,) = await eventually(lambda: probe.answers)
        assert answer.error_code == 401
        await probe.close()
        both.peer.send_rtcp(REPORT)
        assert await eventually(lambda: both.client.rtcp)
