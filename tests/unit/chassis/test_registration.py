"""A program's own entry in the catalog moves to where an agent answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest
from tests.harness.eventually import eventually
from tests.harness.scripted_http import ScriptedHttp, refusing_address

from callboard.chassis.registration import Registration
from callboard.client import AsyncClient
from callboard.testing.inprocess import Catalog


def willing(agent: ScriptedHttp) -> None:
    agent.on("PUT", "/v1/agent/service/register", "")
    agent.on("PUT", "/v1/agent/check/pass/service:nameserver-1", "")
    agent.on("PUT", "/v1/agent/service/deregister/nameserver-1", "")


@pytest.fixture
def agent() -> Iterator[ScriptedHttp]:
    with ScriptedHttp() as server:
        willing(server)
        yield server


def registration(*addresses: str) -> Registration:
    return Registration(",".join(addresses), "nameserver", id="nameserver-1", port=8600, ttl_s=0.06)


async def test_it_registers_and_gives_signs_of_life(agent: ScriptedHttp) -> None:
    entry = registration(refusing_address(), agent.address)
    assert entry.problem() == "not started"
    await entry.start()
    await eventually(lambda: len(agent.asked) >= 4)
    assert entry.problem() is None
    await entry.stop()
    body = json.loads(agent.asked[0].body)
    assert (body["Name"], body["ID"], body["Port"]) == ("nameserver", "nameserver-1", 8600)
    assert body["Check"]["DeregisterCriticalServiceAfter"] == "60s"
    assert agent.asked[-1].target == "/v1/agent/service/deregister/nameserver-1"


async def test_it_moves_to_the_next_agent_with_the_same_id() -> None:
    with ScriptedHttp() as first, ScriptedHttp() as second:
        willing(first)
        second.on("PUT", "/v1/agent/check/pass/service:nameserver-1", "unknown", status=404)
        willing(second)
        entry = registration(first.address, second.address)
        await entry.start()
        await eventually(lambda: entry.problem() is None)
        first.close()
        await eventually(lambda: len(second.asked) >= 3)
        await entry.stop()
        registered = [asked for asked in second.asked if asked.target.endswith("register")]
        assert json.loads(registered[0].body)["ID"] == "nameserver-1"


async def test_without_any_agent_it_says_so_and_goes_on() -> None:
    entry = registration(refusing_address())
    await entry.start()
    await eventually(lambda: "onnect" in str(entry.problem()))
    await entry.stop()


async def test_real_agents_take_it_one_after_the_other() -> None:
    first, second = await asyncio.to_thread(started), await asyncio.to_thread(started)
    entry = registration(first.url, second.url)
    try:
        await entry.start()
        await eventually(lambda: entry.problem() is None)
        await asyncio.to_thread(first.stop)
        async with AsyncClient(second.url) as client:
            async for instances in client.watch("nameserver", wait_s=5):
                if instances:
                    break
            assert [instance.id for instance in instances] == ["nameserver-1"]
            await entry.stop()
            assert await client.resolve("nameserver") == []
    finally:
        await asyncio.to_thread(second.stop)


def started() -> Catalog:
    agent = Catalog()
    agent.start()
    return agent
