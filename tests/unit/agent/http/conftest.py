"""A served API in both lanes, and a client connected to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from tests.harness.api import ApiSite, api_site
from tests.harness.raw_http import RawAnswer, RawClient, connect


@dataclass
class Asked:
    """A site with one connection to it."""

    site: ApiSite
    client: RawClient

    async def get(self, target: str, headers: dict[str, str] | None = None) -> RawAnswer:
        return await self.client.request("GET", target, None, headers)

    async def put(
        self, target: str, body: bytes | str = b"", headers: dict[str, str] | None = None
    ) -> RawAnswer:
        raw = body.encode() if isinstance(body, str) else body
        return await self.client.request("PUT", target, raw, headers)

    async def delete(self, target: str) -> RawAnswer:
        return await self.client.request("DELETE", target)


@pytest.fixture(params=[True, False], ids=["fast-lane", "asgi"])
async def api(request: pytest.FixtureRequest) -> AsyncIterator[Asked]:
    """The API of a fresh agent, in either lane."""
    async with api_site(fast_lane=request.param) as site, connect(site.port) as client:
        yield Asked(site, client)


@pytest.fixture
async def fast() -> AsyncIterator[Asked]:
    """The API of a fresh agent, in the fast lane."""
    async with api_site() as site, connect(site.port) as client:
        yield Asked(site, client)
