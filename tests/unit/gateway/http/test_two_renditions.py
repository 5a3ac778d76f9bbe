"""A stream in two renditions: who has which, and that a change shows no seam; the same for another
stream."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from aiortc.rtp import RtcpReceiverInfo, RtcpRrPacket, RtcpRtpfbPacket
from tests.harness.eventually import eventually
from tests.harness.webrtc_client import Received, WebRtcClient
from tests.unit.gateway.http.stand import (
    AUDIO_TRACK,
    VIDEO_TRACK,
    Feed,
    Stand,
    receiving,
    ssrc_of,
    standing,
    watching,
)

from callboard.gateway.fanout import pacing
from callboard.gateway.live import LiveStream, NotPlayable, TrackDescription
from callboard.gateway.sdp.codecs import VIDEO, Codec
from callboard.gateway.session.renditions import Slow
from callboard.gateway.session.viewer import Viewer

LOW = TrackDescription("video-low", VIDEO_TRACK.codec)


def report(ssrc: int, lost: float) -> bytes:
    """A receiver report with a share of loss."""
    return bytes(RtcpRrPacket(1, [RtcpReceiverInfo(ssrc, int(lost * 256), 9, 9, 0, 0, 0)]))


async def two(stand: Stand) -> Feed:
    """A stream of both, fed."""
    feed = stand.stream("test", VIDEO_TRACK, LOW, AUDIO_TRACK)
    stand.tasks.append(asyncio.get_running_loop().create_task(feed.run()))
    assert await eventually(lambda: feed.sent > 10)
    return feed


def video_of(viewer: Viewer) -> dict[str, Any]:
    """What is told of its video."""
    tracks = viewer.statistics(asyncio.get_running_loop().time())["tracks"]
    assert isinstance(tracks, list)
    return next(dict(track) for track in tracks if track["kind"] == VIDEO)


def rendition(viewer: Viewer) -> str:
    return str(video_of(viewer)["track"])


async def lossy_until(viewer: Viewer, ssrc: int, wanted: str) -> None:
    """Reports of loss, until the rendition is another."""
    loop = asyncio.get_running_loop()

    def lossy() -> bool:
        viewer.take_rtcp(report(ssrc, 0.3), loop.time())
        return rendition(viewer) == wanted

    assert await eventually(lossy)


def has_no_seam(received: Received) -> bool:
    """Whether numbers and timestamps go on without a gap, or a step back."""
    steps = {(b - a) % (1 << 16) for a, b in pairwise(received.sequences)}
    stamps = [(b - a) % (1 << 32) for a, b in pairwise(received.timestamps)]
    return steps == {1} and max(stamps) < 90_000


async def test_a_viewer_whose_way_is_bad_goes_to_the_lower_rendition_without_a_seam() -> None:
    async with standing() as stand:
        feed = await two(stand)
        async with receiving(stand) as (client, reply):
            (viewer,) = stand.sessions.viewers("test")
            ssrc = ssrc_of(reply.text, "video")
            assert await eventually(lambda: len(client.received[ssrc].sequences) > 50)
            assert rendition(viewer) == "video"
            await lossy_until(viewer, ssrc, "video-low")
            assert "video-low" in feed.keyframes_wanted
            seen = len(client.received[ssrc].sequences)
            assert await eventually(lambda: len(client.received[ssrc].sequences) > seen + 50)
            assert has_no_seam(client.received[ssrc])
            assert len(feed.live.tracks["video"].group) == 0
            assert len(feed.live.tracks["video-low"].group) == 1


async def test_pictures_go_on_through_the_change() -> None:
    async with standing() as stand:
        await two(stand)
        async with watching(stand) as (player, reply):
            assert await eventually(lambda: player.frames["video"] > 10)
            (viewer,) = stand.sessions.viewers("test")
            await lossy_until(viewer, ssrc_of(reply.text, "video"), "video-low")
            seen = player.frames["video"]
            assert await eventually(lambda: player.frames["video"] > seen + 40)


async def test_other_viewers_keep_the_best_rendition() -> None:
    async with standing() as stand:
        feed = await two(stand)
        async with receiving(stand) as (client, reply), receiving(stand) as (other, others):
            one, second = stand.sessions.viewers("test")
            ssrc = ssrc_of(reply.text, "video")
            assert await eventually(lambda: len(client.received) == len(other.received) == 2)
            assert await eventually(lambda: len(feed.live.tracks["video"].group) == 2)
            await lossy_until(one, ssrc, "video-low")
            assert rendition(second) == "video"
            assert others.status == 201


async def test_who_watches_a_rendition_that_ceases_goes_to_one_that_comes() -> None:
    async with standing() as stand:
        feed = await two(stand)
        async with receiving(stand) as (client, reply):
            (viewer,) = stand.sessions.viewers("test")
            ssrc = ssrc_of(reply.text, "video")
            assert await eventually(lambda: len(client.received[ssrc].sequences) > 20)
            assert rendition(viewer) == "video"
            feed.ceases("video")
            assert await eventually(lambda: rendition(viewer) == "video-low", 15)
            seen = len(client.received[ssrc].sequences)
            assert await eventually(lambda: len(client.received[ssrc].sequences) > seen + 20)
            async with receiving(stand) as (other, others):
                came = other.received
                new = ssrc_of(others.text, "video")
                assert await eventually(lambda: new in came and len(came[new].sequences) > 20)
                assert [rendition(each) for each in stand.sessions.viewers("test")] == [
                    "video-low",
                    "video-low",
                ]


async def test_with_one_rendition_the_link_is_said_to_be_too_slow() -> None:
    async with standing() as stand:
        await stand.playing()
        async with receiving(stand) as (client, reply):
            (viewer,) = stand.sessions.viewers("test")
            ssrc = ssrc_of(reply.text, "video")
            told: list[Slow | None] = []
            viewer.on_slow.append(told.append)
            assert await eventually(lambda: ssrc in client.received)
            loop = asyncio.get_running_loop()

            def lossy() -> bool:
                viewer.take_rtcp(report(ssrc, 0.5), loop.time())
                return viewer.slow is not None

            assert await eventually(lossy)
            slow = viewer.slow
            assert slow is not None and 0 < slow.gets < slow.needs
            assert viewer.statistics(loop.time())["slow"] == {
                "needs": slow.needs, "gets": slow.gets,
            }  # fmt: skip
            assert told and told[0] is not None


async def test_after_a_pause_numbers_go_on_and_nothing_is_asked_for_again() -> None:
    async with standing() as stand:
        feed = await stand.playing()
        async with receiving(stand) as (client, reply):
            (viewer,) = stand.sessions.viewers("test")
            ssrc = ssrc_of(reply.text, "video")
            assert await eventually(lambda: len(client.received[ssrc].sequences) > 50)
            viewer.pause()
            sent = feed.sent
            assert await eventually(lambda: feed.sent > sent + 10)
            seen = len(client.received[ssrc].sequences)
            viewer.resume(asyncio.get_running_loop().time())
            assert await eventually(lambda: len(client.received[ssrc].sequences) > seen + 50)
            assert has_no_seam(client.received[ssrc])


@pytest.fixture
def slow_bursts(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Who joins gets the running pictures at a tenth of their pace, until it is undone."""
    monkeypatch.setattr(pacing, "RATE_MIN_BIT_S", 40_000.0)
    monkeypatch.setattr(LiveStream, "bits_per_second", lambda self, now: 40_000)
    yield monkeypatch


async def test_a_pause_in_the_midst_of_the_burst_leaves_no_gap(
    slow_bursts: pytest.MonkeyPatch,
) -> None:
    """Numbers go on from what was sent, which is less than what has come."""
    async with standing() as stand:
        feed = await stand.playing()
        assert await eventually(lambda: feed.sent > 20)
        async with receiving(stand) as (client, reply):
            (viewer,) = stand.sessions.viewers("test")
            ssrc = ssrc_of(reply.text, "video")
            assert await eventually(lambda: len(client.received[ssrc].sequences) > 3)
            viewer.pause()
            sent, come = video_of(viewer)["packets"], feed.live.tracks["video"].track.newest
            assert 0 < sent < come / 2, "the burst was on its way"
            slow_bursts.undo()
            viewer.resume(asyncio.get_running_loop().time())
            assert await eventually(lambda: len(client.received[ssrc].sequences) > sent + 20)
            received = client.received[ssrc]
            assert {(b - a) % (1 << 16) for a, b in pairwise(received.sequences)} == {1}
            assert all((b - a) % (1 << 32) < 1 << 31 for a, b in pairwise(received.timestamps))


async def test_what_was_not_sent_yet_is_not_sent_because_it_is_asked_for(
    slow_bursts: pytest.MonkeyPatch,
) -> None:
    """Numbers that are still to come, or are before the first, are no loss."""
    async with standing() as stand:
        feed = await stand.playing()
        assert await eventually(lambda: feed.sent > 20)
        async with receiving(stand) as (client, reply):
            (viewer,) = stand.sessions.viewers("test")
            ssrc = ssrc_of(reply.text, "video")
            assert await eventually(lambda: len(client.received[ssrc].sequences) > 3)
            first = client.received[ssrc].sequences[0]
            following = first + video_of(viewer)["packets"]
            wrong = [*range(max(0, first - 8), first), *range(following, following + 8)]
            nack = bytes(RtcpRtpfbPacket(1, 1, ssrc, wrong))
            viewer.take_rtcp(nack, asyncio.get_running_loop().time())
            told = video_of(viewer)
            assert (told["resent"], told["not_resent"]) == (0, len(wrong))
            assert first + told["packets"] == following


async def test_a_viewer_goes_to_another_stream_by_the_same_session() -> None:
    async with standing() as stand:
        one, other = await stand.playing("test"), await stand.playing("other")
        async with receiving(stand) as (client, reply):
            (viewer,) = stand.sessions.viewers("test")
            ssrc = ssrc_of(reply.text, "video")
            assert await eventually(lambda: len(client.received[ssrc].sequences) > 50)
            viewer.switch_to(other.live, asyncio.get_running_loop().time())
            assert (len(one.live.viewers), len(other.live.viewers)) == (0, 1)
            seen = len(client.received[ssrc].sequences)
            assert await eventually(lambda: len(client.received[ssrc].sequences) > seen + 50)
            assert has_no_seam(client.received[ssrc])
            vp9 = stand.stream("vp9", TrackDescription("video", Codec(VIDEO, "VP9", 90_000)))
            with pytest.raises(NotPlayable, match="vp9 has no"):
                viewer.switch_to(vp9.live, asyncio.get_running_loop().time())
            assert len(other.live.viewers) == 1


async def test_who_is_not_connected_goes_nowhere() -> None:
    async with standing() as stand:
        stand.stream("test").frame()
        other = stand.stream("other")
        client = await WebRtcClient.open()
        await stand.ask("POST", "/whep/test", client.offer, "application/sdp")
        (viewer,) = stand.sessions.viewers("test")
        with pytest.raises(NotPlayable, match="not connected"):
            viewer.switch_to(other.live, 1.0)
        await client.close()
