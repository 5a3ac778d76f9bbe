"""WHEP end to end: what is fed into a stream is decoded by players."""

from __future__ import annotations

import asyncio
import json
import time

import pytest
from aiortc.rtp import RtcpPsfbPacket, RtcpRtpfbPacket
from tests.harness.eventually import eventually
from tests.unit.gateway.http.stand import (
    Player,
    Reply,
    Stand,
    receiving,
    ssrc_of,
    standing,
    watching,
)

from callboard.gateway.ports import Address, Pair
from callboard.gateway.sdp.codecs import AUDIO, VIDEO
from callboard.gateway.session.session import State
from callboard.gateway.session.viewer import KEYFRAMES_AT_ONCE, Viewer


class LossyPair:
    """A way that loses each fifth packet of media. (By UDP a leg sends past its pair.)"""

    reliable = True

    def __init__(self, pair: Pair) -> None:
        self._pair = pair
        self._count = 0
        self.lost = 0

    @property
    def address(self) -> Address:
        return self._pair.address

    def send(self, data: bytes) -> bool:
        self._count += 1
        if self._count % 5 == 0:
            self.lost += 1
            return True
        return self._pair.send(data)


def viewer_of(stand: Stand, reply: Reply) -> Viewer:
    return stand.sessions.viewer(reply.headers["Location"].rpartition("/")[2])


async def figures(stand: Stand, kind: str) -> dict[str, int]:
    """What the gateway tells of its one viewer's track."""
    told = json.loads((await stand.ask("GET", "/streams/test")).body)
    tracks = told["sessions"][0].get("tracks", [])
    return next((track for track in tracks if track["kind"] == kind), {})


async def test_a_player_sees_and_hears_a_stream() -> None:
    async with standing() as stand:
        feed = await stand.playing()
        async with watching(stand) as (player, reply):
            assert await eventually(lambda: player.frames[VIDEO] > 30 and player.frames[AUDIO] > 60)
            for kind in (VIDEO, AUDIO):
                assert (await player.statistics(kind))["packetsLost"] == 0
            viewer = viewer_of(stand, reply)
            assert viewer.state is State.CONNECTED
        assert await eventually(lambda: not feed.live.viewers)
        assert viewer.reason == "closed by the peer"
        assert len(stand.transports) == 0


async def test_the_running_group_of_pictures_comes_first() -> None:
    """A player decodes pictures though the stream has none to send any more."""
    async with standing() as stand:
        feed = stand.stream()
        for _ in range(6):
            feed.frame()
        async with watching(stand) as (player, _):
            assert await eventually(lambda: player.frames[VIDEO] >= 4)
            assert feed.keyframes_wanted == []


async def test_a_keyframe_is_asked_for_where_there_is_no_group_of_pictures() -> None:
    async with standing() as stand:
        feed = stand.stream()
        feed.frame()
        feed.live.offline("for a test", asyncio.get_running_loop().time())
        feed.live.tracks["video"].track.presence.end()
        feed.live.online = True
        async with watching(stand):
            assert await eventually(lambda: feed.keyframes_wanted == ["video"])


async def test_what_is_lost_is_asked_for_and_sent_again() -> None:
    async with standing() as stand:
        await stand.playing()
        async with watching(stand) as (player, _):
            assert await eventually(lambda: player.frames[VIDEO] > 5)
            (peer,) = stand.transports.made
            lossy = LossyPair(peer.pair)
            peer.on_pair(lossy)
            seen = player.frames[VIDEO]
            assert await eventually(lambda: player.frames[VIDEO] > seen + 50)
            assert lossy.lost > 20
            told = await figures(stand, VIDEO)
            assert told["resent"] > 5


async def test_another_pair_is_gone_to_when_it_is_nominated() -> None:
    async with standing() as stand:
        await stand.playing()
        async with watching(stand) as (player, reply):
            assert await eventually(lambda: player.frames[VIDEO] > 0)
            (peer,) = stand.transports.made
            lossy = LossyPair(peer.pair)
            peer.on_pair(lossy)
            assert await eventually(lambda: lossy.lost > 0)
            assert viewer_of(stand, reply).state is State.CONNECTED


@pytest.mark.parametrize("kind", ["pli", "fir"])
async def test_a_viewers_wishes_for_a_keyframe_are_one_request(kind: str) -> None:
    async with standing() as stand:
        feed = await stand.playing()
        async with watching(stand) as (player, reply):
            assert await eventually(lambda: player.frames[VIDEO] > 0)
            viewer = viewer_of(stand, reply)
            ssrc = next(each.ssrc for each in viewer.agreed_media if each.track == "video")
            wish = bytes(RtcpPsfbPacket(1, 1, ssrc))
            if kind == "fir":
                wish = bytes(RtcpPsfbPacket(4, 1, 0, ssrc.to_bytes(4, "big") + b"\1\0\0\0"))
            feed.keyframes_wanted.clear()
            for _ in range(20):
                viewer.take_rtcp(wish, asyncio.get_running_loop().time())
            assert feed.keyframes_wanted == ["video"]
            assert (await figures(stand, VIDEO))["keyframes_wanted"] == 20


async def test_a_viewer_who_always_wants_keyframes_gets_one_a_second() -> None:
    """Others' pictures are not to suffer from it."""
    async with standing() as stand:
        feed = stand.stream()
        feed.frame()
        async with receiving(stand, "test", (VIDEO,)) as (_, reply):
            viewer = viewer_of(stand, reply)
            assert await eventually(lambda: viewer.state is State.CONNECTED)
            wish = bytes(RtcpPsfbPacket(1, 1, ssrc_of(reply.text, "video")))
            feed.keyframes_wanted.clear()
            begun = asyncio.get_running_loop().time()
            for step in range(60):
                viewer.take_rtcp(wish, begun + step / 2)
            assert len(feed.keyframes_wanted) == pytest.approx(KEYFRAMES_AT_ONCE + 30, abs=2)


async def test_a_nack_of_what_was_never_sent_is_answered_with_nothing() -> None:
    async with standing() as stand:
        await stand.playing()
        async with watching(stand) as (player, reply):
            assert await eventually(lambda: player.frames[VIDEO] > 0)
            viewer = viewer_of(stand, reply)
            ssrc = next(each.ssrc for each in viewer.agreed_media if each.track == "video")
            now = asyncio.get_running_loop().time()
            for ssrcs in (ssrc, 12345):
                viewer.take_rtcp(
                    bytes(RtcpRtpfbPacket(1, 1, ssrcs, list(range(40_000, 40_200)))), now
                )
            viewer.take_rtcp(b"\x81\xc9garbage", now)
            told = await figures(stand, VIDEO)
            assert (told["resent"], told["not_resent"]) == (0, 200)
            assert viewer.state is State.CONNECTED


async def test_sender_reports_come_and_are_answered() -> None:
    async with standing() as stand:
        feed = await stand.playing()
        async with watching(stand) as (player, _):
            assert await eventually(lambda: player.frames[VIDEO] > 0)
            feed.report(time.time())

            async def round_trip() -> bool:
                return (await figures(stand, VIDEO)).get("round_trip_ms") is not None

            told: bool = await eventually(round_trip)
            assert told


async def test_a_source_that_begins_anew_goes_on_in_place() -> None:
    async with standing() as stand:
        feed = await stand.playing()
        async with watching(stand) as (player, _):
            assert await eventually(lambda: player.frames[VIDEO] > 5)
            for task in stand.tasks:
                task.cancel()
            feed.live.take_rtcp("video", feed.good_bye(), 0.0)
            assert not feed.live.online
            other = feed.followed_by()
            stand.tasks.append(asyncio.get_running_loop().create_task(other.run()))
            seen = dict(player.frames)
            assert await eventually(
                lambda: all(player.frames[kind] > seen[kind] + 30 for kind in seen)
            )


async def test_a_stream_that_ends_says_good_bye() -> None:
    async with standing() as stand:
        feed = await stand.playing()
        async with watching(stand) as (player, reply):
            assert await eventually(lambda: player.frames[VIDEO] > 0)
            viewer = viewer_of(stand, reply)
            viewer.end("the stream is over")
            assert await eventually(lambda: player.connection.connectionState == "closed")
            assert (viewer.state, viewer.reason) == (State.ENDED, "the stream is over")
            assert not feed.live.viewers and len(stand.sessions) == 0


async def test_pausing_stops_the_media_and_going_on_begins_it_again() -> None:
    async with standing() as stand:
        feed = await stand.playing()
        async with watching(stand) as (player, reply):
            assert await eventually(lambda: player.frames[VIDEO] > 0)
            viewer = viewer_of(stand, reply)
            viewer.pause()
            paused = (await figures(stand, VIDEO))["packets"]
            sent = feed.sent
            assert await eventually(lambda: feed.sent > sent + 5)
            assert (await figures(stand, VIDEO))["packets"] == paused
            seen = player.frames[VIDEO]
            viewer.resume(asyncio.get_running_loop().time())
            assert await eventually(lambda: player.frames[VIDEO] > seen + 20)


async def test_a_client_takes_an_offer_of_ours_instead() -> None:
    """406 is a counter-offer: who can use it answers it by PATCH."""
    async with standing() as stand:
        await stand.playing()
        player = Player()
        try:
            offered = (await player.offer()).replace("VP8", "VP7")
            reply = await stand.ask("POST", "/whep/test", offered, "application/sdp")
            assert reply.status == 406 and reply.headers["Content-Type"] == "application/sdp"
            second = Player(kinds=())
            answer = await second.answer(reply.text)
            where = reply.headers["Location"]
            patched = await stand.ask("PATCH", where, answer, "application/sdp")
            assert patched.status == 204
            assert await eventually(lambda: second.frames[VIDEO] > 10 and second.frames[AUDIO] > 10)
            again = await stand.ask("PATCH", where, answer, "application/sdp")
            assert again.status == 422
            await second.close()
        finally:
            await player.close()
