"""Sidecars and hubs as a real agent's catalog has them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from tests.harness.asking import http
from tests.harness.eventually import eventually
from tests.harness.routed import Place

from callboard.gateway.sources.catalog import Catalog


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    made = Place(tmp_path_factory.mktemp("place"))
    with made.catalog():
        yield made


@asynccontextmanager
async def following(catalog: Catalog) -> AsyncIterator[Catalog]:
    task = asyncio.create_task(catalog.run())
    try:
        yield catalog
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def register(place: Place, id: str, *, status: str = "passing", service: str = "sidecar") -> None:
    body = {
        "Name": service,
        "ID": id,
        "Address": "127.0.0.9",
        "Port": 8090,
        "Meta": {"https_port": "8091"},
        "Check": {"TTL": "1h", "Status": status},
    }
    answer = http("PUT", place.api("agent/service/register"), json.dumps(body).encode())
    assert answer.status == 200, answer


async def test_sidecars_come_and_go_with_the_catalog(place: Place) -> None:
    catalog = Catalog([f"http://{place.agent}:8500"])
    assert catalog.problem() is not None
    assert catalog.instances("sidecar") == ()
    async with following(catalog):
        register(place, "a")
        register(place, "b", status="critical")
        await eventually(lambda: [it.url for it in catalog.instances("sidecar")], 20)
        assert [it.url for it in catalog.instances("sidecar")] == ["http://127.0.0.9:8090"]
        assert catalog.problem() is None
        assert http("PUT", place.api("agent/service/deregister/a")).status == 200
        await eventually(lambda: catalog.instances("sidecar") == (), 20)


async def test_by_mutual_tls_they_are_at_the_port_that_they_tell(place: Place) -> None:
    register(place, "hub-1", service="hub")
    catalog = Catalog([f"http://{place.agent}:8500"], service_domain="service.dc1.consul")
    async with following(catalog):
        await eventually(lambda: catalog.instances("hub"), 20)
        (hub,) = catalog.instances("hub")
        assert hub.url == "https://127.0.0.9:8091"
        assert hub.server_name == "hub.service.dc1.consul"
        (plain,) = catalog.instances("hub", plain=True)
        assert plain.url == "http://127.0.0.9:8090"
