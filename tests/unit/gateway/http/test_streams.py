"""GET /streams and what is below it; the API's description."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

from tests.harness.eventually import eventually
from tests.unit.gateway.http.stand import AUDIO_TRACK, VIDEO_TRACK, Stand, standing, watching

from callboard.gateway.live import LiveStream, StreamDescription
from callboard.gateway.sources.rtp import RtpSender


async def read(stand: Stand, path: str) -> Any:
    reply = await stand.ask("GET", path)
    assert reply.status == 200 and reply.headers["Content-Type"] == "application/json"
    return json.loads(reply.body)


async def test_without_streams_the_list_is_empty() -> None:
    async with standing() as stand:
        assert await read(stand, "/streams") == []


async def test_the_list_has_every_stream_with_its_state_and_why() -> None:
    async with standing() as stand:

        async def open_film(description: StreamDescription) -> LiveStream:
            return stand.streams.open_personal(description, "film")

        stand.stream("c").frame()
        stand.stream("d", on_demand=True)
        stand.stream("b", VIDEO_TRACK)
        stand.streams.open(StreamDescription("a", "A", (AUDIO_TRACK,), problem="AAC"), "s")
        stand.streams.offer(StreamDescription("e", "E", (VIDEO_TRACK,)), open_film)
        listed = await read(stand, "/streams")
        assert [(one["name"], one["state"], one["playable"], one["reason"]) for one in listed] == [
            ("a", "not playable", False, "AAC"),
            ("b", "offline", True, "nothing has come yet"),
            ("c", "live", True, ""),
            ("d", "on demand", True, "nothing has come yet"),
            ("e", "on demand", True, ""),
        ]
        assert listed[2]["tracks"][0]["codec"] == "VP8"
        assert listed[0]["tracks"][0]["codec"] == "opus"


async def test_one_stream_has_its_viewers_with_their_figures() -> None:
    async with standing() as stand:
        await stand.playing()
        async with watching(stand) as (player, _):
            assert await eventually(lambda: player.frames["video"] > 5)
            told = await read(stand, "/streams/test")
            assert told["viewers"] == 1 and told["bits_per_second"] > 0
            (session,) = told["sessions"]
            assert (session["state"], session["transport"]) == ("connected", "udp")
            assert session["client"] == "127.0.0.1" and session["slow"] is None
            figures = {track["track"]: track for track in session["tracks"]}
            assert figures["video"]["packets"] > 0 and figures["video"]["dropped"] == 0
            tracks = {track["id"]: track for track in told["tracks"]}
            assert tracks["video"]["keyframes"] > 0 and tracks["video"]["missing"] == 0


async def test_a_track_that_falls_silent_beside_another_is_told() -> None:
    """The stream is live as long as one track is."""
    async with standing() as stand:
        live, sender = stand.stream("test").live, RtpSender(96, 90_000, random.Random(1))
        (packet,) = sender.packets([b"\x10\x00key"], 0, marker=True)

        async def told() -> dict[str, tuple[bool, float | None]]:
            tracks = (await read(stand, "/streams/test"))["tracks"]
            return {track["id"]: (track["live"], track["silent_s"]) for track in tracks}

        assert await told() == {"video": (False, None), "audio": (False, None)}
        now = asyncio.get_running_loop().time()
        live.take("video", packet, now - 9.5)
        live.take("audio", packet, now)
        tracks = await told()
        assert tracks["audio"][0] and not tracks["video"][0]
        silent_s = tracks["video"][1]
        assert silent_s is not None and 9.5 <= silent_s < 20
        assert (await read(stand, "/streams"))[0]["state"] == "live"


async def test_what_is_not_there_is_404_and_what_is_not_done_405() -> None:
    async with standing() as stand:
        stand.stream("a").frame()
        for path in ("/streams/b", "/streams/a/b", "/streams/a/snapshot.jpg", "/", "/nothing"):
            assert (await stand.ask("GET", path)).status == 404, path
        for path in ("/streams", "/streams/a"):
            reply = await stand.ask("POST", path, b"{}")
            assert (reply.status, reply.headers["Allow"]) == (405, "GET, HEAD, OPTIONS")


async def test_the_description_names_all_paths() -> None:
    async with standing() as stand:
        described = await read(stand, "/openapi.json")
        assert set(described["paths"]) >= {
            "/whep/{stream}", "/whip/{stream}", "/streams", "/streams/{name}",
            "/whep/{stream}/{session}/sse/{events}",
        }  # fmt: skip
        page = await stand.ask("GET", "/docs")
        assert page.status == 200 and b"WHEP" in page.body
