"""WHIP (RFC 9725): over HTTP, and what is published is watched at once."""

from __future__ import annotations

import asyncio
import random
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiortc import (
    AudioStreamTrack,
    RTCBundlePolicy,
    RTCConfiguration,
    RTCPeerConnection,
    RTCSessionDescription,
    VideoStreamTrack,
)
from aiortc.rtp import (
    RtcpByePacket,
    RtcpPsfbPacket,
    RtcpReceiverInfo,
    RtcpRrPacket,
    RtcpRtpfbPacket,
    RtcpSenderInfo,
    RtcpSrPacket,
)
from tests.harness.eventually import eventually
from tests.harness.webrtc_client import WebRtcClient, loopback_only
from tests.unit.gateway.http.stand import (
    HEADER_BYTES,
    Reply,
    Stand,
    receiving,
    ssrc_of,
    standing,
    watching,
)
from tests.unit.gateway.sdp.conftest import client_offer
from tests.unit.gateway.stream.encoded import video

from callboard.gateway.http.ice_servers import IceServers
from callboard.gateway.sdp.codecs import VIDEO
from callboard.gateway.session.session import State

SDP = "application/sdp"
FRAGMENT = "application/trickle-ice-sdpfrag"
OBS = client_offer("obs-publisher")
RESTART = "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\nm=audio 9 X 111\r\na=mid:0\r\n"
CANDIDATES = "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=end-of-candidates\r\n"


async def post(stand: Stand, body: bytes = OBS) -> Reply:
    return await stand.ask("POST", "/whip/cam", body, SDP)


async def post_with(stand: Stand, headers: dict[str, str]) -> Reply:
    return await stand.ask("POST", "/whip/cam", OBS, SDP, **headers)


@asynccontextmanager
async def publishing(stand: Stand) -> AsyncIterator[tuple[RTCPeerConnection, Reply]]:
    """A browser, as far as aiortc is one, that publishes picture and sound."""
    servers = RTCConfiguration(iceServers=[], bundlePolicy=RTCBundlePolicy.MAX_BUNDLE)
    connection = RTCPeerConnection(servers)
    try:
        connection.addTransceiver(AudioStreamTrack(), direction="sendonly")
        connection.addTransceiver(VideoStreamTrack(), direction="sendonly")
        offer = await connection.createOffer()
        with loopback_only():
            await connection.setLocalDescription(offer)
        reply = await post(stand, connection.localDescription.sdp.encode())
        assert reply.status == 201, reply.body
        await connection.setRemoteDescription(RTCSessionDescription(reply.text, "answer"))
        yield connection, reply
    finally:
        await connection.close()


class Sender:
    """A publisher of recorded VP8, packet by packet: as one that does not listen would."""

    def __init__(self, client: WebRtcClient, payload_type: int, name: str = "VP8") -> None:
        self.client = client
        self.ssrc = client.ssrc_of_sender("video")
        self._payload_type = payload_type
        self._frames = video(name, size_max=1100).frames
        self._frame = 0
        self.number = random.Random(1).randrange(1 << 16)

    async def frame(self, *, leaves_out: int = -1) -> list[int]:
        """Send one picture; the numbers of what was left out."""
        left = []
        packets = self._frames[self._frame % len(self._frames)].packets
        for at, packet in enumerate(packets):
            if at == leaves_out:
                left.append(self.number % (1 << 16))
            else:
                await self.send(packet, marker=at == len(packets) - 1)
            self.number += 1
        self._frame += 1
        return left

    async def send(self, packet: bytes, *, marker: bool) -> None:
        await self.client.send_rtp(
            packet[HEADER_BYTES:],
            ssrc=self.ssrc,
            payload_type=self._payload_type,
            sequence=self.number,
            timestamp=self._frame * 3600,
            marker=marker,
        )


@asynccontextmanager
async def sending(stand: Stand, codec: str = "VP8") -> AsyncIterator[tuple[Sender, Reply]]:
    """A connected publisher of one codec that is fed by the test."""
    client = await WebRtcClient.open(video="sendonly")
    try:
        offer = client.offer.replace("VP8/", "X/") if codec == "H264" else client.offer
        reply = await post(stand, offer.encode())
        assert reply.status == 201, reply.body
        await client.accept(reply.text)
        await client.connected()
        payload_type = int(reply.text.split("m=video ")[1].split()[2])
        yield Sender(client, payload_type, codec), reply
    finally:
        await client.close()


# ------------------------------------------------------------------ media


async def test_what_is_published_is_watched_at_once() -> None:
    async with standing() as stand, publishing(stand):
        live = stand.streams.find("cam")
        assert live is not None
        assert await eventually(lambda: live.online and live.keyframes > 0)
        async with watching(stand, "cam") as (player, _):
            assert await eventually(
                lambda: player.frames["video"] > 10 and player.frames["audio"] > 10
            )


async def test_a_viewer_who_needs_a_keyframe_has_the_publisher_asked() -> None:
    async with standing() as stand, sending(stand) as (sender, _):
        for _ in range(3):
            await sender.frame()
        live = stand.streams.find("cam")
        assert live is not None and await eventually(lambda: live.online)
        live.want_keyframe(live.tracks["video"], asyncio.get_running_loop().time())
        said = sender.client.rtcp
        assert await eventually(
            lambda: (
                [p.media_ssrc for p in said if isinstance(p, RtcpPsfbPacket) and p.fmt == 1]
                == [sender.ssrc]
            )
        )


async def test_what_a_publisher_sends_before_it_nominates_is_the_streams() -> None:
    """A browser sends as soon as DTLS is through; a wish of that time is not forgotten."""
    async with standing() as stand:
        client = await WebRtcClient.open(video="sendonly")
        reply = await post(stand, client.offer.encode())
        publisher = stand.sessions.publisher(reply.headers["Location"].rpartition("/")[2])
        payload_type = int(reply.text.split("m=video ")[1].split()[2])
        payload = video("VP8", size_max=1100).frames[0].packets[0][HEADER_BYTES:]
        ssrc = client.ssrc_of_sender("video")
        first = struct.pack("!BBHII", 0x80, payload_type, 7, 3600, ssrc) + payload
        live = stand.streams.find("cam")
        assert live is not None and publisher.state is State.CONNECTING
        now = asyncio.get_running_loop().time()
        publisher.take_rtp(first, now)
        assert live.online and live.keyframes == 1
        live.want_keyframe(live.tracks["video"], now)
        await client.accept(reply.text)
        await client.connected()
        said = client.rtcp
        assert await eventually(
            lambda: any(isinstance(p, RtcpPsfbPacket) and p.fmt == 1 for p in said)
        )
        await client.close()


async def test_h264_of_a_publisher_that_ignores_every_wish_is_shown_from_its_last_keyframe() -> (
    None
):
    """As OBS does: no PLI is heeded; viewers begin with the group of pictures that is kept."""
    async with standing() as stand, sending(stand, "H264") as (sender, _):
        for _ in range(6):
            await sender.frame()
        live = stand.streams.find("cam")
        assert live is not None and await eventually(lambda: live.keyframes > 0)
        assert live.description.codec("video") is not None
        async with watching(stand, "cam", (VIDEO,)) as (player, _):
            assert await eventually(lambda: player.frames["video"] >= 4)


async def test_a_missing_packet_is_asked_for_and_reports_tell_of_it() -> None:
    async with standing() as stand, sending(stand) as (sender, _):
        for _ in range(3):
            await sender.frame()
        missing = await sender.frame(leaves_out=1)
        for _ in range(3):
            await sender.frame()
        said = sender.client.rtcp

        def asked() -> list[int]:
            packets = (p for p in said if isinstance(p, RtcpRtpfbPacket))
            return [number for packet in packets for number in packet.lost]

        assert await eventually(lambda: set(asked()) == set(missing))

        def blocks() -> list[RtcpReceiverInfo]:
            return [block for p in said if isinstance(p, RtcpRrPacket) for block in p.reports]

        assert await eventually(lambda: any(block.packets_lost == 1 for block in blocks()))
        assert {block.ssrc for block in blocks()} == {sender.ssrc}
        estimates = [p for p in said if isinstance(p, RtcpPsfbPacket) and p.fci[:4] == b"REMB"]
        assert estimates


async def test_what_is_sent_again_completes_the_picture() -> None:
    async with standing() as stand, sending(stand) as (sender, _):
        await sender.frame()
        live = stand.streams.find("cam")
        assert live is not None and await eventually(lambda: live.online)
        async with receiving(stand, "cam", (VIDEO,)) as (client, reply):
            ssrc = ssrc_of(reply.text, "video")
            number, frames = sender.number, video("VP8", size_max=1100).frames
            left = await sender.frame(leaves_out=0)
            assert left == [number % (1 << 16)]
            await sender.frame()
            assert await eventually(lambda: bool(client.received[ssrc].missing))
            sender.number, after = number, sender.number
            await sender.send(frames[1].packets[0], marker=len(frames[1].packets) == 1)
            sender.number = after
            await sender.frame()
            assert await eventually(lambda: not client.received[ssrc].missing)


async def test_garbage_of_a_publisher_is_no_stream() -> None:
    async with standing() as stand, sending(stand) as (sender, reply):
        for payload_type in (3, 127):
            await sender.client.send_rtp(
                b"x" * 50, ssrc=1, payload_type=payload_type, sequence=1, timestamp=1
            )
        publisher = stand.sessions.publisher(reply.headers["Location"].rpartition("/")[2])
        for data in (b"", b"\x80", b"\x80\x60" * 5, b"\x80" * 12):
            publisher.take_rtp(data, 1.0)
            publisher.take_rtcp(data, 1.0)
        live = stand.streams.find("cam")
        assert live is not None and not live.online
        await sender.frame()
        assert await eventually(lambda: live.online)


async def test_sender_reports_of_a_publisher_are_the_streams_clock() -> None:
    async with standing() as stand, sending(stand) as (sender, _):
        await sender.frame()
        live = stand.streams.find("cam")
        assert live is not None and await eventually(lambda: live.online)
        report = RtcpSrPacket(sender.ssrc, RtcpSenderInfo(77 << 32, 0, 1, 1))
        await sender.client.send(bytes(report))
        track = live.tracks["video"].track

        def told() -> bool:
            clock = track.clock()
            return clock is not None and clock.ntp_time == 77 << 32

        assert await eventually(told)


async def test_a_bye_makes_the_stream_offline_and_the_viewers_stay() -> None:
    async with standing() as stand, sending(stand) as (sender, _):
        for _ in range(3):
            await sender.frame()
        live = stand.streams.find("cam")
        assert live is not None and await eventually(lambda: live.online)
        async with receiving(stand, "cam", (VIDEO,)):
            await sender.client.send(bytes(RtcpByePacket([sender.ssrc])))
            assert await eventually(lambda: not live.online)
            assert len(live.viewers) == 1


async def test_a_publisher_that_leaves_can_come_back_to_the_same_viewers() -> None:
    async with standing() as stand, publishing(stand) as (_, reply):
        live = stand.streams.find("cam")
        assert live is not None and await eventually(lambda: live.online and live.keyframes > 0)
        async with watching(stand, "cam") as (player, _):
            assert await eventually(lambda: player.frames["video"] > 0)
            assert (await stand.ask("DELETE", reply.headers["Location"])).status == 200
            assert not live.online and "the publisher has gone" in live.reason
            async with publishing(stand):
                assert await eventually(lambda: live.online)
                seen = player.frames["video"]
                assert await eventually(lambda: player.frames["video"] > seen + 10)


async def test_a_publisher_that_vanishes_is_gone_after_thirty_seconds() -> None:
    async with standing() as stand, sending(stand) as (sender, _):
        await sender.frame()
        live = stand.streams.find("cam")
        assert live is not None and await eventually(lambda: live.online)
        await sender.client.vanish()
        stand.clock.ahead_s = 31.0
        assert await eventually(lambda: stand.streams.find("cam") is None)
        assert (live.online, live.reason) == (False, "the publisher has gone: silent for 30 s")


async def test_a_publisher_that_lost_its_network_makes_way_for_another_after_five_seconds() -> None:
    async with standing() as stand, sending(stand) as (sender, first):
        await sender.frame()
        live = stand.streams.find("cam")
        assert live is not None and await eventually(lambda: live.online)
        assert (await post(stand)).status == 409, "it sends"
        live.heard_at -= 4.0
        assert (await post(stand)).status == 409, "it may go on"
        live.heard_at -= 2.0
        publisher = stand.sessions.publisher(first.headers["Location"].split("/")[-1])
        publisher.connected_at = live.heard_at
        assert (await stand.ask("POST", "/whip/cam", b"v=0", SDP)).status == 400
        assert not publisher.reason, "nobody else has come"
        assert (await post(stand)).status == 201
        assert "another publisher has come" in publisher.reason
        assert (await stand.ask("GET", first.headers["Location"])).status == 404


async def test_a_publisher_s_restart_tells_where_the_gateway_is_now(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with standing() as stand:
        reply = await post(stand)
        moved = "candidate:1 1 udp 2130706431 192.0.2.7 8189 typ host"
        monkeypatch.setattr(stand.transports, "candidates", lambda *, loopback: (moved,))
        restarted = await stand.ask(
            "PATCH", reply.headers["Location"], RESTART, FRAGMENT, If_Match="*"
        )
        assert restarted.status == 200
        assert restarted.headers["ETag"] not in ("", reply.headers["ETag"])
        candidates = [line for line in restarted.text.splitlines() if "candidate:" in line]
        assert candidates == [f"a={moved}"]


# ------------------------------------------------------------------ HTTP


async def test_obs_gets_a_session_of_its_own_stream() -> None:
    async with standing() as stand:
        reply = await post(stand)
        assert (reply.status, reply.headers["Content-Type"]) == (201, SDP)
        where, tag = reply.headers["Location"], reply.headers["ETag"]
        assert where.startswith("/whip/cam/") and tag.startswith('"')
        assert (await stand.ask("GET", where)).status == 204
        trickled = await stand.ask("PATCH", where, CANDIDATES, FRAGMENT, If_Match=tag)
        assert trickled.status == 204
        assert (await stand.ask("DELETE", where)).status == 200
        assert (await stand.ask("DELETE", where)).status == 404
        assert stand.streams.find("cam") is None and len(stand.transports) == 0


async def test_a_second_publisher_is_409() -> None:
    async with standing() as stand:
        assert (await post(stand)).status == 201
        reply = await post(stand)
        assert reply.status == 409 and "Retry-After" in reply.headers
        assert len(stand.transports) == 1


async def test_a_stream_of_another_source_is_409() -> None:
    async with standing() as stand:
        stand.stream("cam")
        assert (await post(stand)).status == 409


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (OBS, "application/json", 415),
        (OBS, None, 415),
        (b"v=0", SDP, 400),
        (OBS.replace(b"H264", b"MP4V").replace(b"opus", b"AAC"), SDP, 406),
        (OBS.replace(b"H264/90000", b"H264/0").replace(b"opus/48000", b"opus/0"), SDP, 406),
        (OBS.replace(b"H264/90000", b"H264/1").replace(b"opus/48000", b"opus/-1"), SDP, 406),
        (OBS + b"a=x\r\n" * 70_000, SDP, 413),
    ],
)
async def test_what_cannot_be_published_is_refused(
    body: bytes, kind: str | None, status: int
) -> None:
    async with standing() as stand:
        assert (await stand.ask("POST", "/whip/cam", body, kind)).status == status
        assert stand.streams.find("cam") is None and len(stand.transports) == 0


@pytest.mark.parametrize("name", ["", "a%20b", "..", "x" * 65])
async def test_a_name_that_is_none_is_404(name: str) -> None:
    async with standing() as stand:
        path = f"/whip/{name}".replace("..", "%2e%2e")
        assert (await stand.ask("POST", path, OBS, SDP)).status == 404


@pytest.mark.parametrize(
    ("match", "body", "kind", "status"),
    [
        (None, CANDIDATES, FRAGMENT, 428),
        ('"stale"', CANDIDATES, FRAGMENT, 412),
        ("*", CANDIDATES, SDP, 415),
        ("*", "nonsense", FRAGMENT, 400),
    ],
)
async def test_patches_that_do_not_fit_are_refused(
    match: str | None, body: str, kind: str, status: int
) -> None:
    async with standing() as stand:
        where = (await post(stand)).headers["Location"]
        headers = {"If-Match": match} if match is not None else {}
        assert (await stand.ask("PATCH", where, body, kind, **headers)).status == status


@pytest.mark.parametrize("method", ["PATCH", "DELETE", "PUT"])
async def test_what_is_not_done_at_a_stream_is_405(method: str) -> None:
    async with standing() as stand:
        reply = await stand.ask(method, "/whip/cam", CANDIDATES, FRAGMENT)
        assert reply.status == 405 and "POST" in reply.headers["Allow"]


async def test_options_and_head_tell_what_to_send() -> None:
    async with standing(allowed_origins=["https://studio.example"]) as stand:
        asked = await stand.ask("OPTIONS", "/whip/cam", Origin="https://studio.example")
        assert (asked.status, asked.headers["Accept-Post"]) == (204, SDP)
        assert asked.headers["Access-Control-Allow-Origin"] == "https://studio.example"
        assert "PATCH" in asked.headers["Access-Control-Allow-Methods"]
        assert (await stand.ask("HEAD", "/whip/cam")).headers["Accept-Post"] == SDP
        where = (await post(stand)).headers["Location"]
        session = await stand.ask("OPTIONS", where)
        assert (session.status, session.headers["Accept-Patch"]) == (204, FRAGMENT)
        assert "Accept-Post" not in session.headers


async def test_too_many_publishers_are_503() -> None:
    async with standing() as stand:
        limit = 16
        for number in range(limit):
            reply = await stand.ask("POST", f"/whip/cam-{number}", OBS, SDP)
            assert reply.status == 201
        refused = await post(stand)
        assert (refused.status, refused.headers["Retry-After"]) == (503, "5")


async def test_credentials_of_turn_are_told_to_who_may_publish_alone() -> None:
    servers = IceServers(["turn:b.example"], "shared")
    async with standing(ice_servers=servers, publish_token="s3cret") as stand:
        assert (await stand.ask("OPTIONS", "/whip/cam")).links == []
        (told,) = (await stand.ask("OPTIONS", "/whip/cam", Authorization="Bearer s3cret")).links
        assert told.startswith("<turn:b.example>; ")


async def test_with_a_token_it_is_needed_and_enough() -> None:
    async with standing(publish_token="s3cret") as stand:
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            reply = await post_with(stand, headers)
            assert reply.status == 401 and "Bearer" in reply.headers["WWW-Authenticate"]
        right = {"Authorization": "Bearer s3cret", "X-Forwarded-For": "203.0.113.7"}
        reply = await post_with(stand, right)
        assert reply.status == 201
        assert (await stand.ask("DELETE", reply.headers["Location"])).status == 401
        assert (await stand.ask("DELETE", reply.headers["Location"], **right)).status == 200


@pytest.mark.parametrize("name", ["X-Forwarded-For", "Forwarded", "Via"])
async def test_without_a_token_nobody_publishes_through_a_proxy(name: str) -> None:
    for proxied in (False, True):
        async with standing(proxied=proxied) as stand:
            reply = await post_with(stand, {name: "127.0.0.1"})
            assert reply.status == 401 and "WWW-Authenticate" in reply.headers


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": "https://a.example"}, 201),
    ],
)
async def test_without_a_token_pages_of_other_sites_do_not_publish(
    headers: dict[str, str], status: int
) -> None:
    async with standing(allowed_origins=["https://a.example"]) as stand:
        assert (await post_with(stand, headers)).status == status
