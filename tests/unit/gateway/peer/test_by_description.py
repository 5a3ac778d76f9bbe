"""A whole RTCPeerConnection at the other end: what tests of the gateway are made with."""

from __future__ import annotations

import asyncio

import pytest
from tests.harness.eventually import eventually
from tests.harness.webrtc_client import FramedRelay, WebRtcClient

from callboard.gateway.fanout.plain import PlainFanout
from callboard.gateway.peer.peer import BrowserPeer
from callboard.gateway.peer.transports import MediaTransports
from callboard.gateway.sdp.offers import parse
from callboard.gateway.stream.packet import Packet

SSRC = 0x1234
PACKETS = 300
BURST = 50
"""As many as the client's socket has room for."""


def answer_to(offer: str, peer: BrowserPeer, transports: MediaTransports, way: str) -> str:
    """Of one video section, VP8."""
    return "\r\n".join(
        [
            "v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=-", "t=0 0", "a=ice-lite", "a=group:BUNDLE 0",
            "m=video 9 UDP/TLS/RTP/SAVPF 97", "c=IN IP4 127.0.0.1", "a=mid:0", f"a={way}",
            "a=rtcp-mux", f"a=ice-ufrag:{peer.ufrag}", f"a=ice-pwd:{peer.password}",
            f"a=fingerprint:{peer.fingerprint}", "a=setup:passive", "a=rtpmap:97 VP8/90000",
            "a=rtcp-fb:97 nack pli",
            *(f"a={line}" for line in transports.candidates(loopback=True)),
            "a=end-of-candidates", "",
        ]
    )  # fmt: skip


@pytest.mark.parametrize("by_tcp", [False, True], ids=["udp", "tcp"])
async def test_viewer_gets_each_packet_of_the_fan_out(
    transports: MediaTransports, by_tcp: bool
) -> None:
    client = await WebRtcClient.open(video="recvonly")
    relay = await FramedRelay.open("127.0.0.1", transports.port) if by_tcp else None
    peer = transports.peer()
    fingerprints = parse(client.offer.encode()).sections[0].fingerprints
    connecting = asyncio.ensure_future(peer.connect(fingerprints, 20.0))
    await client.accept(answer_to(client.offer, peer, transports, "sendonly"), relay=relay)
    await connecting
    await client.connected()
    assert peer.pair.reliable is by_tcp

    fanout = PlainFanout(transports.socket)
    leg = fanout.leg(peer.srtp, peer.pair, ssrc=SSRC, payload_type=97, sequence=65_400, timestamp=0)
    for first in range(0, PACKETS, BURST):
        for number in range(first, first + BURST):
            leg.send([Packet(number, number * 3000, True, b"\x10" + bytes(900))])
        come = first + BURST
        assert await eventually(lambda: len(client.received[SSRC].sequences) == come)  # noqa: B023 - awaited at once
    assert client.received[SSRC].missing == set()
    assert client.received[SSRC].sequences[-1] == (65_400 + PACKETS - 1) & 0xFFFF

    heard: list[bytes] = []
    peer.on_rtcp = lambda data, now: heard.append(data)
    await client.send_pli(SSRC)
    await client.send_nack(SSRC, [1, 2, 3])
    await client.send_rr(SSRC, lost=0.5)
    wanted = {(206, 1), (205, 1), (201, 1)}
    assert await eventually(lambda: wanted <= {(data[1], data[0] & 31) for data in heard})
    leg.close()
    peer.close()
    await client.close()
    if relay is not None:
        await relay.close()


async def test_publisher_is_heard(transports: MediaTransports) -> None:
    client = await WebRtcClient.open(video="sendonly")
    peer = transports.peer()
    heard: list[bytes] = []
    peer.on_rtp = lambda data, now: heard.append(data)
    fingerprints = parse(client.offer.encode()).sections[0].fingerprints
    connecting = asyncio.ensure_future(peer.connect(fingerprints, 20.0))
    await client.accept(answer_to(client.offer, peer, transports, "recvonly"))
    await connecting
    await client.connected()
    ssrc = client.ssrc_of_sender("video")
    for number in range(10):
        await client.send_rtp(
            b"\x10abc", ssrc=ssrc, payload_type=97, sequence=number, timestamp=3000 * number
        )
    assert await eventually(lambda: len(heard) == 10)
    assert {data[8:12] for data in heard} == {ssrc.to_bytes(4, "big")}
    assert heard[3][12:] == b"\x10abc"
    peer.close()
    await client.close()
