"""The catalog's topics over real feeds."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from tests.harness.eventually import eventually
from tests.harness.farm import Farm, article_farm
from tests.harness.feeding import FakeCluster, FeedServer, feeding
from tests.harness.told_catalog import EVERYTHING, THE_LOG, Reader, identified, wanting

from callboard.feed import following as following_module
from callboard.feed.client import FollowSettings
from callboard.hub.catalog import follower as follower_module
from callboard.hub.catalog.follower import CatalogFollower
from callboard.hub.catalog.stepwise import Group
from callboard.hub.event import CatalogEvent
from callboard.testing.inprocess import Catalog

FAST = FollowSettings(silence_timeout_s=0.5, retry_min_s=0.01, retry_max_s=0.05)


@contextlib.asynccontextmanager
async def following(*urls: str) -> AsyncIterator[CatalogFollower]:
    follower = CatalogFollower(urls, settings=FAST)
    await follower.start()
    try:
        yield follower
    finally:
        await follower.stop()


def read(follower: CatalogFollower) -> Reader:
    """A reader of everything: the state, then all that changes."""
    reader = Reader(EVERYTHING)
    reader.take(event for event in follower.topics.state(EVERYTHING) if event is not None)
    follower.topics.listen(reader.take)
    return reader


def log_of(follower: CatalogFollower) -> list[CatalogEvent]:
    events: list[CatalogEvent] = []
    follower.topics.listen(events.extend)
    return events


async def test_a_service_that_comes_and_fails_is_told() -> None:
    farm = article_farm()
    async with feeding((farm, FakeCluster())) as (server,), following(server.url) as follower:
        topics = follower.topics
        await eventually(lambda: topics.ready and "/cluster/leader" in read(follower).values)
        reader = read(follower)
        farm.service_on("agent-3", "late", port=81)
        await eventually(lambda: "/catalog/services/late" in reader.values)
        farm.check_on("agent-3", "critical", service="late")
        topic = "/catalog/checks/agent-3/check%3Alate"
        await eventually(lambda: topic in reader.values)
        await eventually(lambda: topics.age_s() < 1)
        assert topics.place.index == farm.applied_index
        farm.remove_service("agent-3", "late")
        await eventually(lambda: "/catalog/services/late" not in reader.values)
        assert follower.problem() is None
        assert follower.client.connected_to == server.url
        assert topics.copy.waiting == 0
        assert (topics.ring_events, topics.resets) == (6, 1)


async def test_indexes_go_on_without_a_gap_when_an_agent_is_killed() -> None:
    farm = article_farm()
    pairs = [(farm, FakeCluster("agent-1")), (farm, FakeCluster("agent-2"))]
    async with feeding(*pairs) as servers, following(*(it.url for it in servers)) as follower:
        await eventually(lambda: follower.topics.ready)
        reader, events = read(follower), log_of(follower)
        before = follower.topics.place
        farm.service_on("agent-1", "early")
        await eventually(lambda: "/catalog/services/early" in reader.values)
        await active(servers, follower).stop()
        farm.service_on("agent-3", "late")
        await eventually(lambda: "/catalog/services/late" in reader.values)
        assert follower.topics.resets == 1
        assert sorted(reader.seen) == reader.seen == sorted(set(reader.seen))
        since = follower.topics.since(before, THE_LOG)
        assert since is not None
        assert identified(since) == identified(events)


def active(servers: list[FeedServer], follower: CatalogFollower) -> FeedServer:
    (found,) = (it for it in servers if it.url == follower.client.connected_to)
    return found


async def test_two_hubs_that_follow_two_agents_tell_the_same() -> None:
    farm = article_farm()
    pairs = [(farm, FakeCluster("agent-1")), (farm, FakeCluster("agent-2"))]
    async with (
        feeding(*pairs) as (one, other),
        following(one.url) as first,
        following(other.url) as second,
    ):
        await eventually(lambda: first.topics.ready and second.topics.ready)
        told = log_of(first), log_of(second)
        for number in range(50):
            farm.service_on(f"agent-{number % 4 + 1}", "web", port=number)
            farm.check_on(f"agent-{number % 4 + 1}", "passing", id="serfHealth")
        await eventually(lambda: first.topics.place.index == farm.applied_index)
        await eventually(lambda: second.topics.place.index == farm.applied_index)
        assert identified(told[0]) == identified(told[1])
        assert len(told[0]) > 100


async def test_a_burst_of_changes_lets_others_have_their_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(follower_module, "SLICE_S", 0.0)
    farm = article_farm()
    async with feeding((farm, FakeCluster())) as (server,), following(server.url) as follower:
        await eventually(lambda: follower.topics.ready)
        marks: list[int] = []
        for number in range(100):
            farm.service_on("agent-1", "web", port=number)
        while follower.topics.place.index < farm.applied_index:
            marks.append(follower.topics.place.index)
            await asyncio.sleep(0)
        assert len(set(marks)) > 10


async def test_a_mistake_of_ours_is_followed_by_a_new_snapshot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(following_module, "RESTART_PAUSE_S", 0.01)
    farm = article_farm()
    async with feeding((farm, FakeCluster())) as (server,), following(server.url) as follower:
        await eventually(lambda: follower.topics.ready)
        step = follower.topics.copy.step
        failures = iter([True])

        def failing() -> Group | None:
            if next(failures, False):
                raise RuntimeError("a mistake")
            return step()

        monkeypatch.setattr(follower.topics.copy, "step", failing)
        farm.service_on("agent-3", "late")
        await eventually(lambda: follower.topics.resets == 2)
        await eventually(lambda: follower.topics.place.index == farm.applied_index)
        assert "/catalog/services/late" in read(follower).values


async def test_without_an_agent_there_are_no_topics_and_it_says_why() -> None:
    async with feeding((Farm(), FakeCluster())) as (server,):
        url = server.url
    async with following(url) as follower:
        await eventually(lambda: "Connect" in (follower.problem() or ""))
        assert not follower.topics.ready
        assert follower.topics.age_s() == float("inf")


async def test_a_real_agent_is_followed() -> None:
    with Catalog() as agent:
        async with following(agent.url) as follower:
            await eventually(lambda: follower.topics.ready)
            reader = read(follower)
            id = await asyncio.to_thread(agent.register, "web", port=80, ttl="10s")
            await eventually(lambda: health(reader) == "passing")
            await asyncio.to_thread(agent.update, f"service:{id}", "critical", "it fails")
            await eventually(lambda: health(reader) == "critical")
            assert reader.values[f"/catalog/checks/test-node/service%3A{id}"]
            await asyncio.to_thread(agent.deregister, id)
            await eventually(lambda: health(reader) is None)
            await eventually(lambda: "/cluster/members" in reader.values)
            leader, members = reader.values["/cluster/leader"], reader.values["/cluster/members"]
            assert isinstance(leader, dict)
            assert leader["Leader"].startswith("127.")
            assert isinstance(members, list)
            assert [(it["Name"], it["Server"]) for it in members] == [("test-node", True)]
            again = Reader(EVERYTHING)
            state = follower.topics.state(EVERYTHING)
            again.take(event for event in state if event is not None)
            assert again.values == reader.values
            wanted = wanting("/catalog/checks/{node}/{id}")
            found = [event.topic for event in follower.topics.state(wanted) if event is not None]
            assert found == ["/catalog/checks/test-node/serfHealth"]


def health(reader: Reader) -> str | None:
    """The status of the one instance's own check; None without an instance."""
    entries = reader.values.get("/catalog/services/web")
    if not isinstance(entries, list):
        return None
    (status,) = [it["Status"] for it in entries[0]["Checks"] if it["ServiceName"]]
    return str(status)
