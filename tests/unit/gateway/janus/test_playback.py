"""Watching by Janus' API, over both transports: real media to a real WebRTC client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tests.harness.eventually import eventually
from tests.harness.webrtc_client import WebRtcClient
from tests.unit.gateway.http.stand import AUDIO_TRACK, VIDEO_TRACK, Feed, ssrc_of
from tests.unit.gateway.http.tested_film import TestedFilm
from tests.unit.gateway.janus.stand import (
    BY,
    WITHIN_S,
    JanusClient,
    JanusStand,
    client,
    janus_standing,
)

from callboard.gateway.film import Film
from callboard.gateway.janus.registry import SESSION_TIMEOUT_S
from callboard.gateway.live import LiveStream, StreamDescription, TrackDescription
from callboard.gateway.sdp.codecs import Codec
from callboard.gateway.session.renditions import Slow
from callboard.gateway.session.sessions import SessionLimits
from callboard.media.leases import State

both = pytest.mark.parametrize("by", BY)


@pytest.fixture
async def stand() -> AsyncIterator[JanusStand]:
    async with janus_standing() as stand:
        await stand.gateway.playing("test")
        yield stand


@asynccontextmanager
async def watching(speaking: JanusClient) -> AsyncIterator[tuple[WebRtcClient, str]]:
    """A client that gets media, and the offer that it answered."""
    peer = WebRtcClient.waiting()
    try:
        assert (await speaking.message("watch", id="test"))["janus"] == "ack"
        offer = (await speaking.until("event", "preparing"))["jsep"]
        assert offer["type"] == "offer"
        answer = {"type": "answer", "sdp": await peer.answer(offer["sdp"])}
        assert (await speaking.ask("trickle", candidate={"completed": True}))["janus"] == "ack"
        assert (await speaking.message("start", answer))["janus"] == "ack"
        await speaking.until("webrtcup")
        await speaking.until("event", "started")
        await peer.connected()  # (the gateway may be through first)
        yield peer, offer["sdp"]
    finally:
        await peer.close()


def packets(peer: WebRtcClient, ssrc: int) -> int:
    received = peer.received.get(ssrc)
    return len(received.sequences) if received is not None else 0


@both
async def test_stream_plays(stand: JanusStand, by: str) -> None:
    async with client(stand, by) as speaking, watching(speaking) as (peer, offer):
        assert "a=group:BUNDLE a v" in offer
        for kind in ("audio", "video"):
            ssrc = ssrc_of(offer, kind)
            await eventually(lambda ssrc=ssrc: packets(peer, ssrc) > 20, WITHIN_S)  # type: ignore[misc] # of a default
            assert not peer.received[ssrc].missing
        media = [each for each in speaking.seen if each["janus"] == "media"]
        assert {(each["mid"], each["type"], each["receiving"]) for each in media} == {
            ("a", "audio", True),
            ("v", "video", True),
        }
        (listed,) = (await speaking.message("list"))["plugindata"]["data"]["list"]
        assert (listed["id"], listed["name"], listed["enabled"]) == (1, "test", True)
        info = (await speaking.message("info", id=1))["plugindata"]["data"]["info"]
        assert info["viewers"] == 1


@both
async def test_viewer_pauses_and_goes_on(stand: JanusStand, by: str) -> None:
    async with client(stand, by) as speaking, watching(speaking) as (peer, offer):
        ssrc = ssrc_of(offer, "video")
        await eventually(lambda: ssrc in peer.received, WITHIN_S)
        await eventually(lambda: len(set(peer.received[ssrc].timestamps)) > 25, WITHIN_S)
        await speaking.message("pause")
        await speaking.until("event", "pausing")
        (viewer,) = stand.gateway.sessions.viewers("test")
        assert viewer.paused
        await speaking.message("start")
        await speaking.until("event", "started")
        assert not viewer.paused
        before = packets(peer, ssrc)
        await eventually(lambda: packets(peer, ssrc) > before + 5, WITHIN_S)
        assert not peer.received[ssrc].missing


@both
async def test_viewer_switches_to_another_stream(stand: JanusStand, by: str) -> None:
    await stand.gateway.playing("other")
    sound = TrackDescription("audio", Codec("audio", "PCMU", 8000))
    stand.gateway.stream("sound", sound).live.online = True
    async with client(stand, by) as speaking, watching(speaking) as (peer, offer):
        ssrc = ssrc_of(offer, "video")
        await speaking.message("switch", id="sound")
        assert await speaking.refusal() == 458
        await speaking.message("switch", id="other")
        switched = await speaking.until("event")
        assert switched["plugindata"]["data"]["result"]["switched"] == "ok"
        assert [each.stream for each in stand.gateway.sessions.viewers("other")] == ["other"]
        before = packets(peer, ssrc)
        await eventually(lambda: packets(peer, ssrc) > before + 10, WITHIN_S)


@both
@pytest.mark.parametrize("way", ["stop", "hangup", "detach", "destroy"])
async def test_viewer_that_leaves_is_gone_at_once(stand: JanusStand, by: str, way: str) -> None:
    async with client(stand, by) as speaking, watching(speaking) as (peer, _):
        if way == "stop":
            await speaking.message("stop")
        elif way == "destroy":
            await speaking.ask_of_session(way)
        else:
            await speaking.ask(way)
        await eventually(lambda: not stand.gateway.sessions.viewers("test"))
        await eventually(lambda: peer.pc.connectionState == "closed", WITHIN_S)
        if way in ("stop", "hangup"):
            await speaking.until("hangup")


@both
async def test_handle_watches_again_after_it_has_stopped(stand: JanusStand, by: str) -> None:
    async with client(stand, by) as speaking:
        for _ in range(2):
            async with watching(speaking) as (peer, offer):
                ssrc = ssrc_of(offer, "video")
                await eventually(lambda: packets(peer, ssrc) > 5, WITHIN_S)  # noqa: B023 - at once
                await speaking.message("stop")
                await speaking.until("hangup")


@both
async def test_end_of_the_stream_is_told(stand: JanusStand, by: str) -> None:
    async with client(stand, by) as speaking, watching(speaking):
        live = stand.gateway.streams.find("test")
        assert live is not None
        now = asyncio.get_running_loop().time()
        live.offline("a pause", now)
        assert (await speaking.until("media"))["receiving"] is False
        await eventually(lambda: live.online)
        assert (await speaking.until("media"))["receiving"] is False
        assert (await speaking.until("media"))["receiving"] is True
        stand.gateway.streams.close(live, "the source has gone", now)
        stand.gateway.streams.tick(now + 60)
        await speaking.until("event", "stopped")
        assert (await speaking.until("hangup"))["reason"]


@both
async def test_good_bye_of_the_peer_is_a_hangup(stand: JanusStand, by: str) -> None:
    async with client(stand, by) as speaking:
        async with watching(speaking):
            pass
        said = await speaking.until("hangup")
        assert said["sender"] == speaking.handle
        assert not any(
            each.get("plugindata", {}).get("data", {}).get("result") == {"status": "stopped"}
            for each in speaking.seen
        )


@both
async def test_watch_that_cannot_be_done_says_why(stand: JanusStand, by: str) -> None:
    stand.gateway.stream("silent")
    async with client(stand, by) as speaking:
        for id, code in (("silent", 460), ("none", 455), (99, 455)):
            assert (await speaking.message("watch", id=id))["janus"] == "ack"
            assert await speaking.refusal() == code


class Opening:
    """A stream that is made for each viewer, and takes its time."""

    def __init__(self, stand: JanusStand) -> None:
        self.begun = self.under_way = 0
        described = StreamDescription("file", "A file", (VIDEO_TRACK,))
        stand.gateway.streams.offer(described, self._open)

    async def _open(self, described: StreamDescription) -> LiveStream:
        self.begun += 1
        self.under_way += 1
        try:
            never: asyncio.Future[LiveStream] = asyncio.get_running_loop().create_future()
            return await never
        finally:
            self.under_way -= 1


@both
async def test_stream_that_is_not_wanted_any_more_is_opened_no_further(
    stand: JanusStand, by: str
) -> None:
    opening = Opening(stand)
    async with client(stand, by) as speaking:
        for number in range(1, 4):
            await speaking.message("watch", id="file")
            await eventually(lambda number=number: opening.begun == number)  # type: ignore[misc] # of a default
            await speaking.message("stop")
            await eventually(lambda: not opening.under_way, 5.0)


async def test_switch_is_given_up_with_its_call(stand: JanusStand) -> None:
    opening = Opening(stand)
    async with client(stand, "websocket") as speaking, watching(speaking):
        await speaking.message("switch", id="file")
        await eventually(lambda: opening.under_way == 1)
        await speaking.ask("hangup")
        await eventually(lambda: not opening.under_way, 5.0)
        assert not stand.gateway.sessions.viewers("test")


async def test_viewer_whose_end_fails_does_not_keep_the_others(stand: JanusStand) -> None:
    async with (
        client(stand, "long polls") as one,
        client(stand, "long polls") as other,
        watching(one),
        watching(other),
    ):
        first = stand.gateway.sessions.viewers("test")[0]
        first.when_ended.append(lambda: print(1 / 0))
        for session in stand.janus.driver.protocol.registry:
            session.heard_at -= SESSION_TIMEOUT_S
        await eventually(lambda: not stand.gateway.sessions.viewers("test"))


async def test_slow_link_is_told(stand: JanusStand) -> None:
    async with client(stand, "websocket") as speaking, watching(speaking):
        (viewer,) = stand.gateway.sessions.viewers("test")
        for tell in viewer.on_slow:
            tell(None)
            tell(Slow(1_000_000, 300_000))
        said = await speaking.until("slowlink")
        assert (said["mid"], said["media"], said["uplink"]) == ("v", "video", False)
        assert said["lost"] >= 0


class Personal:
    """A stream that is made for each viewer, and when it was wanted."""

    def __init__(
        self, stand: JanusStand, *tracks: TrackDescription, film: Film | None = None
    ) -> None:
        self.film = film
        self.wanted: list[bool] = []
        self._stand = stand
        described = StreamDescription("file", "A file", tracks)
        stand.gateway.streams.offer(described, self._open)

    async def _open(self, described: StreamDescription) -> LiveStream:
        live = self._stand.gateway.streams.open_personal(described, "a test")
        live.on_wanted = self.wanted.append
        live.film = self.film
        self._stand.gateway.tasks.append(asyncio.create_task(Feed(live).run()))
        return live


@both
async def test_viewer_switches_to_a_stream_of_its_own(stand: JanusStand, by: str) -> None:
    personal = Personal(stand, VIDEO_TRACK, AUDIO_TRACK)
    async with client(stand, by) as speaking, watching(speaking) as (peer, offer):
        await speaking.message("switch", id="file")
        await speaking.until("event")
        ssrc = ssrc_of(offer, "video")
        before = packets(peer, ssrc)
        await eventually(lambda: packets(peer, ssrc) > before + 5, WITHIN_S)
        info = (await speaking.message("info", id="file"))["plugindata"]["data"]["info"]
        assert (info["type"], info["viewers"]) == ("on demand", 1)
    await eventually(lambda: personal.wanted == [True, False], WITHIN_S)


@both
async def test_a_film_stands_still_while_its_viewer_pauses(stand: JanusStand, by: str) -> None:
    film = TestedFilm()
    Personal(stand, VIDEO_TRACK, AUDIO_TRACK, film=film)
    async with client(stand, by) as speaking, watching(speaking):
        await speaking.message("switch", id="file")
        await speaking.until("event")
        await speaking.message("pause")
        await eventually(lambda: film.now.state is State.PAUSED, WITHIN_S)
        film.failing = ConnectionError("the sidecar does not play it")
        await speaking.message("start")
        await speaking.message("pause")
        film.failing = None
        await speaking.message("start")
        await eventually(lambda: film.now.state is State.PLAYING, WITHIN_S)


async def test_stream_of_its_own_that_does_not_fit_is_let_go(stand: JanusStand) -> None:
    personal = Personal(stand, AUDIO_TRACK)
    async with client(stand, "long polls") as speaking, watching(speaking):
        await speaking.message("switch", id="file")
        assert await speaking.refusal() == 458
        assert personal.wanted == [True, False]


@both
async def test_too_many_viewers_are_refused(by: str) -> None:
    async with janus_standing(limits=SessionLimits(viewers=0)) as stand:
        await stand.gateway.playing("test")
        async with client(stand, by) as speaking:
            await speaking.message("watch", id=1)
            assert await speaking.refusal() == 470


@both
@pytest.mark.parametrize("sdp", ["", "v=0", "\ud800", "garbage\r\n" * 100])
async def test_answer_that_is_none_is_refused_and_may_be_repeated(
    stand: JanusStand, by: str, sdp: str
) -> None:
    async with client(stand, by) as speaking:
        await speaking.message("watch", id=1)
        await speaking.until("event", "preparing")
        for _ in range(2):
            await speaking.message("start", {"type": "answer", "sdp": sdp})
            await speaking.until("event", "starting")
            assert await speaking.refusal() == 454


async def test_viewer_of_a_lost_websocket_goes_on_when_it_is_claimed(stand: JanusStand) -> None:
    async with client(stand, "websocket") as second:
        async with client(stand, "websocket") as first:
            first_session, first_handle = first.session, first.handle
            await first.message("watch", id=1)
            await first.until("event", "preparing")
        second.session, second.handle = first_session, first_handle
        assert (await second.ask_of_session("claim"))["janus"] == "success"
        await second.ask("hangup")
        assert (await second.until("hangup"))["session_id"] == first_session


@both
async def test_session_that_times_out_is_told_and_its_viewer_gone(
    stand: JanusStand, by: str
) -> None:
    async with client(stand, by) as speaking, watching(speaking):
        session = stand.janus.driver.protocol.registry.session(speaking.session)
        waiting = asyncio.create_task(speaking.until("timeout"))
        await eventually(lambda: by == "websocket" or session.id in stand.janus.driver._pollers)
        session.heard_at -= SESSION_TIMEOUT_S
        assert (await waiting)["session_id"] == speaking.session
        assert not stand.gateway.sessions.viewers("test")
        assert (await speaking.ask_of_session("keepalive"))["error"]["code"] == 458
