"""The whole name server in this process: from the feed, from disk, and when both are gone."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import dns.asyncquery
import dns.message
import dns.rcode
import pytest
from tests.harness.dnscase import lines, query
from tests.harness.eventually import eventually
from tests.harness.farm import Farm, article_farm
from tests.harness.feeding import FakeCluster, FeedServer, feeding

from callboard.catalog.changes import Change
from callboard.chassis.lifecycle import Lifecycle, StartRefused
from callboard.chassis.registration import own_address
from callboard.dns.settings import DnsSettings
from callboard.feed import following
from callboard.feed.image import NAME
from callboard.nameserver import view as view_module
from callboard.nameserver.service import Nameserver
from callboard.nameserver.settings import NameserverSettings

DEAD = "http://127.0.0.1:9"


def settings(
    *urls: str,
    data_dir: Path | None = None,
    port: int = 0,
    health: bool = False,
    max_stale_s: float = 3600.0,
) -> NameserverSettings:
    return NameserverSettings(
        port=port,
        catalog=urls or (DEAD,),
        data_dir=data_dir,
        dns=DnsSettings(max_stale_s=max_stale_s, stale_after_s=1.0),
        health=("127.0.0.1", 0) if health else None,
    )


@contextlib.asynccontextmanager
async def running(chosen: NameserverSettings) -> AsyncIterator[Nameserver]:
    life = Lifecycle()
    server = Nameserver(chosen)
    try:
        await server.start(life)
        yield server
    finally:
        await life.stop_all()


async def ask(server: Nameserver, name: str = "web.service.consul") -> dns.message.Message:
    message = query(name, "A", use_edns=0)
    return await dns.asyncquery.udp(message, "127.0.0.1", 5, server.dns.udp_port)


async def get(server: Nameserver, path: str) -> tuple[int, str]:
    assert server.health is not None
    reader, writer = await asyncio.open_connection("127.0.0.1", server.health.port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    return int(head.split()[1]), body


@contextlib.asynccontextmanager
async def agent() -> AsyncIterator[FeedServer]:
    async with feeding((article_farm(), FakeCluster())) as servers:
        yield servers[0]


def answered(reply: dns.message.Message) -> list[str]:
    return [line.split()[-1] for line in lines(reply.answer)]


async def has_answers(server: Nameserver) -> None:
    await eventually(lambda: server.view.copy.ready)
    assert answered(await ask(server)) == ["10.0.0.1", "10.0.0.4"]


async def test_feed_is_answered_from() -> None:
    async with agent() as source, running(settings(source.url)) as server:
        await has_answers(server)


async def test_without_a_copy_everything_is_a_server_failure() -> None:
    async with running(settings()) as server:
        reply = await ask(server)
        assert reply.rcode() == dns.rcode.SERVFAIL
        assert [option.code for option in reply.options] == [14]


async def test_answers_go_on_when_all_agents_are_gone() -> None:
    async with agent() as source, running(settings(source.url, health=True)) as server:
        await has_answers(server)
        await source.stop()
        await has_answers(server)

        def is_stale() -> bool:
            return server.status()["condition"] == "stale"

        await eventually(is_stale)
        assert [option.code for option in (await ask(server)).options] == [3]
        status, body = await get(server, "/readyz")
        assert status == 200
        assert "s old" in body
        await source.start()
        await eventually(lambda: not is_stale())


async def test_restart_without_agents_answers_from_disk(tmp_path: Path) -> None:
    async with agent() as source, running(settings(source.url, data_dir=tmp_path)) as server:
        await has_answers(server)
    async with running(settings(data_dir=tmp_path)) as server:
        assert answered(await ask(server)) == ["10.0.0.1", "10.0.0.4"]


async def test_copy_is_saved_while_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view_module, "SAVE_INTERVAL_S", 0.05)
    async with agent() as source, running(settings(source.url, data_dir=tmp_path)):
        await eventually((tmp_path / NAME).exists)


async def test_image_older_than_may_be_is_a_server_failure(tmp_path: Path) -> None:
    async with agent() as source, running(settings(source.url, data_dir=tmp_path)) as server:
        await has_answers(server)
    old = time.time() - 7200
    os.utime(tmp_path / NAME, (old, old))
    async with running(settings(data_dir=tmp_path, health=True)) as server:
        assert (await ask(server)).rcode() == dns.rcode.SERVFAIL
        status, body = await get(server, "/readyz")
        assert status == 503
        assert "s old" in body


async def test_damaged_image_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"nonsense")
    async with agent() as source, running(settings(source.url, data_dir=tmp_path)) as server:
        await has_answers(server)
        assert (tmp_path / "catalog.damaged").read_bytes() == b"nonsense"


async def test_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartRefused):
        async with running(settings(data_dir=tmp_path / "file" / "below")):
            pass


async def test_taken_port_is_refused() -> None:
    async with running(settings()) as server:
        with pytest.raises(StartRefused, match="ddress already in use"):
            async with running(settings(port=server.dns.udp_port)):
                pass


async def test_mistake_on_the_way_does_not_end_the_following(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(following, "RESTART_PAUSE_S", 0.05)
    farm = article_farm()
    async with feeding((farm, FakeCluster())) as servers, running(settings(servers[0].url)) as it:
        await has_answers(it)
        seen: list[str] = []

        def look(changes: Sequence[Change]) -> None:
            seen.append("change")
            if len(seen) == 1:
                raise RuntimeError("a mistake")

        it.view.copy.listen(look, reset=lambda: seen.append("reset"))
        farm.remove_service("agent-4", "web")
        await eventually(lambda: "reset" in seen)
        farm.remove_service("agent-1", "web")
        await eventually(lambda: not it.view.copy.health("web"))
        assert (await ask(it)).rcode() == dns.rcode.NXDOMAIN
        assert "begun anew" in caplog.text


async def test_health_says_what_is_the_matter() -> None:
    async with agent() as source, running(settings(source.url, health=True)) as server:
        await has_answers(server)
        assert (await get(server, "/livez"))[0] == 200
        assert (await get(server, "/readyz"))[0] == 200
        status, body = await get(server, "/v1/dns/status")
        assert status == 200
        assert '"condition": "fresh"' in body
        assert f'"connected_to": "{source.url}"' in body
        _, metrics = await get(server, "/metrics")
        assert "callboard_dns_catalog_age_seconds 0." in metrics
        assert 'callboard_dns_queries_total{transport="udp"} 1.0' in metrics


async def test_catalog_of_another_history_is_counted() -> None:
    async with agent() as source, running(settings(source.url, health=True)) as server:
        await has_answers(server)
        assert "callboard_dns_catalog_histories_total 0.0" in (await get(server, "/metrics"))[1]
        port = source.port
        await source.stop()
        async with feeding((Farm(), FakeCluster(epoch="anew"))) as others:
            await others[0].stop()
            others[0].port = port
            await others[0].start()
            await eventually(lambda: server.view.copy.epoch == "anew")
        assert "callboard_dns_catalog_histories_total 1.0" in (await get(server, "/metrics"))[1]
        assert '"histories": 1' in (await get(server, "/v1/dns/status"))[1]


async def test_readiness_without_a_copy_names_the_reason() -> None:
    async with running(settings(health=True)) as server:
        status, body = await get(server, "/readyz")
        assert status == 503
        assert "no complete copy" in body


def test_own_address_of_a_wildcard_is_no_wildcard() -> None:
    assert own_address("127.0.0.2") == "127.0.0.2"
    assert own_address("0.0.0.0") != "0.0.0.0"
