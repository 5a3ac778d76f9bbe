"""The hub that the suite runs on, in each of the ways that a hub may be reached."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.harness.asking import http
from tests.harness.capabilities import require
from tests.harness.eventually import eventually
from tests.harness.mercure_hub import (
    APP,
    PUBLISHER_KEY,
    RESOURCE,
    SUBSCRIBER_KEY,
    MercureHub,
    connected,
    local_hub,
)
from tests.harness.routed import TRUST, Door, Place
from tests.harness.sockets import free_port

from callboard.hub.http.ports import Door as HubDoor
from callboard.pki.contexts import server_context
from callboard.serve import Request

WAYS = ("direct", "plain-asgi", "through-1443")


@dataclass(frozen=True, slots=True)
class Front:
    """An agent, and a file server that forwards /hub by mutual TLS to a port of the agent's
    address, where each test has its own hub."""

    place: Place
    door: Door
    port: int
    of_hubs: ssl.SSLContext
    of_clients: ssl.SSLContext


@pytest.fixture(scope="session")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """What is in front of the hub in a farm."""
    require("linux")
    place = Place(tmp_path_factory.mktemp("front"))
    with place.catalog(), place.door(f"-allowed-origin={APP}", secure=True) as door:
        port = free_port(place.agent)
        meta = {"https_port": str(port)}
        check = {"TTL": "24h", "Status": "passing"}
        body = {"Name": "hub", "Address": place.agent, "Port": 1, "Meta": meta, "Check": check}
        answer = http("PUT", place.api("agent/service/register"), json.dumps(body).encode())
        assert answer.status == 200, answer
        of_hubs = server_context(place.files("hub", ""), client=ssl.CERT_REQUIRED)
        yield Front(place, door, port, of_hubs, place.client())


@asynccontextmanager
async def through(front: Front, folder: Path) -> AsyncIterator[MercureHub]:
    """A hub behind the file server, as a browser reaches it."""
    listen = {
        "host": front.place.agent,
        "port": front.port,
        "ssl_context": front.of_hubs,
        "trust": TRUST,
    }
    door = HubDoor(scheme="https", proxy=_is_file_server)
    async with local_hub(folder, door=door, listen=listen):
        outside = MercureHub(
            front.door.url,
            PUBLISHER_KEY,
            SUBSCRIBER_KEY,
            RESOURCE,
            prefix="/hub",
            ssl=front.of_clients,
        )

        async def asked() -> bool:
            return (await outside.ask("HEAD", "/stats")).status == 200

        there: Callable[[], bool | Awaitable[bool]] = asked

        async with connected(outside):
            await eventually(there)
            yield outside


def _is_file_server(request: Request) -> bool:
    return request.peer is not None and "fileserver" in request.peer.roles


@pytest.fixture(params=WAYS)
async def hub(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[MercureHub]:
    """A running hub: empty, with subscriptions announced, and one other site's page allowed.

    `direct`: publishing before routing, detached streams. `plain-asgi`: everything through
    FastAPI, streams by sse-starlette, as under any other ASGI server. `through-1443`: direct,
    behind the file server.
    """
    if request.param == "through-1443":
        async with through(request.getfixturevalue("front"), tmp_path) as outside:
            yield outside
        return
    plain = request.param == "plain-asgi"
    async with local_hub(tmp_path, detach=not plain, fast_lane=not plain) as local:
        yield local.hub
