"""Polling a Consul-compatible server (a small one, over a farm) keeps the same copy."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator

import msgspec
import pytest
from aiohttp import web
from tests.harness.eventually import eventually
from tests.harness.farm import Farm, article_farm

from callboard.feed import poll as poll_module
from callboard.feed.copy import CatalogCopy
from callboard.feed.poll import PollClient, PollSettings

FAST = PollSettings(
    wait_s=0.3, beat_wait_s=0.1, request_timeout_s=2, retry_min_s=0.01, retry_max_s=0.05
)


class ConsulServer:
    """The three endpoints that polling needs, with blocking queries, as Consul's."""

    def __init__(self, farm: Farm) -> None:
        self.farm = farm
        self.failing = False
        self.url = ""
        self.asked: Counter[str] = Counter()
        self._changed = asyncio.Event()
        farm.listen(self._wake, reset=lambda: None)

    def _wake(self, changes: object) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def serve(self, request: web.Request) -> web.Response:
        self.asked[request.path] += 1
        if self.failing:
            return web.Response(status=500, text="No cluster leader")
        index = int(request.query.get("index", "0"))
        if index and index >= self.farm.applied_index:
            wait_s = float(request.query["wait"].removesuffix("ms")) / 1000
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), wait_s)
        headers = {
            "X-Consul-Index": str(self.farm.applied_index),
            "X-Consul-Knownleader": "true",
            "X-Consul-Lastcontact": "0",
        }
        body = msgspec.json.encode(self._content(request.path))
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
async def consul(farm: Farm) -> AsyncIterator[ConsulServer]:
    server = ConsulServer(farm)
    application = web.Application()
    application.router.add_get("/{path:.*}", server.serve)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def polling(*urls: str) -> AsyncIterator[tuple[PollClient, CatalogCopy]]:
    copy = CatalogCopy()
    client = PollClient(urls, copy, settings=FAST, rng=random.Random(3))
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
    monkeypatch.setattr(poll_module, "PARKED_MAX", parked)
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
