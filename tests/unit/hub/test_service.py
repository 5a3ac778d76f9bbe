"""The hub as a program, in the test's own process."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.harness.certified import CA
from tests.harness.eventually import eventually
from tests.harness.in_process import identity_of, running, shown_by
from tests.harness.sockets import free_port

from callboard.chassis.lifecycle import StartRefused
from callboard.events.parser import Parser
from callboard.hub.service import HubProgram
from callboard.hub.settings import HubSettings
from callboard.pki import certificates


@pytest.fixture
def settings(tmp_path: Path) -> HubSettings:
    return HubSettings(port=0, data_dir=tmp_path / "hub", node="hub-1")


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
        yield session


def url(hub: HubProgram, path: str, scheme: str = "http") -> str:
    return f"{scheme}://127.0.0.1:{hub.servers[0].port}{path}"


async def test_what_is_published_is_there_after_a_restart(
    settings: HubSettings, client: aiohttp.ClientSession
) -> None:
    async with (
        running(HubProgram(settings)) as hub,
        client.post(url(hub, "/t/a"), data=b"one") as answer,
    ):
        first = (await answer.text()).strip()
    async with running(HubProgram(settings)) as hub:
        async with client.post(url(hub, "/t/a"), data=b"two") as answer:
            second = (await answer.text()).strip()
        query = {"poll": "10", "lastEventID": "earliest"}
        async with client.get(url(hub, "/t/a"), params=query) as answer:
            events = Parser().feed(await answer.read())
    told = [(each.id, each.data) for each in events if not each.type.startswith("hub.")]
    assert told == [(first, "one"), (second, "two")]
    assert first.endswith(".1")
    assert second.endswith(".2")


async def test_relative_topics_are_relative_to_the_resource(
    settings: HubSettings, client: aiohttp.ClientSession
) -> None:
    known = replace(settings, resource="https://hub.example/.well-known/mercure")
    query = {"match_urlpattern": "https://hub.example/books/:id"}
    async with running(HubProgram(known)) as hub:
        stream = await client.get(url(hub, "/.well-known/mercure"), params=query)
        await client.post(url(hub, "/t/books/1"), data=b"one")
        assert b"data: one" in await stream.content.readuntil(b"one\n")
        stream.close()


async def test_a_stop_ends_streams_in_order(settings: HubSettings) -> None:
    async with aiohttp.ClientSession(read_bufsize=1 << 20) as session:
        async with running(HubProgram(settings)) as hub:
            stream = await session.get(url(hub, "/t/a"))
            await eventually(lambda: hub.servers[0].connections == 1)
        body = await stream.read()  # (an answer that breaks off raises)
    assert Parser().feed(body)[-1].type == "hub.bye"


async def test_readiness_and_figures_are_told_on_their_own_port(
    settings: HubSettings, client: aiohttp.ClientSession
) -> None:
    port = free_port()
    async with running(HubProgram(replace(settings, health=("127.0.0.1", port)))) as hub:
        async with client.post(url(hub, "/t/a"), data=b"x"):
            pass
        async with client.get(f"http://127.0.0.1:{port}/readyz") as answer:
            assert answer.status == 200
        async with client.get(f"http://127.0.0.1:{port}/metrics") as answer:
            metrics = await answer.text()
            assert "callboard_hub_published_total 1.0" in metrics
            assert "callboard_hub_catalog_age_seconds -1.0" in metrics
            assert "callboard_hub_gaps_total 0.0" in metrics
        async with client.get(url(hub, "/stats")) as answer:
            figures = await answer.json()
    assert (figures["published"], figures["history"]["head"]) == (1, 1)
    assert figures["topics"] == [{"topic": "/a", "published": 1}]


async def test_streams_deliveries_gaps_and_ends_are_counted(
    settings: HubSettings, client: aiohttp.ClientSession
) -> None:
    async def told(hub: HubProgram) -> dict[str, Any]:
        async with client.get(url(hub, "/stats")) as answer:
            found: dict[str, Any] = await answer.json()
            return found

    async with running(HubProgram(settings)) as hub:
        async with client.get(url(hub, "/t/a"), headers={"Last-Event-ID": "#gone.7"}) as stream:
            parser, types = Parser(), list[str]()

            async def read(wanted: str) -> None:
                while wanted not in types:
                    events = parser.feed(await stream.content.readany())
                    types.extend(event.type for event in events)

            await read("hub.gap")
            async with client.post(url(hub, "/t/a"), data=b"x"):
                pass
            await read("message")
            figures = await told(hub)
            assert (figures["subscribers"], figures["delivered"], figures["gaps"]) == (1, 1, 1)
            metrics = hub.metrics.text().decode()
            assert "callboard_hub_subscribers 1.0" in metrics
            assert "callboard_hub_delivered_total 1.0" in metrics
            assert "callboard_hub_gaps_total 1.0" in metrics
            assert "callboard_hub_lag_updates 0.0" in metrics

        async def ended() -> bool:
            return bool((await told(hub))["ended"] == {"gone": 1})

        seen: bool = await eventually(ended)
        assert seen
        assert 'callboard_hub_ended_total{reason="gone"} 1.0' in hub.metrics.text().decode()


async def test_with_a_certificate_the_port_speaks_tls(
    settings: HubSettings, client: aiohttp.ClientSession, tmp_path: Path
) -> None:
    authority = CA()
    tls = authority.leaf().write(tmp_path)
    trusting = ssl.create_default_context(cadata=certificates.pem(authority.certificate).decode())
    trusting.check_hostname = False
    async with running(HubProgram(replace(settings, tls=tls))) as hub:
        where = url(hub, "/t/a", "https")
        async with client.post(where, data=b"x", ssl=trusting) as answer:
            assert answer.status == 200
        assert "callboard_certificate_days_left" in hub.metrics.text().decode()


async def test_other_programs_publish_with_a_token_alone(
    settings: HubSettings, client: aiohttp.ClientSession, tmp_path: Path
) -> None:
    authority = CA(constraints=None)
    identity = identity_of(authority, tmp_path / "own", "hub", "hub-1")
    shown = shown_by(authority, tmp_path / "front", "fileserver")
    async with running(HubProgram(replace(settings, identity=identity, https_port=0))) as hub:
        inner = f"https://127.0.0.1:{hub.servers[1].port}"
        async with client.post(f"{inner}/t/a", data=b"x", ssl=shown) as answer:
            assert answer.status == 401
        async with client.get(f"{inner}/stats", ssl=shown) as answer:
            assert (answer.status, (await answer.json())["published"]) == (200, 0)
        async with client.post(url(hub, "/t/a"), data=b"x") as answer:
            assert answer.status == 200


async def test_a_stranger_s_host_is_refused_on_the_open_port(
    settings: HubSettings, client: aiohttp.ClientSession
) -> None:
    async with running(HubProgram(replace(settings, allowed_hosts=("farm.example",)))) as hub:
        for host, status in (("evil.example", 403), ("farm.example", 200), ("hub-1", 200)):
            async with client.get(url(hub, "/stats"), headers={"Host": host}) as answer:
                assert answer.status == status, host


async def test_a_folder_belongs_to_one_hub(settings: HubSettings) -> None:
    async with running(HubProgram(settings)):
        with pytest.raises(StartRefused, match="history in"):
            async with running(HubProgram(settings)):
                pass


@pytest.mark.parametrize("name", ["publisher_key", "tls", "hooks"])
async def test_files_that_are_not_there_are_named(settings: HubSettings, name: str) -> None:
    missing = settings.data_dir / "missing"
    value = (missing, missing) if name == "tls" else missing
    with pytest.raises(StartRefused, match="missing"):
        async with running(HubProgram(replace(settings, **{name: value}))):  # type: ignore[arg-type]
            pass


async def test_a_port_that_is_taken_is_named(settings: HubSettings, tmp_path: Path) -> None:
    async with running(HubProgram(settings)) as hub:
        other = replace(settings, port=hub.servers[0].port, data_dir=tmp_path / "other")
        with pytest.raises(StartRefused, match=f"cannot listen on 127.0.0.1:{other.port}"):
            async with running(HubProgram(other)):
                pass
