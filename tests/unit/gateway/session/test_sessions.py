"""How many viewers there may be, also while their streams are being opened; what sessions tell."""

from __future__ import annotations

import asyncio

import pytest
from tests.harness.eventually import eventually
from tests.harness.webrtc_client import WebRtcClient
from tests.unit.gateway.http.stand import AUDIO_TRACK, VIDEO_TRACK, Reply, Stand, standing
from tests.unit.gateway.sdp.conftest import client_offer

from callboard.gateway.live import LiveStream, StreamDescription
from callboard.gateway.session.session import State
from callboard.gateway.session.sessions import SessionLimits, TooMany

OFFER = client_offer("chromium-viewer")


class Films:
    """Streams that are made for each viewer, when the test lets them."""

    def __init__(self, stand: Stand, *names: str) -> None:
        self._streams = stand.streams
        self.ready = asyncio.Event()
        self.asked = 0
        self.given_up = 0
        for name in names:
            described = StreamDescription(name, name, (VIDEO_TRACK, AUDIO_TRACK), on_demand=True)
            stand.streams.offer(described, self._open)

    async def _open(self, description: StreamDescription) -> LiveStream:
        self.asked += 1
        await self.ready.wait()
        live = self._streams.open_personal(description, "films")
        live.on_wanted = lambda wanted: None if wanted else self._close(live)
        return live

    def _close(self, live: LiveStream) -> None:
        self.given_up += 1
        self._streams.close(live, "nobody watches", 1.0)


async def post(stand: Stand, name: str) -> Reply:
    return await stand.ask("POST", f"/whep/{name}", OFFER, "application/sdp")


@pytest.mark.parametrize("limits", [SessionLimits(viewers=2), SessionLimits(viewers_per_stream=2)])
async def test_viewers_whose_stream_is_being_opened_count(limits: SessionLimits) -> None:
    async with standing(limits=limits) as stand:
        films = Films(stand, "film")
        opening = [asyncio.create_task(post(stand, "film")) for _ in range(6)]
        assert await eventually(lambda: stand.sessions.refused == 4)
        assert films.asked == 2 and len(stand.transports) == 2
        films.ready.set()
        statuses = [reply.status for reply in await asyncio.gather(*opening)]
        assert sorted(statuses) == [201, 201, 503, 503, 503, 503]
        assert len(stand.sessions) == 2


async def test_time_goes_on_for_sessions_where_a_look_at_the_streams_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with standing() as stand:
        stand.stream("live").frame()
        where = (await post(stand, "live")).headers["Location"]

        def fail(now: float) -> None:
            raise RuntimeError("a mistake")

        monkeypatch.setattr(stand.streams, "tick", fail)
        stand.sessions.tick(asyncio.get_running_loop().time() + 16)
        assert (await stand.ask("GET", where)).status == 404, "it never connected"


async def test_an_opening_that_fails_leaves_its_place_to_the_next() -> None:
    async with standing(limits=SessionLimits(viewers=1)) as stand:

        async def fail(description: StreamDescription) -> LiveStream:
            raise ConnectionError("the sidecar has gone")

        described = StreamDescription("film", "Film", (VIDEO_TRACK,), on_demand=True)
        stand.streams.offer(described, fail)
        for _ in range(3):
            assert (await post(stand, "film")).status not in (201, 404)
        assert stand.sessions.refused == 0 and len(stand.transports) == 0
        stand.stream("live").frame()
        assert (await post(stand, "live")).status == 201


async def test_who_comes_from_another_stream_finds_the_same_limit() -> None:
    async with standing(limits=SessionLimits(viewers=2, viewers_per_stream=1)) as stand:
        for name in ("one", "other"):
            stand.stream(name).frame()
            assert (await post(stand, name)).status == 201
        (viewer,) = stand.sessions.viewers("one")
        with pytest.raises(TooMany):
            await stand.sessions.switch(viewer, "other")
        assert viewer.live.name == "one" and stand.sessions.refused == 1


async def test_a_session_tells_once_that_it_is_connected() -> None:
    async with standing() as stand:
        await stand.playing()
        client = await WebRtcClient.open()
        reply = await stand.ask("POST", "/whep/test", client.offer, "application/sdp")
        (viewer,) = stand.sessions.viewers("test")
        told: list[State] = []
        viewer.when_connected.append(lambda: told.append(viewer.state))
        await client.accept(reply.text)
        await client.connected()
        assert await eventually(lambda: bool(told))
        assert await eventually(lambda: any(each.sequences for each in client.received.values()))
        assert told == [State.CONNECTED]
        await client.close()
