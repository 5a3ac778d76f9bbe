"""Films by WHEP: pausing, going on, going elsewhere, each viewer for itself."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tests.unit.gateway.http.stand import AUDIO_TRACK, Reply, Stand, standing, watching
from tests.unit.gateway.http.tested_film import TestedFilm

from callboard.gateway.film import NotSteered
from callboard.gateway.live import LiveStream, StreamDescription

TOKEN = "watch-me"


@asynccontextmanager
async def film(stand: Stand) -> AsyncIterator[tuple[str, TestedFilm]]:
    """The path of a session that watches a film, and the film."""
    made = TestedFilm()

    async def open(description: StreamDescription) -> LiveStream:
        live = stand.streams.open_personal(description, "films")
        live.film = made
        return live

    stand.streams.offer(StreamDescription("clip", "Clip", (AUDIO_TRACK,), True), open)
    async with watching(stand, "clip", ["audio"]) as (_, reply):
        yield reply.headers["Location"], made


def told(reply: Reply) -> dict[str, object]:
    assert reply.status == 200, reply.body
    assert reply.headers["Content-Type"] == "application/json"
    assert reply.headers["Cache-Control"] == "no-store"
    found: dict[str, object] = json.loads(reply.body)
    return found


async def test_a_film_is_paused_sought_in_and_started() -> None:
    async with standing() as stand, film(stand) as (path, _):
        at_first = {"state": "playing", "position_s": 0.0, "duration_s": 60.0}
        assert told(await stand.ask("GET", f"{path}/progress")) == at_first
        assert told(await stand.ask("POST", f"{path}/pause")) == at_first | {"state": "paused"}
        sought = await stand.ask("POST", f"{path}/seek", b'{"position_s": 12.5}')
        assert told(sought) == at_first | {"state": "paused", "position_s": 12.5}
        assert told(await stand.ask("POST", f"{path}/start"))["state"] == "playing"
        assert told(await stand.ask("GET", f"{path}/progress"))["position_s"] == 12.5


@pytest.mark.parametrize(
    "body", [b"", b"{}", b'{"position_s": -1}', b'{"position_s": "1"}', b'{"position_s": 1e99}']
)
async def test_a_position_that_is_none_is_refused(body: bytes) -> None:
    async with standing() as stand, film(stand) as (path, made):
        assert (await stand.ask("POST", f"{path}/seek", body)).status == 400
        assert made.now.position_s == 0.0


async def test_a_live_stream_is_no_film() -> None:
    async with standing() as stand:
        await stand.playing()
        async with watching(stand) as (_, reply):
            path = reply.headers["Location"]
            refused = [await stand.ask("POST", f"{path}/{verb}") for verb in ("pause", "start")]
            refused.append(await stand.ask("GET", f"{path}/progress"))
            for answer in refused:
                assert answer.status == 409
                assert "live" in answer.text


async def test_what_plays_it_may_refuse_or_be_gone() -> None:
    async with standing() as stand, film(stand) as (path, made):
        made.failing = NotSteered("409 it cannot be sought in")
        refused = await stand.ask("POST", f"{path}/seek", b'{"position_s": 1}')
        assert (refused.status, "cannot be sought" in refused.text) == (409, True)
        made.failing = ConnectionError("the sidecar does not play it: no answer in time")
        gone = await stand.ask("POST", f"{path}/pause")
        assert (gone.status, gone.headers["Retry-After"]) == (503, "5")


async def test_a_session_that_is_not_there_plays_nothing() -> None:
    async with standing() as stand, film(stand) as (path, _):
        for other in ("/whep/clip/nobody", path.replace("clip", "test")):
            assert (await stand.ask("POST", f"{other}/pause")).status == 404
            assert (await stand.ask("GET", f"{other}/progress")).status == 404


async def test_it_wants_the_token_of_viewers() -> None:
    async with standing(watch_token=TOKEN) as stand:
        for method, path in (("POST", "/whep/a/b/pause"), ("GET", "/whep/a/b/progress")):
            assert (await stand.ask(method, path)).status == 401
            allowed = await stand.ask(method, path, Authorization=f"Bearer {TOKEN}")
            assert allowed.status == 404
