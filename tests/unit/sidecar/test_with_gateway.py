"""The sidecar and the gateway together, as processes that find each other in a catalog; films are
watched by WHEP, and a network camera is another than it was taken for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from tests.harness.capabilities import require
from tests.harness.eventually import eventually, eventually_sync
from tests.harness.gateway_process import WITHIN_S, GatewayProcess
from tests.harness.routed import Place
from tests.harness.sockets import free_port
from tests.harness.webrtc_client import WebRtcClient
from tests.unit.sidecar.sidecar_process import encode, running
from tests.unit.sidecar.test_cameras import camera, cameras
from tests.unit.sidecar.test_films import OPUS, VP8

from callboard.media.rtp import distance

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def camera_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, camera_port: int) -> Iterator[GatewayProcess]:
    require("linux", "gst-launch-1.0", "python3-gi")
    folder = tmp_path_factory.mktemp("films")
    encode("webmmux", folder / "film.webm", VP8, OPUS)
    streams = folder / "streams.toml"
    streams.write_text(
        '[[streams]]\nname = "film"\nsource = "file"\npath = "film.webm"\nper_viewer = true\n'
        + camera("gate", camera_port, "/reordered", "")
    )
    place = Place(folder)
    catalog = f"-catalog=http://{place.agent}:8500"
    host = f"{place.network}.8"
    with (
        place.catalog(),
        running(folder, f"-streams={streams}", catalog),
        GatewayProcess(folder / "gateway", catalog, host=host) as made,
    ):
        eventually_sync(lambda: "film" in made.streams(), WITHIN_S)
        yield made


class Session:
    """Who watches the film."""

    def __init__(self, http: aiohttp.ClientSession, url: str, client: WebRtcClient) -> None:
        self._http = http
        self._url = url
        self.client = client

    async def ask(self, method: str, verb: str, body: object = None) -> dict[str, Any]:
        async with self._http.request(method, f"{self._url}/{verb}", json=body) as answer:
            assert answer.status == 200, await answer.text()
            told: dict[str, Any] = await answer.json()
            return told

    async def position_s(self) -> float:
        return float((await self.ask("GET", "progress"))["position_s"])

    def packets(self) -> int:
        return sum(len(each.sequences) for each in self.client.received.values())


@asynccontextmanager
async def watching(gateway: GatewayProcess) -> AsyncIterator[Session]:
    client = await WebRtcClient.open(video="recvonly", audio="recvonly")
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(20)) as http:
        sdp = {"Content-Type": "application/sdp"}
        try:
            url = f"{gateway.url}/whep/film"
            async with http.post(url, data=client.offer, headers=sdp) as answer:
                assert answer.status == 201, await answer.text()
                await client.accept(await answer.text())
                where = f"{gateway.url}{answer.headers['Location']}"
            await client.connected()
            yield Session(http, where, client)
            async with http.delete(where) as answer:
                assert answer.status == 200
        finally:
            await client.close()


async def test_a_film_begins_at_its_beginning_for_each_viewer(gateway: GatewayProcess) -> None:
    async with watching(gateway) as first:
        await eventually(lambda: first.packets() > 50, WITHIN_S)

        async def later() -> bool:
            return await first.position_s() > 2.0

        reached: bool = await eventually(later, WITHIN_S)
        assert reached
        async with watching(gateway) as second:
            await eventually(lambda: second.packets() > 20, WITHIN_S)
            assert await second.position_s() < await first.position_s() - 0.5


async def test_a_viewer_pauses_goes_elsewhere_and_goes_on_as_one_source(
    gateway: GatewayProcess,
) -> None:
    async with watching(gateway) as session:
        await eventually(lambda: session.packets() > 50, WITHIN_S)
        assert (await session.ask("POST", "pause"))["state"] == "paused"
        count = -1

        def silent() -> bool:
            nonlocal count
            before, count = count, session.packets()
            return before == count

        await eventually(silent, WITHIN_S)
        assert (await session.ask("POST", "seek", {"position_s": 5.0}))["state"] == "paused"
        assert (await session.ask("POST", "start"))["state"] == "playing"
        await eventually(lambda: session.packets() > count + 50, WITHIN_S)
        assert await session.position_s() >= 4.0
        assert len(session.client.received) == 2, "a track goes on with its SSRC"
        for track in session.client.received.values():
            steps = [
                distance(later, earlier, 32)
                for earlier, later in zip(track.timestamps, track.timestamps[1:], strict=False)
            ]
            assert min(steps) >= 0, "timestamps never go back"


def test_a_camera_that_reorders_is_taken_anew_with_its_new_codec(
    gateway: GatewayProcess, camera_port: int
) -> None:
    require("gst-rtsp-server")

    def codec() -> str:
        return str(gateway.streams()["gate"]["tracks"][0]["codec"])

    eventually_sync(lambda: codec() == "H264", WITHIN_S)
    with cameras(camera_port):
        eventually_sync(lambda: codec() == "VP8", 2 * WITHIN_S)
        eventually_sync(lambda: gateway.streams()["gate"]["state"] == "live", WITHIN_S)
        eventually_sync(lambda: gateway.streams()["gate"]["tracks"][0]["keyframes"], WITHIN_S)
