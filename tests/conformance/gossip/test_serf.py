"""A real serf agent and ours are one cluster: both ways, plain and encrypted.

`serf` is Debian's (memberlist's own code under it). What it shows of us and what we show of it
must agree: alive with tags, failed after a kill, left after a goodbye.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.harness.eventually import eventually
from tests.harness.gossip_agents import Agent, Agents, agents
from tests.harness.real_serf import SerfAgent, serf_agent, until

pytestmark = pytest.mark.slow

KEY = bytes(range(32))
KEYS = pytest.mark.parametrize("keys", [(), (KEY,)], ids=["plain", "encrypted"])


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


async def _is(serf: SerfAgent, name: str, status: str) -> bool:
    return await serf.status(name) == status


async def _has_tag(serf: SerfAgent, name: str, key: str, value: str) -> bool:
    tags = (await serf.members())[name]["tags"]
    return isinstance(tags, dict) and tags.get(key) == value
