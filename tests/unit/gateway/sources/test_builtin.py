"""The stream of the built-in pattern."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tests.harness.eventually import eventually
from tests.unit.gateway.sources.viewing import Viewer, keeping_streams, kept

from callboard.gateway.live import LiveStream, StreamDescription, Streams
from callboard.gateway.sources.builtin import DESCRIPTION, NAME, SOURCE, BuiltInStream


@pytest.fixture
def streams() -> Streams:
    return keeping_streams()


@asynccontextmanager
async def running(streams: Streams, kept_s: float = 60.0) -> AsyncIterator[BuiltInStream]:
    built_in = BuiltInStream(streams, random.Random(1), kept_s=kept_s)
    built_in.start()
    try:
        yield built_in
    finally:
        await built_in.stop()


async def found(streams: Streams) -> LiveStream:
    await eventually(lambda: streams.find(NAME) is not None)
    live = streams.find(NAME)
    assert live is not None
    return live


async def test_it_is_on_the_list_says_what_it_is_and_makes_nothing(streams: Streams) -> None:
    async with running(streams) as built_in:
        live = await found(streams)
        assert (live.source, live.online) == (SOURCE, False)
        assert "built-in" in live.description.title
        assert live.description.on_demand
        assert not built_in.pattern.running


async def test_it_is_made_while_somebody_watches(streams: Streams) -> None:
    async with running(streams, kept_s=0.0) as built_in:
        live = await found(streams)
        viewer = Viewer(live)
        await eventually(lambda: kept(live, "audio") and kept(live, "video"))
        assert live.online
        assert kept(live, "video")[0].keyframe
        viewer.leave()
        await eventually(lambda: not built_in.pattern.running)
        assert (live.online, live.reason) == (False, "nobody watches")


async def test_who_comes_back_meanwhile_finds_it_running(streams: Streams) -> None:
    async with running(streams) as built_in:
        live = await found(streams)
        viewer = Viewer(live)
        await eventually(lambda: live.online)
        viewer.leave()
        thread = built_in.pattern.running
        Viewer(live)
        assert thread
        assert built_in.pattern.running


async def test_a_keyframe_comes_when_a_viewer_needs_one(streams: Streams) -> None:
    async with running(streams):
        live = await found(streams)
        Viewer(live)
        await eventually(lambda: len(kept(live, "video")) > 5)
        before = len(kept(live, "video"))
        live.on_keyframe_wanted("video")
        await eventually(lambda: any(it.keyframe for it in kept(live, "video")[before:]), 1.5)


async def test_the_tracks_have_a_clock_in_common(streams: Streams) -> None:
    async with running(streams):
        live = await found(streams)
        Viewer(live)
        await eventually(lambda: all(track.track.clock() for track in live.tracks.values()))


async def test_it_makes_way_for_a_sidecar_and_comes_back_with_its_viewers(
    streams: Streams,
) -> None:
    async with running(streams) as built_in:
        live = await found(streams)
        viewer = Viewer(live)
        await eventually(lambda: live.online)
        built_in.make_way("another")
        assert live.source == SOURCE
        built_in.make_way(NAME)
        theirs = streams.open(DESCRIPTION, "sidecar-1")
        assert theirs is live
        await eventually(lambda: not built_in.pattern.running)
        assert live.source == "sidecar-1"
        streams.close(theirs, "the sidecar has gone", 0.0)
        await eventually(lambda: live.source == SOURCE)
        await eventually(lambda: live.online)
        assert viewer.ended == ""


async def test_a_publisher_of_the_same_name_keeps_it(streams: Streams) -> None:
    described = StreamDescription(NAME, "", DESCRIPTION.tracks)
    theirs = streams.open(described, "a publisher")
    async with running(streams):
        await asyncio.sleep(0)
        assert theirs.source == "a publisher"
        assert streams.find(NAME) is theirs


async def test_when_the_gateway_stops_it_is_off_the_list(streams: Streams) -> None:
    async with running(streams) as built_in:
        Viewer(await found(streams))
    assert not built_in.pattern.running
    live = streams.find(NAME)
    assert live is not None
    assert live.source == ""
