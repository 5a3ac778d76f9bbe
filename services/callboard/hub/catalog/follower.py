"""Follows the feed of the agents, and keeps the catalog's topics by it."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Sequence

from callboard.feed.client import FeedClient, FollowSettings
from callboard.feed.following import follow_for_ever, why_not_ready
from callboard.hub.catalog.topics import Topics

SLICE_S = 0.004
"""Longest time on the loop for making events, but for a single one's."""


class CatalogFollower:
    """`topics`, and the tasks that keep them."""

    def __init__(
        self,
        addresses: Sequence[str],
        *,
        token: str = "",
        tls: ssl.SSLContext | None = None,
        source: str = "",
        settings: FollowSettings | None = None,
    ) -> None:
        """`addresses` are the agents' URLs; `tls` is how https ones are spoken to; `source` is the
        local address, "" lets the system choose."""
        self._more = asyncio.Event()
        self.topics = Topics(clock=lambda: asyncio.get_running_loop().time(), waits=self._more.set)
        self.client = FeedClient(
            addresses,
            self.topics.copy,
            settings=settings,
            headers={"X-Consul-Token": token} if token else {},
            tls=tls,
            source=source,
        )
        self.judge = self.client.judge
        """Leave an agent whose certificate (DER) is not accepted any more."""
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to follow."""
        self._task = asyncio.create_task(
            follow_for_ever(self._run, self.topics.copy.doubt), name="follow the catalog"
        )

    async def stop(self) -> None:
        """Stop following; the values stay."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def problem(self) -> str | None:
        """Why there are no topics; None if there are."""
        return why_not_ready(self.topics.copy, self.client)

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.client.run(), name="follow the feed")
            group.create_task(self._make(), name="make events")

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
