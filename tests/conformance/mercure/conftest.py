"""The hub that the suite runs on, in each of the ways that a hub may be reached."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from tests.harness.mercure_hub import MercureHub, local_hub

Way = Callable[[Path], AbstractAsyncContextManager[MercureHub]]


@asynccontextmanager
async def direct(folder: Path) -> AsyncIterator[MercureHub]:
    """Publishing before routing, detached streams."""
    async with local_hub(folder) as local:
        yield local.hub


@asynccontextmanager
async def plain_asgi(folder: Path) -> AsyncIterator[MercureHub]:
    """Everything through FastAPI, streams by sse-starlette: as under any other ASGI server."""
    async with local_hub(folder, detach=False, fast_lane=False) as local:
        yield local.hub


WAYS: dict[str, Way] = {"direct": direct, "plain-asgi": plain_asgi}


@pytest.fixture(params=list(WAYS.values()), ids=list(WAYS))
async def hub(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[MercureHub]:
    """A running hub: empty, with subscriptions announced, and one other site's page allowed."""
    way: Way = request.param
    async with way(tmp_path) as running:
        yield running
