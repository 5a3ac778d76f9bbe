"""Follows the feed of the agents, and keeps the catalog's topics by it."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Sequence

from callboard.feed.client import FeedClient, FollowSettings
from callboard.hub.catalog.topics import Topics
from callboard.pki.live import Judge

log = logging.getLogger(__name__)

SLICE_S = 0.004
"""Longest time on the loop for making events, but for a single one's."""

RESTART_PAUSE_S = 1.0


class CatalogFollower:
    """`topics`, and the tasks that keep them."""

    def __init__(
        self,
        addresses: Sequence[str],
        *,
        datacenter: str = "",
        token: str = "",
        tls: ssl.SSLContext | None = None,
        source: str = "",
        settings: FollowSettings | None = None,
    ) -> None:
        """`addresses` are the agents' URLs; `tls` is how https ones are spoken to; `source` is the
        local address, "" lets the system choose."""
        self._more = asyncio.Event()
        self.topics = Topics(
            clock=lambda: asyncio.get_running_loop().time(),
            datacenter=datacenter,
            waits=self._more.set,
        )
        self._client = FeedClient(
            addresses,
            self.topics.copy,
            settings=settings,
            headers={"X-Consul-Token": token} if token else {},
            tls=tls,
            source=source,
        )
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to follow."""
        self._task = asyncio.create_task(self._follow(), name="follow the catalog")

    async def stop(self) -> None:
        """Stop following; the values stay."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def judge(self, judge: Judge) -> None:
        """Leave an agent whose certificate (DER) is not accepted any more."""
        self._client.judge(judge)

    def problem(self) -> str | None:
        """Why there are no topics; None if there are."""
        if self.topics.ready:
            return None
        return f"no complete copy of the catalog yet: {self._client.last_error or 'connecting'}"

    def status(self) -> dict[str, object]:
        """What is known of the catalog, and where it comes from."""
        topics, copy = self.topics, self.topics.copy
        age_s = topics.age_s() if topics.ready else None
        nodes, services, checks = copy.tables.counts
        return {
            "ready": topics.ready,
            "connected_to": self._client.connected_to,
            "last_error": self._client.last_error,
            "switches": self._client.switches,
            "datacenter": copy.datacenter,
            "epoch": topics.place.epoch,
            "index": topics.place.index,
            "oldest": topics.oldest.index,
            "age_s": None if age_s is None or age_s == float("inf") else round(age_s, 3),
            "leader": copy.leader,
            "members": len(copy.members),
            "nodes": nodes,
            "services": services,
            "checks": checks,
            "events": topics.events,
            "resets": topics.resets,
            "waiting": copy.waiting,
            "ring_events": topics.ring_events,
            "ring_bytes": topics.ring_bytes,
        }

    async def _follow(self) -> None:
        """Follow for ever; a mistake of ours on the way must not leave us stale for good."""
        while True:
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._client.run(), name="follow the feed")
                    group.create_task(self._make(), name="make events")
            except* Exception:
                log.exception("following the catalog failed: begun anew")
                self.topics.copy.doubt()
            await asyncio.sleep(RESTART_PAUSE_S)

    async def _make(self) -> None:
        """Make the events of what was received, a slice at a time."""
        while True:
            await self._more.wait()
            self._more.clear()
            until = time.perf_counter() + SLICE_S
            for _ in self.topics.steps():
                if time.perf_counter() > until:
                    await asyncio.sleep(0)
                    until = time.perf_counter() + SLICE_S
