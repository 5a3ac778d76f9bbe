"""The reader's side over real HTTP: failover, resumption, the image on disk."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.harness.eventually import eventually
from tests.harness.farm import Farm, article_farm
from tests.harness.feeding import FakeCluster, FeedServer, feeding

from callboard.feed.client import FeedClient, FollowSettings
from callboard.feed.copy import CatalogCopy
from callboard.feed.image import ImageError, ImageWriter, load

FAST = FollowSettings(
    silence_timeout_s=0.5,
    leaderless_timeout_s=0.2,
    behind_timeout_s=0.2,
    retry_min_s=0.01,
    retry_max_s=0.05,
    settle_s=0.3,
)


@contextlib.asynccontextmanager
async def following(
    servers: list[FeedServer], copy: CatalogCopy | None = None, seed: int = 1
) -> AsyncIterator[tuple[FeedClient, CatalogCopy]]:
    copy = copy or CatalogCopy()
    urls = [server.url for server in servers]
    client = FeedClient(urls, copy, settings=FAST, rng=random.Random(seed))
    task = asyncio.create_task(client.run())
    try:
        yield client, copy
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_copy_follows_an_agent() -> None:
    farm = article_farm()
    async with feeding((farm, FakeCluster())) as servers, following(servers) as (_, copy):
        await eventually(lambda: copy.ready)
        assert copy.tables.counts == farm.tables.counts
        farm.service_on("agent-3", "late")
        await eventually(lambda: copy.health("late"))
        await eventually(lambda: copy.age_s(asyncio.get_running_loop().time()) < 1)
        assert copy.leader == "10.0.0.1:8300"
        assert [member.name for member in copy.members] == ["agent-1"]


async def test_killed_agent_is_replaced_by_another_and_the_copy_resumes() -> None:
    farm = article_farm()
    pairs = [(farm, FakeCluster("agent-1")), (farm, FakeCluster("agent-2"))]
    async with feeding(*pairs) as servers, following(servers) as (client, copy):
        await eventually(lambda: copy.ready)
        active = next(s for s in servers if s.url == client.connected_to)
        other = next(s for s in servers if s is not active)
        before = copy.applied_index
        await active.stop()
        farm.service_on("agent-3", "late")
        await eventually(lambda: copy.health("late"))
        assert f"epoch=epoch-1&index={before}" in other.asked[-1]


async def test_restarted_agent_is_followed_again() -> None:
    farm = article_farm()
    async with feeding((farm, FakeCluster())) as servers, following(servers) as (_, copy):
        await eventually(lambda: copy.ready)
        await servers[0].stop()
        farm.service_on("agent-3", "late")
        assert copy.ready
        await servers[0].start()
        await eventually(lambda: copy.health("late"))


async def test_agent_without_a_leader_is_left_for_one_that_has() -> None:
    farm = article_farm()
    lost, found = FakeCluster("agent-1"), FakeCluster("agent-2")
    lost.leader = ""
    async with feeding((farm, lost), (farm, found)) as servers, following(servers) as (client, _):
        await eventually(lambda: client.connected_to == servers[1].url)
        await eventually(lambda: servers[1].asked)


async def test_agent_with_an_old_last_contact_is_left() -> None:
    farm = article_farm()
    lost, found = FakeCluster("agent-1"), FakeCluster("agent-2")
    async with feeding((farm, lost), (farm, found)) as servers, following(servers) as (client, _):
        await eventually(lambda: client.connected_to)
        at = 0 if client.connected_to == servers[0].url else 1
        (lost, found)[at].last_contact_s = 60.0
        await eventually(lambda: client.connected_to == servers[1 - at].url)


async def test_cluster_without_any_leader_is_followed_all_the_same() -> None:
    farm = article_farm()
    clusters = [FakeCluster("agent-1"), FakeCluster("agent-2")]
    for cluster in clusters:
        cluster.leader, cluster.last_contact_s = "", 60.0
    pairs = [(farm, cluster) for cluster in clusters]
    async with feeding(*pairs) as servers, following(servers) as (_, copy):
        await eventually(lambda: copy.ready)
        farm.service_on("agent-3", "late")
        await eventually(lambda: copy.health("late"))
        assert copy.age_s(asyncio.get_running_loop().time()) > 50


async def test_agent_that_stays_behind_is_left() -> None:
    ahead, behind = article_farm(), article_farm()
    ahead.service_on("agent-3", "late")
    copy = CatalogCopy()
    copy.replace(article_farm().tables, ahead.applied_index, epoch="epoch-1", datacenter="dc1")
    pairs = [(behind, FakeCluster("agent-1")), (ahead, FakeCluster("agent-2"))]
    async with feeding(*pairs) as servers, following(servers, copy) as (client, _):
        await eventually(lambda: client.connected_to == servers[1].url)
        ahead.service_on("agent-3", "later")
        await eventually(lambda: copy.health("later"))


async def test_agent_that_refuses_is_passed_over() -> None:
    farm = article_farm()
    pairs = [(farm, FakeCluster("agent-1")), (farm, FakeCluster("agent-2"))]
    async with feeding(*pairs) as servers:
        servers[0].status = 500
        async with following(servers) as (_, copy):
            await eventually(lambda: copy.ready)


async def test_agent_that_falls_silent_is_left() -> None:
    farm = article_farm()
    pairs = [(farm, FakeCluster("agent-1")), (farm, FakeCluster("agent-2"))]
    async with feeding(*pairs) as servers, following(servers) as (client, copy):
        await eventually(lambda: copy.ready)
        active = next(s for s in servers if s.url == client.connected_to)
        active.source.stop()  # its streams end; it beats no more
        other = next(s for s in servers if s is not active)
        await eventually(lambda: client.connected_to == other.url)


def filled() -> CatalogCopy:
    copy = CatalogCopy()
    copy.replace(article_farm().tables, 40, epoch="e", datacenter="dc1")
    copy.current_as_of(asyncio.get_running_loop().time())
    return copy


def loaded(path: Path) -> CatalogCopy | None:
    copy = CatalogCopy()
    found = load(path, copy, now=1000.0, wall_now=time.time())
    return copy if found else None


async def test_image_brings_the_copy_back(tmp_path: Path) -> None:
    path = tmp_path / "catalog.image"
    copy = filled()
    await ImageWriter(path, copy).save()
    back = loaded(path)
    assert back is not None
    assert back.ready
    assert (back.epoch, back.applied_index, back.datacenter) == ("e", 40, "dc1")
    assert back.tables.counts == copy.tables.counts
    assert [e.node.name for e in back.health("web")] == ["agent-1", "agent-4"]


async def test_image_says_how_old_it_is(tmp_path: Path) -> None:
    path = tmp_path / "catalog.image"
    await ImageWriter(path, filled()).save()
    os.utime(path, (time.time() - 90, time.time() - 90))
    back = loaded(path)
    assert back is not None
    assert back.age_s(1000.0) == pytest.approx(90, abs=5)


async def test_unchanged_copy_only_touches_its_image(tmp_path: Path) -> None:
    path = tmp_path / "catalog.image"
    copy = filled()
    writer = ImageWriter(path, copy)
    await writer.save()
    inode = path.stat().st_ino
    os.utime(path, (1, 1))
    await writer.save()
    assert path.stat().st_ino == inode
    assert path.stat().st_mtime > 1000


async def test_change_that_leaves_the_index_is_written_too(tmp_path: Path) -> None:
    path = tmp_path / "catalog.image"
    farm = article_farm()
    farm.current_as_of(asyncio.get_running_loop().time())
    writer = ImageWriter(path, farm)
    await writer.save()
    index = farm.applied_index
    farm.service_on("agent-2", "late")
    farm.applied_index = index
    await writer.save()
    back = loaded(path)
    assert back is not None
    assert back.health("late")


async def test_image_that_was_taken_away_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "catalog.image"
    writer = ImageWriter(path, filled())
    await writer.save()
    path.unlink()
    await writer.save()
    assert loaded(path) is not None


async def test_index_that_goes_on_without_a_change_only_touches_the_image(tmp_path: Path) -> None:
    path = tmp_path / "catalog.image"
    copy = filled()
    writer = ImageWriter(path, copy)
    await writer.save()
    inode = path.stat().st_ino
    copy.applied_index += 1000  # keys and values were written, which are not in the catalog
    await writer.save()
    assert path.stat().st_ino == inode


async def test_image_is_never_there_as_fresher_than_the_copy(tmp_path: Path) -> None:
    path = tmp_path / "catalog.image"
    copy = CatalogCopy()
    copy.replace(article_farm().tables, 40, epoch="e", datacenter="dc1")
    await ImageWriter(path, copy).save()
    assert not path.exists()  # nobody knows how old this copy is
    copy.current_as_of(asyncio.get_running_loop().time() - 500)
    seen: list[float] = []

    def look() -> None:
        if path.exists():
            seen.append(time.time() - path.stat().st_mtime)

    save = asyncio.create_task(ImageWriter(path, copy).save())
    while not save.done():
        look()
        await asyncio.sleep(0)
    look()
    assert min(seen) > 400


async def begun(save: asyncio.Task[None], aside: Path) -> None:
    """Until the thread of a save is at work."""
    await eventually(lambda: aside.exists() or save.done(), interval_s=0)


async def test_save_waits_for_one_that_was_given_up(tmp_path: Path) -> None:
    path = tmp_path / "catalog.image"
    copy = filled()
    writer = ImageWriter(path, copy)
    for index in range(41, 91):
        copy.replace(article_farm().tables, index, epoch="e", datacenter="dc1")
        await begun(save := asyncio.create_task(writer.save()), tmp_path / "catalog.new")
        save.cancel()
        await writer.save()
        back = loaded(path)
        assert back is not None
        assert back.applied_index == index


async def test_image_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "catalog.image"
    (tmp_path / "catalog.new").touch(0o644)
    await ImageWriter(path, filled()).save()
    assert path.stat().st_mode & 0o777 == 0o600


async def test_incomplete_copy_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "catalog.image"
    await ImageWriter(path, CatalogCopy()).save()
    assert loaded(path) is None


@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
async def test_damaged_image_is_an_error(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "catalog.image"
    await ImageWriter(path, filled()).save()
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 1
    path.write_bytes(bytes({"cut": data[:-9], "flip": data, "empty": bytearray()}[damage]))
    copy = CatalogCopy()
    with pytest.raises(ImageError, match=r"catalog\.image"):
        load(path, copy, now=1.0, wall_now=1.0)
    assert not copy.ready


async def test_image_in_a_directory_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        await ImageWriter(tmp_path / "gone" / "catalog.image", filled()).save()


async def test_farm_of_the_harness_is_complete() -> None:
    assert Farm().ready
