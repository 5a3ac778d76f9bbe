"""The control port of a sidecar, over HTTP."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.harness.eventually import eventually
from tests.unit.gateway.sources.sending import LASTS_S, TestedSidecar, described
from tests.unit.gateway.sources.serving import serving

from callboard.gateway.film import NotSteered
from callboard.gateway.live import StreamDescription, TrackDescription
from callboard.gateway.sdp.codecs import Codec
from callboard.gateway.sources.control import Control, Controls, parse_streams
from callboard.gateway.sources.instances import Instance
from callboard.gateway.sources.keeping import ControlError, Gone, LeaseUnknown
from callboard.gateway.sources.sidecars import Listed
from callboard.media.leases import Progress, State

LISTS = [
    Listed(described("cam")),
    Listed(described("film", on_demand=True)),
    Listed(described("clip", on_demand=True), per_viewer=True),
    Listed(described("old", problem="AAC cannot be played")),
]


@asynccontextmanager
async def control(sidecar: TestedSidecar) -> AsyncIterator[Control]:
    async with serving(sidecar) as port:
        made = Controls().connect(Instance("sidecar-1", "127.0.0.1", port))
        try:
            yield made
        finally:
            await made.close()
            sidecar.forget_leases()


async def test_what_a_sidecar_lists_arrives_whole() -> None:
    async with control(TestedSidecar(lists=LISTS)) as it:
        assert list(await it.streams()) == LISTS


async def test_a_lease_is_taken_renewed_and_given_back() -> None:
    sidecar = TestedSidecar(lists=LISTS)
    async with control(sidecar) as it:
        lease, lasts_s = await it.take("cam", {"audio": 40_000})
        assert lasts_s == LASTS_S
        assert sidecar.leases[lease].ports == {"audio": 40_000}
        assert await it.renew(lease) == LASTS_S
        await it.release(lease)
        assert sidecar.leases == {}
        with pytest.raises(LeaseUnknown, match="404"):
            await it.renew(lease)
        with pytest.raises(LeaseUnknown):
            await it.release("../streams")


async def test_a_film_is_paused_sought_in_and_started() -> None:
    sidecar = TestedSidecar(lists=LISTS, films=frozenset({"clip"}))
    async with control(sidecar) as it:
        lease, _ = await it.take("clip", {"audio": 40_000})
        assert await it.progress(lease) == Progress(State.PLAYING, 0.0, 60.0)
        assert await it.pause(lease) == Progress(State.PAUSED, 0.0, 60.0)
        assert await it.seek(lease, 12.5) == Progress(State.PAUSED, 12.5, 60.0)
        assert await it.start(lease) == Progress(State.PLAYING, 12.5, 60.0)
        assert await it.progress(lease) == Progress(State.PLAYING, 12.5, 60.0)


async def test_what_is_no_film_is_not_steered() -> None:
    async with control(TestedSidecar(lists=LISTS)) as it:
        lease, _ = await it.take("cam", {"audio": 40_000})
        for refused in (it.progress(lease), it.start(lease), it.pause(lease), it.seek(lease, 1.0)):
            with pytest.raises(NotSteered):
                await refused
        for unknown in (it.progress("no"), it.start("no"), it.pause("no"), it.seek("no", 1.0)):
            with pytest.raises(LeaseUnknown):
                await unknown


async def test_an_answer_that_refuses_says_why() -> None:
    sidecar = TestedSidecar()
    async with control(sidecar) as it:
        sidecar.failing = ControlError("broken")
        with pytest.raises(ControlError, match="500") as failed:
            await it.streams()
        assert not isinstance(failed.value, Gone | LeaseUnknown)


async def test_a_sidecar_that_is_revoked_is_left() -> None:
    controls = Controls()
    sidecar = TestedSidecar(lists=LISTS)
    async with serving(sidecar) as port:
        it = controls.connect(Instance("sidecar-1", "127.0.0.1", port))
        await it.streams()
        controls.judge(lambda certificate: "revoked")  # (it has none: nothing is cut)
        await it.streams()
        await it.close()
    await eventually(lambda: sidecar.asked == 2)


TRACK = {"id": "video", "kind": "video", "codec": "VP8", "clock_rate": 90_000}


def test_what_is_not_said_has_its_default() -> None:
    answer = {"streams": [{"name": "cam", "tracks": [TRACK], "more": 1}], "more": 2}
    (cam,) = parse_streams(json.dumps(answer).encode())
    track = TrackDescription("video", Codec("video", "VP8", 90_000))
    assert cam == Listed(StreamDescription("cam", "cam", (track,)))


@pytest.mark.parametrize(
    ("stream", "why"),
    [
        ({"name": "cam"}, "tracks"),
        ({"name": "cam", "tracks": [TRACK, TRACK]}, "a track is there twice"),
        ({"name": "cam", "tracks": [{**TRACK, "kind": "text"}]}, "no track of 'text'"),
        ({"name": "cam", "tracks": [{**TRACK, "id": str(n)} for n in range(9)]}, "at most 8"),
        ({"name": "cam", "tracks": [{**TRACK, "clock_rate": "fast"}]}, "clock_rate is a number"),
    ],
)
def test_what_cannot_be_is_refused_in_words(stream: dict[str, object], why: str) -> None:
    with pytest.raises(ControlError, match=why):
        parse_streams(json.dumps({"streams": [stream]}).encode())


def test_a_stream_without_tracks_is_listed_as_not_playable() -> None:
    (cam,) = parse_streams(b'{"streams": [{"name": "cam", "tracks": []}]}')
    assert cam.description.problem == "it has no track"


def test_too_many_streams_are_refused() -> None:
    streams = [{"name": f"cam-{n}", "tracks": []} for n in range(257)]
    with pytest.raises(ControlError, match="256"):
        parse_streams(json.dumps({"streams": streams}).encode())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from([*TRACK, "name", "tracks", "problem"]), inner)
    ),
    max_leaves=12,
)


@given(st.binary(max_size=200) | JSON.map(lambda it: json.dumps({"streams": it}).encode()))
def test_any_answer_is_a_list_or_refused_in_words(answer: bytes) -> None:
    try:
        parse_streams(answer)
    except ControlError as problem:
        assert str(problem)
