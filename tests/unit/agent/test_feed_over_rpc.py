"""The copy a client agent answers DNS from: servers are asked in turn, and left when they lag."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from typing import cast

import pytest
from tests.harness.eventually import eventually
from tests.harness.farm import Farm, article_farm
from tests.harness.feeding import FakeCluster

from callboard.agent import feed_over_rpc as module
from callboard.agent.feed_over_rpc import FeedReader, FeedService
from callboard.agent.rpc import Peer, RpcError
from callboard.feed.copy import CatalogCopy
from callboard.feed.source import FeedSource


class Servers:
    """Feed services by address, called without a network; one that is down is an RpcError."""

    def __init__(self) -> None:
        self.services: dict[str, FeedService] = {}
        self.sources: list[FeedSource] = []
        self.down: set[str] = set()
        self.asked: Counter[str] = Counter()

    def add(self, address: str, farm: Farm, cluster: FakeCluster) -> None:
        source = FeedSource(farm, cluster.seam(), heartbeat_s=0.02)
        source.start()
        self.sources.append(source)
        self.services[address] = FeedService(source, lambda: farm.ready)

    async def call(self, address: str, method: str, body: bytes, timeout_s: float) -> bytes:
        self.asked[address] += 1
        if address in self.down:
            raise RpcError("it is down")
        async with asyncio.timeout(timeout_s):
            return await self.services[address].serve(cast(Peer, None), body)


@contextlib.asynccontextmanager
async def reading(servers: Servers) -> AsyncIterator[CatalogCopy]:
    copy = CatalogCopy("dc1")
    reader = FeedReader(copy, servers, lambda: list(servers.services))
    reader.start()
    try:
        yield copy
    finally:
        await reader.stop()
        for source in servers.sources:
            source.stop()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.02)


async def test_copy_follows_a_server() -> None:
    servers, farm = Servers(), article_farm()
    servers.add("a", farm, FakeCluster())
    async with reading(servers) as copy:
        await eventually(lambda: copy.ready)
        assert copy.tables.counts == farm.tables.counts
        farm.service_on("agent-2", "late")
        await eventually(lambda: copy.health("late"))
        assert copy.applied_index == farm.applied_index
        await eventually(lambda: copy.age_s(asyncio.get_running_loop().time()) < 1)


async def test_nothing_is_taken_from_a_server_that_is_not_loaded() -> None:
    servers = Servers()
    servers.add("a", Farm(ready=False), FakeCluster())
    async with reading(servers) as copy:
        await eventually(lambda: servers.asked["a"] > 2)
        assert not copy.ready


async def test_server_that_is_down_is_passed_over() -> None:
    servers, farm = Servers(), article_farm()
    servers.add("a", farm, FakeCluster())
    servers.add("b", farm, FakeCluster())
    async with reading(servers) as copy:
        await eventually(lambda: copy.ready)
        servers.down.add("a")
        farm.service_on("agent-2", "late")
        await eventually(lambda: copy.health("late"))
        assert servers.asked["b"]


async def test_server_without_a_leader_is_left() -> None:
    servers, farm = Servers(), article_farm()
    lost = FakeCluster()
    lost.last_contact_s = 60.0
    servers.add("a", farm, lost)
    servers.add("b", farm, FakeCluster())
    async with reading(servers) as copy:
        await eventually(lambda: copy.age_s(asyncio.get_running_loop().time()) < 1)
        assert servers.asked["b"]


async def test_server_that_stays_behind_is_left_and_takes_nothing_back() -> None:
    servers, farm, old = Servers(), article_farm(), article_farm()
    farm.service_on("agent-2", "late")
    servers.add("b", farm, FakeCluster())
    async with reading(servers) as copy:
        await eventually(lambda: copy.health("late"))
        servers.add("a", old, FakeCluster())
        servers.down.add("b")
        await eventually(lambda: servers.asked["a"] > 2)
        servers.down.discard("b")
        farm.service_on("agent-2", "later")
        await eventually(lambda: copy.health("later"))
        assert copy.health("late")
