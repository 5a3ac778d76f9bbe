"""A real serf agent and ours are one cluster: both ways, plain and encrypted.

`serf` is Debian's (memberlist's own code under it). What it shows of us and what we show of it
must agree: alive with tags, failed after a kill, left after a goodbye.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.harness.capabilities import require
from tests.harness.eventually import eventually
from tests.harness.gossip_agents import Agent, Agents, agents

pytestmark = pytest.mark.slow

KEY = bytes(range(32))
KEYS = pytest.mark.parametrize("keys", [(), (KEY,)], ids=["plain", "encrypted"])
_numbers = itertools.count(os.getpid() % 100 * 2 + 1)


@dataclass
class SerfAgent:
    """A running serf agent."""

    name: str
    address: str
    rpc: str
    process: asyncio.subprocess.Process

    async def command(self, *arguments: str) -> str:
        """Run a serf command against it; its output."""
        verb, *rest = arguments
        process = await asyncio.create_subprocess_exec(
            "serf",
            verb,
            f"-rpc-addr={self.rpc}",
            *rest,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(20):
            output, _ = await process.communicate()
        return output.decode()

    async def answers(self) -> bool:
        """Whether it is up: its own list has itself."""
        return self.name in await self.members()

    async def members(self) -> dict[str, dict[str, object]]:
        """What `serf members` shows, by name."""
        answer = json.loads(await self.command("members", "-format=json"))
        return {member["name"]: member for member in answer["members"]}

    async def status(self, name: str) -> object:
        """A member's status as serf sees it."""
        return (await self.members()).get(name, {}).get("status")


@asynccontextmanager
async def serf_agent(
    tmp_path: Path, keys: tuple[bytes, ...] = (), *arguments: str
) -> AsyncIterator[SerfAgent]:
    """Start a serf agent at an address of its own; killed at the end."""
    require("serf")
    number = next(_numbers)
    host = f"127.12.{1 + number // 250}.{number % 250 + 1}"
    address, rpc = f"{host}:{_free_port(host)}", f"{host}:{_free_port(host)}"
    encrypt = [f"-encrypt={base64.b64encode(keys[0]).decode()}"] if keys else []
    with (tmp_path / f"serf-{number}.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            "serf",
            "agent",
            "-profile=local",
            f"-node=serf{number}",
            f"-bind={address}",
            f"-rpc-addr={rpc}",
            "-tag=role=web",
            *encrypt,
            *arguments,
            stdout=log,
            stderr=log,
        )
    agent = SerfAgent(f"serf{number}", address, rpc, process)
    try:
        await until(agent.answers)
        yield agent
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


async def we_join(group: Agents, serf: SerfAgent, keys: tuple[bytes, ...] = ()) -> Agent:
    """An agent of ours that has joined by serf's address."""
    ours = await group.start("ours", keys=keys)
    assert await ours.membership.join([serf.address]) == 1
    await eventually(lambda: ours.status(serf.name) == "alive")
    return ours


@KEYS
async def test_we_join_serf_and_both_see_each_others_tags(
    tmp_path: Path, keys: tuple[bytes, ...]
) -> None:
    async with serf_agent(tmp_path, keys) as serf, agents() as group:
        ours = await we_join(group, serf, keys)
        assert ours.member(serf.name).tags == {"role": "web"}
        seen = (await serf.members())["ours"]
        assert (seen["status"], seen["addr"]) == ("alive", ours.address)
        assert seen["tags"] == {"role": "callboard", "id": "id-ours"}


@KEYS
async def test_serf_joins_us(tmp_path: Path, keys: tuple[bytes, ...]) -> None:
    async with serf_agent(tmp_path, keys) as serf, agents() as group:
        ours = await group.start("ours", keys=keys)
        assert "Successfully joined cluster" in await serf.command("join", ours.address)
        await eventually(lambda: ours.status(serf.name) == "alive")
        assert await serf.status("ours") == "alive"


async def test_agent_of_ours_that_serf_never_called_is_heard_of_by_gossip(tmp_path: Path) -> None:
    async with serf_agent(tmp_path) as serf, agents() as group:
        ours = await we_join(group, serf)
        await group.start("second", retry_join=(ours.address,))
        await until(lambda: _is(serf, "second", "alive"))


async def test_serf_that_leaves_has_left(tmp_path: Path) -> None:
    async with serf_agent(tmp_path) as serf, agents() as group:
        ours = await we_join(group, serf)
        await serf.command("leave")
        await eventually(lambda: ours.status(serf.name) == "left")
        assert ours.seen(serf.name) == ["join", "leave"]


async def test_serf_that_is_killed_has_failed(tmp_path: Path) -> None:
    async with serf_agent(tmp_path) as serf, agents() as group:
        ours = await we_join(group, serf)
        serf.process.kill()
        await eventually(lambda: ours.status(serf.name) == "failed", 15)


@KEYS
async def test_we_leave_and_serf_shows_left(tmp_path: Path, keys: tuple[bytes, ...]) -> None:
    async with serf_agent(tmp_path, keys) as serf, agents() as group:
        ours = await we_join(group, serf, keys)
        await ours.membership.leave()
        await group.kill(ours)
        await until(lambda: _is(serf, "ours", "left"))


async def test_we_are_killed_and_serf_shows_failed(tmp_path: Path) -> None:
    async with serf_agent(tmp_path) as serf, agents() as group:
        ours = await we_join(group, serf)
        await group.kill(ours)
        await until(lambda: _is(serf, "ours", "failed"), 20)


async def test_failed_serf_that_we_force_out_has_left_at_another_serf(tmp_path: Path) -> None:
    async with serf_agent(tmp_path) as one, serf_agent(tmp_path) as two, agents() as group:
        ours = await we_join(group, one)
        assert await ours.membership.join([two.address]) == 1
        one.process.kill()
        await eventually(lambda: ours.status(one.name) == "failed", 15)
        await until(lambda: _is(two, one.name, "failed"), 15)
        await ours.membership.force_leave(one.name)
        await until(lambda: _is(two, one.name, "left"))


async def test_new_tags_of_ours_reach_serf_and_serfs_reach_us(tmp_path: Path) -> None:
    async with serf_agent(tmp_path) as serf, agents() as group:
        ours = await we_join(group, serf)
        ours.membership.set_tags({"role": "callboard", "srv": "1"})
        await serf.command("tags", "-set", "rack=a1")
        await eventually(lambda: ours.member(serf.name).tags.get("rack") == "a1")
        await until(lambda: _has_tag(serf, "ours", "srv", "1"))


async def test_event_passes_through_us_and_query_is_acknowledged_by_us(tmp_path: Path) -> None:
    async with serf_agent(tmp_path) as serf, agents() as group:
        ours = await we_join(group, serf)
        await serf.command("event", "deploy", "v1")
        output = await serf.command("query", "-timeout=1s", "uptime")
        assert "Ack from 'ours'" in output
        await eventually(lambda: int(ours.membership.stats()["event_time"]) >= 2)
        assert ours.status(serf.name) == "alive"


async def test_serf_reaches_us_on_every_way_it_measures(tmp_path: Path) -> None:
    """`serf reachability` sends a query that every member must acknowledge."""
    async with serf_agent(tmp_path) as serf, agents() as group:
        await we_join(group, serf)
        assert "Successfully contacted all live nodes" in await serf.command("reachability")


async def test_serf_under_another_key_is_kept_out(tmp_path: Path) -> None:
    async with serf_agent(tmp_path, (bytes(16),)) as serf, agents() as group:
        ours = await group.start("ours", keys=(KEY,))
        output = await serf.command("join", ours.address)
        assert "Error joining" in output
        assert ours.status(serf.name) == ""


async def until(fact: Callable[[], Awaitable[bool]], timeout_s: float = 10.0) -> None:
    """Wait for a fact that takes a command to see."""
    waiting: Callable[[], bool | Awaitable[bool]] = fact
    await eventually(waiting, timeout_s, interval_s=0.1)


async def _is(serf: SerfAgent, name: str, status: str) -> bool:
    return await serf.status(name) == status


async def _has_tag(serf: SerfAgent, name: str, key: str, value: str) -> bool:
    tags = (await serf.members())[name]["tags"]
    return isinstance(tags, dict) and tags.get(key) == value
