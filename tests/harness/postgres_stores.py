"""Stores of hubs on one PostgreSQL server, and what they were told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from callboard.hub.event import Publication, Update
from callboard.hub.history.postgres import PostgresStore
from callboard.hub.history.store import Draft, Retention, Standing

Seen = tuple[int, str, int, tuple[str, ...], bytes]
NOW_MS = 1_700_000_000_000


class Hub:
    """One store, with all that it told."""

    def __init__(
        self, url: str, retention: Retention | None = None, folder: Path | None = None
    ) -> None:
        """Open nothing yet."""
        self.store = PostgresStore(url, retention or Retention(), folder)
        self.told: list[Update] = []
        self.purged: list[tuple[str, int]] = []
        self.reasons: list[str] = []
        """Why the process would have left."""
        self.standing: Standing

    async def open(self) -> None:
        """Open the store."""
        self.standing = await self.store.open(
            self.told.extend,
            lambda topic, through: self.purged.append((topic, through)),
            self.reasons.append,
        )

    @property
    def seen(self) -> list[Seen]:
        """What was told, to be compared."""
        return list(map(seen, self.told))

    @property
    def offsets(self) -> list[int]:
        """The offsets of what was told."""
        return [update.offset for update in self.told]

    async def publish(self, *texts: str, topic: str = "/t") -> Sequence[Update]:
        """Append texts in one batch."""
        return await self.store.append([draft(text, topic) for text in texts])


def seen(update: Update) -> Seen:
    """What readers see of an update."""
    return (update.offset, update.id, update.time_ms, update.topics, update.data)


def draft(text: str, *topics: str, key: str = "", own_id: str = "", time_ms: int = NOW_MS) -> Draft:
    """A publication on its way."""
    return Draft(
        Publication(topics or ("/t",), text.encode(), own_id=own_id, idempotency_key=key), time_ms
    )


@asynccontextmanager
async def hubs(
    url: str, count: int = 1, retention: Retention | None = None
) -> AsyncIterator[list[Hub]]:
    """Open stores on one database, and close them."""
    made = [Hub(url, retention) for _ in range(count)]
    opened = []
    try:
        for hub in made:
            await hub.open()
            opened.append(hub)
        yield made
    finally:
        for hub in opened:
            await hub.store.close()
