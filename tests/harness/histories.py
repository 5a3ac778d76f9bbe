"""The hub's history on a disk, as tests run it: publish and wait, read all, start again."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from callboard.hub.event import Publication, Update
from callboard.hub.history.ring import Ring
from callboard.hub.history.sqlite import SqliteStore
from callboard.hub.history.store import Acknowledge, Retention
from callboard.hub.history.stored import StoredHistory
from callboard.hub.ports import HistoryError, Matcher


class Clock:
    """Wall time that stands still until it is moved; seconds."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class Exact:
    """A matcher of one topic."""

    text: str
    kind: str = "exact"

    def matches(self, topic: str) -> bool:
        return topic == self.text


@dataclass(frozen=True)
class Beginning:
    """A matcher of what begins so; kind and text say how it was written."""

    literal: str
    kind: str = "template"

    @property
    def text(self) -> str:
        return f"{self.literal}{{rest}}"

    def matches(self, topic: str) -> bool:
        return topic.startswith(self.literal)


@dataclass(frozen=True)
class Wants:
    """A selector over matchers, that sees private updates or not."""

    matchers: tuple[Matcher, ...]
    sees_private: bool = True
    hub: bool = True
    catalog: bool = False

    def wants(self, topics: tuple[str, ...], private: bool) -> bool:
        named = any(m.matches(topic) for m in self.matchers for topic in topics)
        return named and (self.sees_private or not private)

    def wants_catalog(self, topic: str) -> bool:
        return False


def wants(*topics: str) -> Wants:
    """A selector of some topics."""
    return Wants(tuple(Exact(topic) for topic in topics))


@dataclass
class Running:
    """A history that runs, and what it told."""

    history: StoredHistory
    store: SqliteStore
    clock: Clock
    seen: list[Update] = field(default_factory=list)
    fatal: list[str] = field(default_factory=list)

    async def publish(self, data: bytes | str = b"x", topic: str = "t", **more: object) -> Update:
        """Publish and wait; raises HistoryError when refused."""
        return (await self.publish_all([(data, topic)], **more))[0]

    async def publish_all(
        self, things: Sequence[tuple[bytes | str, str]], **more: object
    ) -> list[Update]:
        """Publish (data, topics) at once, and wait for all; topics are parted by spaces."""
        outcomes: list[asyncio.Future[Update]] = []
        for data, topics in things:
            body = data.encode() if isinstance(data, str) else data
            publication = Publication(tuple(topics.split()), body, **more)  # type: ignore[arg-type]
            outcomes.append(publishing(self.history, publication))
        return list(await asyncio.gather(*outcomes))

    async def all(self) -> list[Update]:
        """Everything, from the store."""
        found: list[Update] = []
        after = 0
        await self.history._flushed()
        while page := await self.history.read(after, 1 << 20):
            found += page
            after = page[-1].offset
        return found

    async def data(self) -> list[str]:
        """The data of everything, from the store."""
        return [update.data.decode() for update in await self.all()]

    async def trim(self) -> None:
        """As much as there is to trim."""
        await self.history.trim()


def publishing(history: StoredHistory, publication: Publication) -> asyncio.Future[Update]:
    """What becomes of a publication."""
    future: asyncio.Future[Update] = asyncio.get_running_loop().create_future()

    def taken(outcome: Update | HistoryError) -> None:
        if isinstance(outcome, HistoryError):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)

    history.submit(publication, taken)
    return future


@asynccontextmanager
async def running(
    folder: Path,
    mode: Acknowledge = Acknowledge.DURABLE,
    retention: Retention | None = None,
    *,
    clock: Clock | None = None,
    ring: Ring | None = None,
) -> AsyncIterator[Running]:
    """A history from start to close."""
    clock = clock or Clock()
    retention = retention or Retention()
    store = SqliteStore(folder, mode, retention)
    fatal: list[str] = []
    history = StoredHistory(
        store,
        retention,
        clock=clock,
        fatal=fatal.append,
        behind=store if mode is Acknowledge.MEMORY else None,
        ring=ring,
    )
    await history.start()
    one = Running(history, store, clock, fatal=fatal)
    history.listen(one.seen.extend)
    try:
        yield one
    finally:
        await history.close()


def left_behind(folder: Path, to: Path) -> Path:
    """A copy of what a process that were killed now would leave, while nothing is being written."""
    shutil.copytree(folder, to, ignore=shutil.ignore_patterns("*-shm"))
    return to
