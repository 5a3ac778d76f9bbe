"""The gateway as a program, in the test's own process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.harness.asking import http
from tests.harness.certified import CA
from tests.harness.eventually import eventually
from tests.harness.gateway_process import GatewayProcess
from tests.harness.in_process import identity_of, running, shown_by
from tests.harness.routed import Place
from tests.harness.sockets import free_port
from tests.harness.sse_hub import HubProcess
from tests.unit.gateway.http.stand import Player
from tests.unit.gateway.sources.sending import TestedSidecar, described
from tests.unit.gateway.sources.serving import serving

from callboard.chassis.lifecycle import StartRefused
from callboard.events import subscribe
from callboard.gateway.service import GatewayProgram
from callboard.gateway.settings import GatewaySettings
from callboard.gateway.sources.sidecars import Listed


@pytest.fixture
def settings() -> GatewaySettings:
    return GatewaySettings(port=0, media_port=0, node="gateway-1", pattern=True)


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
        yield session


def url(gateway: GatewayProgram, path: str) -> str:
    return f"http://127.0.0.1:{gateway.servers[0].port}{path}"


async def streams_of(client: aiohttp.ClientSession, url: str) -> dict[str, dict[str, Any]]:
    async with client.get(url) as answer:
        return {stream["name"]: stream for stream in await answer.json()}


@contextlib.asynccontextmanager
async def watching(client: aiohttp.ClientSession, url: str) -> AsyncIterator[Player]:
    """A player of a stream, which has the gateway's answer."""
    player = Player()
    try:
        offer, sdp = await player.offer(), {"Content-Type": "application/sdp"}
        async with client.post(url, data=offer, headers=sdp) as answer:
            assert answer.status == 201, await answer.text()
            await player.accept(await answer.text())
        yield player
    finally:
        await player.close()


async def test_the_built_in_pattern_is_listed_and_plays(
    settings: GatewaySettings, client: aiohttp.ClientSession
) -> None:
    async with running(GatewayProgram(settings)) as gateway:
        listed = await streams_of(client, url(gateway, "/streams"))
        assert list(listed) == ["test-pattern"]
        assert listed["test-pattern"]["playable"]
        async with watching(client, url(gateway, "/whep/test-pattern")) as player:
            await eventually(
                lambda: player.frames["video"] > 10 and player.frames["audio"] > 10, 30
            )
            metrics = gateway.metrics.text().decode()
            assert 'callboard_gateway_viewers{stream="test-pattern"} 1.0' in metrics
            assert 'callboard_gateway_streams{state="online"} 1.0' in metrics
            assert "callboard_gateway_joins_total 1.0" in metrics
            await eventually(lambda: sent(gateway) > 0)
            before = sent(gateway)

        await eventually(
            lambda: 'viewers{stream="test-pattern"} 0.0' in gateway.metrics.text().decode()
        )
        assert sent(gateway) >= before  # a sum never goes down, though the viewer has gone


def sent(gateway: GatewayProgram) -> float:
    told = gateway.metrics.text().decode().splitlines()
    (line,) = (each for each in told if each.startswith("callboard_gateway_sent_packets_total "))
    return float(line.rpartition(" ")[2])


async def test_viewers_are_told_good_bye_when_it_stops(
    settings: GatewaySettings, client: aiohttp.ClientSession
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        async with running(GatewayProgram(settings)) as gateway:
            player = await stack.enter_async_context(
                watching(client, url(gateway, "/whep/test-pattern"))
            )
            await eventually(lambda: player.frames["video"], 30)
        await eventually(lambda: player.connection.connectionState == "closed")


async def test_what_happens_is_told_to_a_hub(
    settings: GatewaySettings, client: aiohttp.ClientSession, tmp_path: Path
) -> None:
    with HubProcess(tmp_path / "hub") as hub:
        topic = "/media/streams/test-pattern"
        async with (
            running(GatewayProgram(replace(settings, hub=hub.url))) as gateway,
            watching(client, url(gateway, "/whep/test-pattern")),
        ):
            await eventually(lambda: hub.figures()["published"] >= 3, 30)
        events = []
        async with subscribe(topic, hub=hub.url, since="1h") as stream, asyncio.timeout(20):
            async for event in stream:
                events.append(json.loads(event.data))
                if events[-1]["event"] == "down":
                    break
    assert {"viewers", "up", "keyframe"} <= {event["event"] for event in events}
    assert {event["stream"] for event in events} == {"test-pattern"}


async def test_readiness_is_told_on_its_own_port(
    settings: GatewaySettings, client: aiohttp.ClientSession
) -> None:
    port = free_port()
    async with running(GatewayProgram(replace(settings, health=("127.0.0.1", port)))):
        async with client.get(f"http://127.0.0.1:{port}/readyz") as answer:
            assert answer.status == 200
        async with client.get(f"http://127.0.0.1:{port}/metrics") as answer:
            assert "callboard_gateway_events_dropped_total" in await answer.text()


async def test_an_address_to_advertise_that_is_not_found_is_a_remark(
    settings: GatewaySettings, client: aiohttp.ClientSession
) -> None:
    port = free_port()
    lost = replace(
        settings, health=("127.0.0.1", port), advertised=("127.0.0.1", "nowhere.invalid")
    )
    async with (
        running(GatewayProgram(lost)),
        client.get(f"http://127.0.0.1:{port}/readyz") as answer,
    ):
        told = await answer.text()
        assert answer.status == 200
        assert "media port: no address is known of nowhere.invalid" in told


async def test_scripts_have_a_stream_where_they_have_ports(
    settings: GatewaySettings, client: aiohttp.ClientSession
) -> None:
    ports = replace(settings, rtp_port=free_port(), rtp_audio_port=free_port(), pattern=False)
    async with running(GatewayProgram(ports)) as gateway:
        assert list(await streams_of(client, url(gateway, "/streams"))) == ["gst-script"]


async def test_a_sidecar_of_the_catalog_is_found_and_comes_back_within_five_seconds(
    settings: GatewaySettings, client: aiohttp.ClientSession, tmp_path: Path
) -> None:
    place = Place(tmp_path)
    sidecar = TestedSidecar(lists=[Listed(described("cam"))])
    with place.catalog():
        found = replace(
            settings,
            catalog=(f"http://{place.agent}:8500",),
            register=True,
            advertise="127.0.0.1",
        )
        async with running(GatewayProgram(found)) as gateway:
            where = url(gateway, "/streams")

            async def reaches(wanted: str, timeout_s: float) -> None:
                async def is_there() -> bool:
                    listed = await streams_of(client, where)
                    return "cam" in listed and bool(listed["cam"]["state"] == wanted)

                reached: bool = await eventually(is_there, timeout_s)
                assert reached

            async with serving(sidecar) as port:
                register(place, port)
                await reaches("live", 20)
                assert 'streams{state="online"} 1.0' in gateway.metrics.text().decode()
                viewer = await connected_viewer(client, gateway)
            sidecar.forget_leases()
            await reaches("offline", 5)
            async with serving(sidecar, port=port):
                await reaches("live", 5)
                assert viewer.connection.connectionState == "connected"
                await viewer.close()
                entries = http("GET", place.api("health/service/gateway?passing")).json()
                assert [it["Service"]["ID"] for it in entries] == ["gateway-gateway-1"]
        sidecar.forget_leases()
        assert http("GET", place.api("health/service/gateway")).json() == []


async def connected_viewer(client: aiohttp.ClientSession, gateway: GatewayProgram) -> Player:
    """A player of the sidecar's stream, connected; to be closed."""
    player = Player(["audio"])
    sdp = {"Content-Type": "application/sdp"}
    async with client.post(
        url(gateway, "/whep/cam"), data=await player.offer(), headers=sdp
    ) as answer:
        assert answer.status == 201, await answer.text()
        await player.accept(await answer.text())
    await eventually(lambda: player.connection.connectionState == "connected", 20)
    return player


def register(place: Place, port: int) -> None:
    body = {
        "Name": "sidecar",
        "ID": "sidecar-1",
        "Address": "127.0.0.1",
        "Port": port,
        "Check": {"TTL": "1h", "Status": "passing"},
    }
    answer = http("PUT", place.api("agent/service/register"), json.dumps(body).encode())
    assert answer.status == 200, answer


async def test_tokens_are_read_from_their_files(
    settings: GatewaySettings, client: aiohttp.ClientSession, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("a-secret\n")
    async with running(GatewayProgram(replace(settings, whep_token=token))) as gateway:
        where, sdp = url(gateway, "/whep/test-pattern"), {"Content-Type": "application/sdp"}
        async with client.post(where, data="v=0", headers=sdp) as answer:
            assert answer.status == 401
        shown = {**sdp, "Authorization": "Bearer a-secret"}
        async with client.post(where, data="v=0", headers=shown) as answer:
            assert answer.status == 400


async def test_other_programs_come_by_mutual_tls(
    settings: GatewaySettings, client: aiohttp.ClientSession, tmp_path: Path
) -> None:
    authority = CA(constraints=None)
    identity = identity_of(authority, tmp_path / "own", "gateway", "g")
    shown = shown_by(authority, tmp_path / "front", "fileserver")
    async with running(
        GatewayProgram(replace(settings, identity=identity, https_port=0))
    ) as gateway:
        inner = f"https://127.0.0.1:{gateway.servers[1].port}/streams"
        async with client.get(inner, ssl=shown) as answer:
            assert answer.status == 200
        with pytest.raises(aiohttp.ClientError):
            await client.get(inner, ssl=False)


async def test_a_stranger_s_host_is_refused(
    settings: GatewaySettings, client: aiohttp.ClientSession
) -> None:
    async with running(
        GatewayProgram(replace(settings, allowed_hosts=("farm.example",)))
    ) as gateway:
        for host, status in (("evil.example", 403), ("farm.example", 200), ("gateway-1", 200)):
            async with client.get(url(gateway, "/streams"), headers={"Host": host}) as answer:
                assert answer.status == status, host


@pytest.mark.parametrize(
    "name", ["whep_token", "whip_token", "hub_token", "turn_secret", "streams"]
)
async def test_files_that_are_not_there_are_named(
    settings: GatewaySettings, name: str, tmp_path: Path
) -> None:
    missing = replace(settings, **{name: tmp_path / "missing"})  # type: ignore[arg-type]  # by name
    with pytest.raises(StartRefused, match="missing"):
        async with running(GatewayProgram(missing)):
            pass


async def test_a_token_that_is_none_is_refused(settings: GatewaySettings, tmp_path: Path) -> None:
    token = tmp_path / "token"
    for text, why in (("", "no token"), ("two words", "blanks"), ("x" * 5000, "no token")):
        token.write_text(text)
        with pytest.raises(StartRefused, match=why):
            async with running(GatewayProgram(replace(settings, whip_token=token))):
                pass


async def test_streams_that_cannot_be_read_are_told_where(
    settings: GatewaySettings, tmp_path: Path
) -> None:
    path = tmp_path / "streams.toml"
    path.write_text('[[streams]]\nname = "a"\ntracks = [{ codec = "MP3", port = 1 }]\n')
    with pytest.raises(StartRefused, match=r"streams.toml: stream a: codec is one of"):
        async with running(GatewayProgram(replace(settings, streams=path))):
            pass


async def test_ports_that_are_taken_are_named(settings: GatewaySettings) -> None:
    async with running(GatewayProgram(replace(settings, rtp_port=free_port()))) as gateway:
        port = gateway.servers[0].port
        with pytest.raises(StartRefused, match=f"cannot listen on 127.0.0.1:{port}"):
            async with running(GatewayProgram(replace(settings, port=port))):
                pass
        assert gateway.sources.ports[0].ports is not None
        rtp = gateway.sources.ports[0].ports.numbers["video"]
        with pytest.raises(StartRefused, match="gst-script"):
            async with running(GatewayProgram(replace(settings, rtp_port=rtp))):
                pass


def test_as_a_process_it_lists_its_streams_and_ends_in_order(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path / "gateway", "-pattern") as gateway:
        assert sorted(gateway.streams()) == ["gst-script", "test-pattern"]
        assert gateway.metric('callboard_gateway_streams{state="on demand"}') == 1.0
        assert gateway.end(signal.SIGTERM) == 0
    assert "left over" not in gateway.log
    assert "Traceback" not in gateway.log
