"""The name server's copy of the catalog: from disk at the start, then by the feed, then to disk."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Sequence
from pathlib import Path

from callboard.catalog.changes import Change
from callboard.feed.client import FeedClient
from callboard.feed.copy import CatalogCopy
from callboard.feed.following import follow_for_ever, why_not_ready
from callboard.feed.image import NAME, ImageError, ImageWriter, load
from callboard.feed.poll import PollClient
from callboard.nameserver.settings import NameserverSettings

log = logging.getLogger(__name__)

SAVE_INTERVAL_S = 10.0
"""How much of the catalog's history a power cut may cost; agents have it all the same."""


class CatalogView:
    """The copy, and the tasks that keep it."""

    def __init__(
        self,
        settings: NameserverSettings,
        *,
        tls: ssl.SSLContext | None = None,
        save_interval_s: float = SAVE_INTERVAL_S,
    ) -> None:
        """`tls` is how https agents are spoken to."""
        self.copy = CatalogCopy(settings.datacenter)
        headers = {"X-Consul-Token": settings.token} if settings.token else {}
        client = FeedClient if settings.mode == "feed" else PollClient
        self.follower: FeedClient | PollClient = client(
            settings.catalog, self.copy, headers=headers, source=settings.source, tls=tls
        )
        self._image: ImageWriter | None = None
        self._directory = settings.data_dir
        self._mode = settings.mode
        self._save_interval_s = save_interval_s
        self._tasks: list[asyncio.Task[None]] = []
        self._complete = asyncio.Event()
        """Set once there is a whole copy to save."""
        self.save_failures = 0

    async def start(self) -> None:
        """Load the image, then follow. Raises OSError if the directory cannot be used."""
        self.copy.listen(self._changed, reset=self._complete.set)
        if self._directory is not None:
            self._directory.mkdir(parents=True, exist_ok=True)
            path = self._directory / NAME
            self._load(path)
            self._image = ImageWriter(path, self.copy)
        loop = asyncio.get_running_loop()
        following = follow_for_ever(self.follower.run, self.copy.reset_listeners)
        self._tasks.append(loop.create_task(following, name="follow"))
        if self._image is not None:
            self._tasks.append(loop.create_task(self._save_often(), name="save"))

    async def stop(self) -> None:
        """Stop following, and save."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        self.copy.unlisten(self._changed)
        await self._save()

    def age_s(self) -> float:
        """How old the copy is; infinite without one."""
        return self.copy.age_s(asyncio.get_running_loop().time())

    def problem(self) -> str | None:
        """Why nothing can be answered; None if something can."""
        return why_not_ready(self.copy, self.follower)

    def status(self) -> dict[str, object]:
        """What is known of the copy and where it comes from."""
        copy = self.copy
        age_s = self.age_s()
        nodes, services, checks = copy.tables.counts
        return {
            "ready": copy.ready,
            "mode": self._mode,
            "connected_to": self.follower.connected_to,
            "last_error": self.follower.last_error,
            "switches": self.follower.switches,
            "datacenter": copy.datacenter,
            "epoch": copy.epoch,
            "histories": copy.histories,
            "applied_index": copy.applied_index,
            "age_s": None if age_s == float("inf") else round(age_s, 3),
            "leader": copy.leader,
            "term": copy.term,
            "members": len(copy.members),
            "nodes": nodes,
            "services": services,
            "checks": checks,
        }

    def _load(self, path: Path) -> None:
        """An image that cannot be used is set aside: the feed gives another."""
        now = asyncio.get_running_loop().time()
        try:
            found = load(path, self.copy, now=now, wall_now=time.time())
        except ImageError as problem:
            aside = path.with_suffix(".damaged")
            path.replace(aside)
            log.error("the copy on disk is damaged", extra={"why": str(problem), "kept": aside})
            return
        if found:
            log.info(
                "the copy on disk is loaded",
                extra={"index": self.copy.applied_index, "age_s": round(self.age_s(), 1)},
            )

    def _changed(self, changes: Sequence[Change]) -> None:
        """Changes are saved when it is time."""

    async def _save_often(self) -> None:
        await self._complete.wait()
        while True:
            await self._save()
            await asyncio.sleep(self._save_interval_s)

    async def _save(self) -> None:
        if self._image is None:
            return
        try:
            await self._image.save()
        except OSError as problem:
            self.save_failures += 1
            log.error("the copy could not be saved", extra={"why": str(problem)})
        except Exception:
            self.save_failures += 1
            log.exception("the copy could not be saved")
