"""Polling a Consul-compatible server (a small one, over a farm) keeps the same copy."""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from aiohttp import web
from tests.harness.eventually import eventually
from tests.harness.farm import Farm, article_farm

from callboard.catalog.changes import Change
from callboard.feed import mirror as mirror_module
from callboard.feed.copy import CatalogCopy
from callboard.feed.image import ImageWriter, load
from callboard.feed.mirror import PollSettings
from callboard.feed.poll import PollClient

FAST = PollSettings(
    wait_s=0.3, beat_wait_s=0.1, request_timeout_s=2, retry_min_s=0.01, retry_max_s=0.05
)


class ConsulServer:
    """The three endpoints that polling needs, with blocking queries, as Consul's."""

    def __init__(self, farm: Farm) -> None:
        self.farm = farm
        self.leader: Farm | None = farm
        """What a consistent read is answered from."""
        self.failing = False
        self.failing_paths: set[str] = set()
        self.delays: random.Random | None = None
        """Answers leave this late, and so overtake each other."""
        self.url = ""
        self.asked: Counter[str] = Counter()
        self._changed = asyncio.Event()
        farm.listen(self._wake, reset=lambda: None)

    def _wake(self, changes: object) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def serve(self, request: web.Request) -> web.Response:
        self.asked[request.path] += 1
        farm: Farm | None = self.farm
        if "consistent" in request.query:
            farm = self.leader
        if self.failing or farm is None or request.path in self.failing_paths:
            return web.Response(status=500, text="No cluster leader")
        index = int(request.query.get("index", "0"))
        if index and index >= farm.applied_index:
            wait_s = float(request.query["wait"].removesuffix("ms")) / 1000
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), wait_s)
            farm = self.farm  # it may be another by now
        headers = {
            "X-Consul-Index": str(farm.applied_index),
            "X-Consul-Knownleader": "true",
            "X-Consul-Lastcontact": "0",
        }
        body = msgspec.json.encode(self._content(request.path))
        if self.delays is not None:
            await asyncio.sleep(self.delays.uniform(0, 0.05))
        return web.Response(body=body, headers=headers, content_type="application/json")

    def _content(self, path: str) -> object:
        farm = self.farm
        if path == "/v1/catalog/nodes":
            return farm.nodes()
        if path == "/v1/catalog/services":
            return farm.service_names()
        name = path.removeprefix("/v1/health/service/")
        rows = []
        for entry in farm.health(name):
            service = msgspec.to_builtins(entry.service)
            del service["Node"]
            service["TaggedAddresses"] = None  # Go writes null for an empty map
            rows.append({"Node": entry.node, "Service": service, "Checks": entry.checks})
        return rows


@contextlib.asynccontextmanager
async def consul(farm: Farm, tls: ssl.SSLContext | None = None) -> AsyncIterator[ConsulServer]:
    server = ConsulServer(farm)
    application = web.Application()
    application.router.add_get("/{path:.*}", server.serve)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    server.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def polling(
    *urls: str, copy: CatalogCopy | None = None, settings: PollSettings = FAST
) -> AsyncIterator[tuple[PollClient, CatalogCopy]]:
    copy = copy or CatalogCopy()
    client = PollClient(urls, copy, settings=settings, rng=random.Random(3))
    task = asyncio.create_task(client.run())
    try:
        yield client, copy
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def picture(view: Farm | CatalogCopy) -> object:
    """Everything DNS can see of a catalog."""
    return (
        view.nodes(),
        {name: list(view.health(name)) for name in view.service_names()},
    )


async def test_copy_is_taken_whole() -> None:
    farm = article_farm()
    async with consul(farm) as server, polling(server.url) as (_, copy):
        await eventually(lambda: copy.ready)
        assert picture(copy) == picture(farm)
        assert copy.datacenter == "dc1"
        assert copy.age_s(asyncio.get_running_loop().time()) < 5


@pytest.mark.parametrize("parked", [100, 2])
async def test_changes_arrive(parked: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror_module, "PARKED_MAX", parked)
    farm = article_farm()
    async with consul(farm) as server, polling(server.url) as (_, copy):
        await eventually(lambda: copy.ready)
        farm.service_on("agent-2", "late", tags=["x"])
        farm.service_on("agent-2", "web")
        farm.check_on("agent-4", "critical", service="web")
        farm.node_at("agent-5", "10.0.0.5")
        await eventually(lambda: picture(copy) == picture(farm))
        farm.remove_service("agent-1", "web")
        farm.remove_service("agent-2", "late")
        farm.remove_node("agent-5")
        await eventually(lambda: picture(copy) == picture(farm))


async def test_server_that_fails_is_left_and_the_copy_stays() -> None:
    farm = article_farm()
    async with (
        consul(farm) as first,
        consul(farm) as second,
        polling(first.url, second.url) as (client, copy),
    ):
        await eventually(lambda: client.connected_to)
        active = first if client.connected_to == first.url else second
        other = second if active is first else first
        active.failing = True
        await eventually(lambda: client.connected_to == other.url)
        assert copy.ready


async def test_server_that_is_no_consul_is_passed_over() -> None:
    farm = article_farm()
    async with consul(farm) as server, polling("http://127.0.0.1:9", server.url) as (_, copy):
        await eventually(lambda: copy.ready)


async def test_quiet_catalog_costs_a_request_per_wait() -> None:
    async with consul(article_farm()) as server, polling(server.url) as (_, copy):
        await eventually(lambda: copy.ready)
        before = server.asked.copy()
        beats = "/v1/catalog/services"
        await eventually(lambda: server.asked[beats] >= before[beats] + 6)
        of_web = server.asked["/v1/health/service/web"] - before["/v1/health/service/web"]
        assert of_web <= 5  # its wait is three times that of the list


def younger(farm: Farm) -> Farm:
    """The farm as it was two changes before, without the service `late`."""
    old = article_farm()
    farm.service_on("agent-2", "late")
    farm.service_on("agent-3", "late")
    assert old.applied_index < farm.applied_index
    return old


def tried(client: PollClient, times: int) -> Callable[[], bool]:
    """Whether servers were left so often from now on."""
    before = client.switches
    return lambda: client.switches >= before + times


async def test_server_that_lags_is_refused_and_taken_once_it_has_caught_up() -> None:
    farm = article_farm()
    old = younger(farm)
    async with (
        consul(farm) as first,
        consul(farm) as second,
        polling(first.url, second.url) as (client, copy),
    ):
        await eventually(lambda: client.connected_to)
        ahead, lagging = (first, second) if client.connected_to == first.url else (second, first)
        lagging.farm = old
        ahead.failing = True
        await eventually(tried(client, 1))
        index, as_of = copy.applied_index, copy.age_s(1e9)
        await eventually(tried(client, 6))
        assert copy.applied_index == index
        assert copy.health("late")
        assert lagging.asked["/v1/catalog/nodes"] > 1
        assert copy.histories == 0
        assert copy.age_s(1e9) == as_of  # nothing it said made the copy fresher
        lagging.farm = farm
        await eventually(lambda: client.connected_to == lagging.url)


async def test_server_whose_answers_go_back_is_left_and_the_copy_stays() -> None:
    farm = article_farm()
    old = younger(farm)
    indexes: list[int] = []
    async with consul(farm) as server, polling(server.url) as (client, copy):
        await eventually(lambda: client.connected_to)
        copy.listen(lambda changes: indexes.append(copy.applied_index))
        taken = copy.applied_index
        server.farm = old  # as behind a balancer: another server answers under the same address
        await eventually(tried(client, 3))
        assert "it is behind" in client.last_error
        assert copy.health("late")
        assert copy.applied_index == taken
        assert not indexes


async def test_cluster_that_was_set_up_anew_is_taken_and_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    farm = article_farm()
    old = younger(farm)
    async with consul(farm) as server, polling(server.url) as (client, copy):
        await eventually(lambda: client.connected_to)
        epoch = copy.epoch
        server.farm = server.leader = old
        await eventually(lambda: copy.epoch != epoch)
        assert copy.applied_index == old.applied_index
        assert not copy.health("late")
        assert [r.levelname for r in caplog.records if "another history" in r.message] == [
            "WARNING"
        ]
        old.service_on("agent-2", "new")
        await eventually(lambda: copy.health("new"))


async def test_server_that_lags_without_a_leader_is_refused() -> None:
    farm = article_farm()
    old = younger(farm)
    async with consul(farm) as server, polling(server.url) as (client, copy):
        await eventually(lambda: client.connected_to)
        server.farm, server.leader = old, None
        await eventually(tried(client, 4))
        assert copy.health("late")
        assert copy.histories == 0


async def test_server_behind_the_image_is_refused(tmp_path: Path) -> None:
    farm = article_farm()
    old = younger(farm)
    path = tmp_path / "image"
    async with consul(farm) as server, polling(server.url) as (client, copy):
        await eventually(lambda: client.connected_to)
        await ImageWriter(path, copy).save()
    loaded = CatalogCopy()
    load(path, loaded, now=asyncio.get_running_loop().time(), wall_now=time.time())
    async with consul(old) as server, polling(server.url, copy=loaded) as (client, _):
        server.leader = farm
        await eventually(tried(client, 3))
        assert loaded.health("late")
        assert loaded.epoch == copy.epoch
        server.farm = farm
        await eventually(lambda: client.connected_to)
        assert loaded.histories == 0


async def test_attempt_that_fails_makes_nothing_fresher() -> None:
    farm = article_farm()
    async with consul(farm) as server, polling(server.url) as (client, copy):
        await eventually(lambda: client.connected_to)
        server.failing_paths = {"/v1/health/service/web"}
        farm.service_on("agent-2", "web")
        await eventually(tried(client, 1))
        as_of = copy.age_s(1e9)
        await eventually(tried(client, 3))
        assert copy.age_s(1e9) == as_of


async def test_answer_without_an_end_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror_module, "BODY_OCTETS_MAX", 100)
    async with consul(article_farm()) as server, polling(server.url) as (client, copy):
        await eventually(tried(client, 2))
        assert "more than 100 octets" in client.last_error
        assert not copy.ready


async def test_services_that_wait_their_turn_tell_their_age(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mirror_module, "PARKED_MAX", 1)
    farm = article_farm()
    assert len(farm.service_names()) > 1
    slow = replace(FAST, wait_s=1.5)
    async with consul(farm) as server, polling(server.url, settings=slow) as (_, copy):
        await eventually(lambda: copy.ready)
        # the list of services is answered every 0.1 s, but one service is parked for 1.5 s
        await eventually(lambda: copy.age_s(asyncio.get_running_loop().time()) > 1)


async def test_answers_that_overtake_each_other_take_nothing_back() -> None:
    farm = article_farm()
    rng = random.Random(5)
    seen: dict[tuple[str, str, str], int] = {}
    wrong: list[Change] = []

    def look(changes: Sequence[Change]) -> None:
        for change in changes:
            key = (change.kind, change.node, change.id)
            index = change.value.modify_index if change.value is not None else 0
            if change.operation != "put" or index < seen.get(key, 0):
                wrong.append(change)
            seen[key] = index

    async with consul(farm) as server, polling(server.url) as (client, copy):
        await eventually(lambda: client.connected_to)
        server.delays = rng
        copy.listen(look)
        for number in range(100):
            node = f"agent-{rng.randint(1, 8)}"
            farm.node_at(node, f"10.1.0.{number}")
            farm.service_on(node, rng.choice(["web", "db"]))
            farm.check_on(node, rng.choice(["passing", "critical"]))
            await asyncio.sleep(rng.uniform(0, 0.01))
        await eventually(lambda: picture(copy) == picture(farm))
        assert not wrong
        assert client.switches == 0
