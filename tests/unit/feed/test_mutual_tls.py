"""The feed by mutual TLS: followed through a renewed certificate, left when an agent is revoked."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.harness.certified import CA, Leaf, material
from tests.harness.eventually import eventually
from tests.harness.farm import Farm, article_farm
from tests.harness.feeding import FakeCluster, FeedServer
from tests.unit.feed import test_poll as polling
from tests.unit.feed.test_client import FAST

from callboard.feed.client import FeedClient
from callboard.feed.copy import CatalogCopy
from callboard.feed.poll import PollClient
from callboard.pki import certificates
from callboard.pki.live import LiveIdentity
from callboard.pki.roles import names_for
from callboard.pki.standing import Standing


class TlsFeedServer(FeedServer):
    """The same over TLS."""

    def __init__(self, farm: Farm, identity: LiveIdentity) -> None:
        super().__init__(farm, FakeCluster())
        self._context = identity.for_clients()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Listen."""
        self.source.start()
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", self.port, ssl=self._context
        )
        self.port = self._server.sockets[0].getsockname()[1]


class Scene:
    """An agent with a feed, and a reader of it."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.authority = CA(constraints=None)
        self.leaf: Leaf = self.authority.leaf()
        self.agent = LiveIdentity(material(place / "agent", self.leaf, self.authority))
        reader = self.authority.leaf(names_for("nameserver", "nameserver"))
        self.reader = LiveIdentity(material(place / "reader", reader, self.authority))
        self.farm = article_farm()
        self.server = TlsFeedServer(self.farm, self.agent)
        self.copy = CatalogCopy()

    def revoke(self) -> None:
        """Put the agent's certificate on the reader's list."""
        listed = self.place / "reader" / "crl.pem"
        listed.unlink()
        listed.write_bytes(certificates.pem(self.authority.list(self.leaf, number=2)))
        assert self.reader.look()

    @contextlib.asynccontextmanager
    async def following(self) -> AsyncIterator[FeedClient]:
        """Follow until the end of the block."""
        await self.server.start()
        client = FeedClient(
            [self.server.url],
            self.copy,
            settings=FAST,
            rng=random.Random(1),
            tls=self.reader.for_servers(),
        )
        task = asyncio.create_task(client.run())
        try:
            yield client
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            await self.server.stop()


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """Nothing runs yet."""
    return Scene(tmp_path)


async def test_revoked_agent_is_left_and_not_followed_again(scene: Scene) -> None:
    standing = Standing(scene.reader)
    async with scene.following() as client:
        standing.watch(client.judge)
        await eventually(lambda: scene.copy.ready)
        standing.look()
        scene.farm.service_on("agent-3", "early")
        await eventually(lambda: scene.copy.health("early"))
        assert client.switches == 0

        scene.revoke()
        standing.look()
        await eventually(lambda: client.connected_to == "" and client.switches >= 2)
        assert "certificate revoked" in client.last_error
        assert len(scene.server.asked) == 1


async def test_revoked_server_is_polled_no_more_though_queries_are_parked_there(
    scene: Scene,
) -> None:
    standing = Standing(scene.reader)
    patient = replace(polling.FAST, wait_s=60.0, beat_wait_s=60.0)
    async with polling.consul(scene.farm, scene.agent.for_clients()) as server:
        client = PollClient(
            [server.url], scene.copy, settings=patient, tls=scene.reader.for_servers()
        )
        task = asyncio.create_task(client.run())
        standing.watch(client.judge)
        await eventually(lambda: scene.copy.ready)
        scene.farm.service_on("agent-3", "early")
        await eventually(lambda: scene.copy.health("early"))
        standing.look()
        scene.farm.service_on("agent-3", "late")
        await eventually(lambda: scene.copy.health("late"))
        assert client.switches == 0

        scene.revoke()
        standing.look()
        await eventually(lambda: client.switches >= 2)
        assert "certificate revoked" in client.last_error
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_certificate_renewed_on_both_sides_is_shown_at_the_next_connection(
    scene: Scene,
) -> None:
    async with scene.following() as client:
        await eventually(lambda: scene.copy.ready)
        following = CA("the next CA", constraints=None)
        both = certificates.pem(scene.authority.certificate) + certificates.pem(
            following.certificate
        )
        lists = certificates.pem(scene.authority.list()) + certificates.pem(following.list())
        for side, names in (("agent", names_for("server", "agent-1")), ("reader", None)):
            renewed = following.leaf(names or names_for("nameserver", "nameserver"))
            for body, name in ((both, "ca.pem"), (lists, "crl.pem")):
                (scene.place / side / name).unlink()
                (scene.place / side / name).write_bytes(body)
            renewed.write(scene.place / side)
        assert scene.agent.look()
        assert scene.reader.look()
        client.judge(lambda der: "cut, so that it comes anew")
        await eventually(lambda: len(scene.server.asked) == 2)
        scene.farm.service_on("agent-3", "late")
        await eventually(lambda: scene.copy.health("late"))


async def test_judge_without_a_connection_does_nothing(scene: Scene) -> None:
    client = FeedClient([scene.server.url], scene.copy)
    client.judge(lambda der: "no")
    assert client.switches == 0
