"""What goes over the wire to a viewer, packet by packet."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise

from aiortc.rtp import RtcpByePacket, RtcpSdesPacket
from tests.harness.eventually import SLOW, eventually
from tests.harness.webrtc_client import FramedRelay, WebRtcClient
from tests.unit.gateway.http.stand import receiving, ssrc_of, standing

from callboard.gateway.session.session import State


async def test_packets_come_whole_in_order_and_begin_low() -> None:
    async with standing() as stand:
        await stand.playing()
        async with receiving(stand) as (client, reply):
            for kind in ("audio", "video"):
                ssrc = ssrc_of(reply.text, kind)
                assert await eventually(
                    lambda ssrc=ssrc: len(client.received[ssrc].sequences) > 80  # type: ignore[misc] # a default binds it
                )
                numbers = client.received[ssrc].sequences
                assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
                assert 0 < numbers[0] < 1 << 15
                stamps = client.received[ssrc].timestamps
                steps = {(b - a) % (1 << 32) for a, b in pairwise(stamps)}
                assert all(step < 1 << 31 for step in steps), "no timestamp goes back"


async def test_a_nack_by_the_wire_is_answered_with_the_same_packet() -> None:
    async with standing() as stand:
        await stand.playing()
        async with receiving(stand) as (client, reply):
            ssrc = ssrc_of(reply.text, "video")
            assert await eventually(lambda: len(client.received[ssrc].newest) > 20)
            # a receiver's replay window refuses what it has: the copy is counted where it is sent
            number = client.received[ssrc].sequences[-3]
            viewer = stand.sessions.viewers("test")[0]
            await client.send_nack(ssrc, [number])

            def resent() -> bool:
                tracks = viewer.statistics(asyncio.get_running_loop().time())["tracks"]
                assert isinstance(tracks, list)
                return any(track["resent"] == 1 for track in tracks)

            assert await eventually(resent)


async def test_many_plis_by_the_wire_are_one_request() -> None:
    async with standing() as stand:
        feed = stand.stream()
        feed.frame()
        async with receiving(stand) as (client, reply):
            ssrc = ssrc_of(reply.text, "video")
            assert await eventually(lambda: ssrc in client.received)
            for _ in range(10):
                await client.send_pli(ssrc)
            assert await eventually(lambda: feed.keyframes_wanted == ["video"])


async def test_sender_reports_of_both_tracks_tell_one_moment() -> None:
    async with standing() as stand:
        feed = await stand.playing()
        async with receiving(stand) as (client, reply):
            feed.report(time.time())
            ssrcs = {ssrc_of(reply.text, kind): kind for kind in ("audio", "video")}
            told = client.sender_reports
            assert await eventually(lambda: len({each.ssrc for each in client.sender_reports}) == 2)
            assert await eventually(lambda: len(client.sender_reports) >= len(told) + 4)
            audio, video = (
                next(each for each in reversed(client.sender_reports) if ssrcs[each.ssrc] == kind)
                for kind in ("audio", "video")
            )
            assert audio.sender_info.ntp_timestamp == video.sender_info.ntp_timestamp
            assert video.sender_info.packet_count <= len(client.received[video.ssrc].sequences)
            names = [each for each in client.rtcp if isinstance(each, RtcpSdesPacket)]
            assert {chunk.items[0][1][:10] for each in names for chunk in each.chunks} == {
                b"callboard-"
            }


async def test_sender_reports_name_the_timestamps_that_the_viewer_gets() -> None:
    """Whatever offsets it was given, and with the burst it begins with behind it."""
    async with standing() as stand:
        feed = stand.stream()
        for _ in range(25):
            feed.frame()
            feed.report(time.time())
        feed_on = asyncio.create_task(feed.run())
        stand.tasks.append(feed_on)
        async with receiving(stand) as (client, reply):
            rates = {ssrc_of(reply.text, "audio"): 48_000, ssrc_of(reply.text, "video"): 90_000}
            assert await eventually(lambda: len(client.sender_reports) >= 6)
            for report in client.sender_reports:
                told = report.sender_info.rtp_timestamp
                newest = client.received[report.ssrc].timestamps[-1]
                apart = (told - newest + (1 << 31)) % (1 << 32) - (1 << 31)
                assert abs(apart) < 3 * rates[report.ssrc], "within what has been sent since"


async def test_a_viewer_is_told_of_the_clocks_once_its_first_burst_is_through() -> None:
    """Before, live pictures wait behind it, and would be taken for late ones; then two reports
    follow each other quickly, since no browser begins to play in step before it has them."""
    async with standing() as stand:
        feed = stand.stream()
        for _ in range(50):
            feed.frame()
        stand.tasks.append(asyncio.create_task(feed.run()))
        async with receiving(stand) as (client, _):
            (viewer,) = stand.sessions.viewers("test")
            joining = viewer._joining
            assert joining is not None
            while not joining.live:
                assert not client.sender_reports
                await asyncio.sleep(0)
            through_at = asyncio.get_running_loop().time()
            assert await eventually(lambda: len(client.sender_reports) >= 4)
            assert asyncio.get_running_loop().time() - through_at < 1.0 * SLOW


async def test_the_end_of_a_session_is_a_bye_of_all_its_sources() -> None:
    async with standing() as stand:
        await stand.playing()
        async with receiving(stand) as (client, reply):
            assert await eventually(lambda: len(client.received) == 2)
            assert (await stand.ask("DELETE", reply.headers["Location"])).status == 200
            byes = client.rtcp
            assert await eventually(lambda: any(isinstance(each, RtcpByePacket) for each in byes))
            (bye,) = [each for each in client.rtcp if isinstance(each, RtcpByePacket)]
            assert set(bye.sources) == {ssrc_of(reply.text, kind) for kind in ("audio", "video")}


async def test_a_viewer_that_vanishes_is_gone_after_thirty_seconds() -> None:
    async with standing() as stand:
        feed = await stand.playing()
        async with receiving(stand) as (client, _):
            (viewer,) = stand.sessions.viewers("test")
            await client.vanish()
            stand.clock.ahead_s = 29.0
            ended: bool = viewer.state is State.ENDED
            assert not ended
            stand.clock.ahead_s = 31.0
            assert await eventually(lambda: viewer.state is State.ENDED)
            assert viewer.reason == "silent for 30 s"
            assert not feed.live.viewers and len(stand.transports) == 0


async def test_a_viewer_that_never_connects_is_dropped() -> None:
    async with standing() as stand:
        feed = await stand.playing()
        client = await WebRtcClient.open()
        reply = await stand.ask("POST", "/whep/test", client.offer, "application/sdp")
        assert reply.status == 201 and len(feed.live.viewers) == 1
        now = asyncio.get_running_loop().time()
        stand.sessions.tick(now + 14.0)
        assert len(feed.live.viewers) == 1
        stand.sessions.tick(now + 16.0)
        assert not feed.live.viewers and len(stand.transports) == 0 and len(stand.sessions) == 0
        await client.close()


async def test_a_viewer_by_tcp_sees_the_stream_too() -> None:
    async with standing() as stand:
        await stand.playing()
        relay = await FramedRelay.open("127.0.0.1", stand.transports.port)
        client = await WebRtcClient.open(video="recvonly", audio="recvonly")
        reply = await stand.ask("POST", "/whep/test", client.offer, "application/sdp")
        await client.accept(reply.text, relay=relay)
        await client.connected()
        ssrc = ssrc_of(reply.text, "video")
        assert await eventually(lambda: len(client.received[ssrc].sequences) > 60)
        assert not client.received[ssrc].missing
        told = stand.sessions.viewers("test")[0].statistics(asyncio.get_running_loop().time())
        assert told["transport"] == "tcp"
        await client.close()
        await relay.close()


async def test_ten_viewers_get_the_same_media() -> None:
    async with standing() as stand:
        feed = await stand.playing()
        clients = [await WebRtcClient.open(video="recvonly") for _ in range(10)]
        ssrcs = []
        for client in clients:
            reply = await stand.ask("POST", "/whep/test", client.offer, "application/sdp")
            await client.accept(reply.text)
            ssrcs.append(ssrc_of(reply.text, "video"))
        for client in clients:
            await client.connected()
        assert len(feed.live.viewers) == len(set(ssrcs)) == 10
        for client, ssrc in zip(clients, ssrcs, strict=True):
            assert await eventually(
                lambda client=client, ssrc=ssrc: len(client.received[ssrc].newest) > 300  # type: ignore[misc] # defaults bind them
            )
        newest = [
            {packet.payload for packet in client.received[ssrc].newest}
            for client, ssrc in zip(clients, ssrcs, strict=True)
        ]
        assert len(set.intersection(*newest)) > 30
        for client in clients:
            await client.close()
        assert await eventually(lambda: not feed.live.viewers)
