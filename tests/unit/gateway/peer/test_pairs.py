"""Which way media go: after checks, nominations, and connections that end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from pylibsrtp import Policy
from tests.harness.eventually import eventually
from tests.harness.webrtc_client import FramedRelay
from tests.unit.gateway.peer.conftest import MovedClock
from tests.unit.gateway.peer.probe import Probe, check
from tests.unit.gateway.peer.test_peer import REPORT, joined
from tests.unit.gateway.test_aiortc_private import RTP, Client

from callboard.gateway.ice.agent import STALE_S
from callboard.gateway.peer.peer import BrowserPeer
from callboard.gateway.peer.transports import MediaTransports
from callboard.gateway.ports import Address, Pair

CLIENT_HELLO = bytes([22, 254, 253]) + bytes(8) + (4).to_bytes(2, "big") + b"hell"


@pytest.fixture
async def probe(transports: MediaTransports) -> AsyncIterator[Probe]:
    """A socket beside the client's."""
    opened = await Probe.open(transports.port)
    yield opened
    await opened.close()


async def test_media_follow_a_new_nomination(transports: MediaTransports, probe: Probe) -> None:
    async with joined(transports) as both:
        probe.send(check(both.peer.ufrag, both.peer.password))
        assert await eventually(lambda: probe.answers)
        assert both.moved == []
        probe.send(check(both.peer.ufrag, both.peer.password, nominate=True))
        assert await eventually(lambda: both.moved)
        assert both.moved == [both.peer.pair]
        assert both.peer.pair.address == Address("127.0.0.1", probe.port)
        both.peer.send_rtcp(REPORT)
        assert await eventually(lambda: probe.media)
        await both.client.check_again(both.peer.ufrag, both.peer.password)
        assert len(both.moved) == 2
        assert both.peer.pair.address.port != probe.port


async def test_pair_with_a_wrong_password_takes_no_media_away(
    transports: MediaTransports, probe: Probe
) -> None:
    async with joined(transports) as both:
        probe.send(check(both.peer.ufrag, "x" * 24, nominate=True))
        assert await eventually(lambda: probe.answers)
        assert probe.answers[0].error_code == 401
        assert both.moved == []
        assert both.peer.pair.address.port != probe.port


async def test_pair_equal_to_another_is_the_same_object(
    transports: MediaTransports, probe: Probe
) -> None:
    async with joined(transports) as both:
        for _ in range(2):
            probe.send(check(both.peer.ufrag, both.peer.password, nominate=True))
        assert await eventually(lambda: len(probe.answers) == 2)
        assert len(both.moved) == 1


async def test_dtls_of_a_stranger_gets_no_answer(transports: MediaTransports, probe: Probe) -> None:
    peer = transports.peer()
    connecting = asyncio.ensure_future(peer.connect(["sha-256 AB"], 5.0))
    for _ in range(3):
        probe.send(CLIENT_HELLO)
    assert await eventually(lambda: transports.counters.strangers == 3)
    assert probe.came == []
    peer.close()
    with pytest.raises(ConnectionError):
        await connecting


async def test_dtls_that_floods_a_peer_is_bounded(
    transports: MediaTransports, probe: Probe
) -> None:
    peer = transports.peer()
    probe.send(check(peer.ufrag, peer.password))
    assert await eventually(lambda: probe.answers)
    for _ in range(100):
        probe.send(CLIENT_HELLO)
    assert await eventually(lambda: transports.counters.dtls_dropped == 100 - 64)
    peer.close()


async def test_address_that_another_peer_has_now_is_lost_to_the_first(
    transports: MediaTransports, probe: Probe
) -> None:
    first, second = transports.peer(), transports.peer()
    probe.send(check(first.ufrag, first.password, nominate=True))
    assert await eventually(lambda: len(probe.answers) == 1)
    probe.send(check(second.ufrag, second.password, nominate=True))
    assert await eventually(lambda: len(probe.answers) == 2)
    assert transports.pairs == 1
    first.close()
    assert transports.pairs == 1
    second.close()
    assert transports.pairs == 0


async def test_media_go_on_by_udp_when_the_connection_ends(transports: MediaTransports) -> None:
    relay = await FramedRelay.open("127.0.0.1", transports.port)
    async with joined(transports, relay) as both:
        probe = await Probe.open(transports.port)
        probe.send(check(both.peer.ufrag, both.peer.password, nominate=True))
        assert await eventually(lambda: both.moved)
        await both.client.check_again(both.peer.ufrag, both.peer.password)
        assert both.peer.pair.reliable
        await relay.close()
        assert await eventually(lambda: not both.peer.pair.reliable)
        assert both.peer.pair.address.port == probe.port
        await probe.close()


async def test_nominated_pair_without_checks_gives_way_to_one_that_has_some(
    transports: MediaTransports, clock: MovedClock, probe: Probe
) -> None:
    async with joined(transports) as both:
        first = both.peer.pair
        probe.send(check(both.peer.ufrag, both.peer.password, nominate=True))
        assert await eventually(lambda: both.moved)
        clock.ahead_s += STALE_S + 0.1
        await both.client.check_again(both.peer.ufrag, both.peer.password, nominate=False)
        assert both.peer.pair is first


async def test_role_conflict_is_answered(transports: MediaTransports, probe: Probe) -> None:
    peer = transports.peer()
    probe.send(check(peer.ufrag, peer.password, controlled=True, nominate=True))
    assert await eventually(lambda: probe.answers)
    assert probe.answers[0].error_code == 487
    assert transports.pairs == 0
    peer.close()


async def shake_hands(client: Client, probe: Probe) -> None:
    """Carry the client's flights to the port, and back."""
    client.go_on()
    taken = 0
    while not client.done:
        for record in client.flight():
            probe.send(record)
        come = await eventually(lambda: probe.media[taken:])  # noqa: B023 - awaited at once
        taken += len(come)
        for datagram in come:
            client.take(datagram)


class Shaken:
    """A peer whose client has done DTLS by a pair that passed a check, and nominated none."""

    def __init__(self, peer: BrowserPeer, client: Client, connecting: asyncio.Task[None]) -> None:
        self.peer = peer
        self.client = client
        self.connecting = connecting
        self.moved: list[Pair] = []
        self.closed: list[str] = []
        peer.on_pair = self.moved.append
        peer.on_closed = self.closed.append


@pytest.fixture
async def shaken(transports: MediaTransports, probe: Probe) -> AsyncIterator[Shaken]:
    """By the probe."""
    peer, client = transports.peer(), Client()
    connecting = asyncio.ensure_future(peer.connect([client.fingerprint], 20.0))
    both = Shaken(peer, client, connecting)
    probe.send(check(peer.ufrag, peer.password))
    assert await eventually(lambda: probe.answers)
    await shake_hands(client, probe)
    yield both
    peer.close()
    connecting.cancel()
    await asyncio.gather(connecting, return_exceptions=True)


async def test_handshake_does_not_wait_for_the_nomination_but_media_do(
    shaken: Shaken, probe: Probe
) -> None:
    told = len(probe.media)
    probe.send(check(shaken.peer.ufrag, shaken.peer.password))
    assert await eventually(lambda: len(probe.answers) == 2)
    assert not shaken.connecting.done()
    shaken.peer.send_rtcp(REPORT)
    with pytest.raises(ConnectionError):
        _ = shaken.peer.pair
    probe.send(check(shaken.peer.ufrag, shaken.peer.password, nominate=True))
    await shaken.connecting
    assert shaken.peer.pair.address.port == probe.port
    assert shaken.moved == []
    assert len(probe.media) == told
    shaken.peer.send_rtcp(REPORT)
    assert await eventually(lambda: len(probe.media) == told + 1)


async def test_nomination_wins_over_the_pair_of_the_handshake(
    transports: MediaTransports, shaken: Shaken, probe: Probe
) -> None:
    other = await Probe.open(transports.port)
    other.send(check(shaken.peer.ufrag, shaken.peer.password, nominate=True))
    await shaken.connecting
    assert shaken.peer.pair.address.port == other.port
    probe.send(CLIENT_HELLO)
    shaken.peer.send_rtcp(REPORT)
    assert await eventually(lambda: other.media)
    assert shaken.peer.pair.address.port == other.port, "DTLS by a pair takes nothing away"
    assert shaken.moved == []
    await other.close()


async def test_media_that_come_before_the_nomination_are_heard(
    shaken: Shaken, probe: Probe
) -> None:
    heard: list[bytes] = []
    shaken.peer.on_rtp = lambda data, now: heard.append(data)
    probe.send(shaken.client.session(Policy.SSRC_ANY_OUTBOUND).protect(RTP))
    assert await eventually(lambda: heard) == [RTP]
    assert not shaken.connecting.done()


async def test_good_bye_before_the_nomination_ends_connect_alone(
    transports: MediaTransports, shaken: Shaken, probe: Probe
) -> None:
    shaken.client.ssl.shutdown()
    for record in shaken.client.flight():
        probe.send(record)
    with pytest.raises(ConnectionError, match="closed before"):
        await shaken.connecting
    assert shaken.closed == []
    assert len(transports) == 0


async def test_peer_that_nominates_nothing_is_forgotten(
    transports: MediaTransports, probe: Probe
) -> None:
    peer, client = transports.peer(), Client()
    connecting = asyncio.ensure_future(peer.connect([client.fingerprint], 1.0))
    probe.send(check(peer.ufrag, peer.password))
    assert await eventually(lambda: probe.answers)
    await shake_hands(client, probe)
    with pytest.raises(TimeoutError, match="no nomination within 1 s"):
        await connecting
    assert len(transports) == 0
    assert transports.pairs == 0
