"""The store of several hubs: PostgreSQL, where each appends, and each is told what all append.

Offsets are given in the order of commits, under a lock (see `postgres_schema`). A commit is on the
server's disk before anybody sees it: this store is always durable. What a hub appends itself it is
told at once if nothing of another's comes before; the rest comes by the tail, which asks when the
server notifies it, and every second in any case.

When the server goes away, appends are refused (HistoryBusy), reads raise StoreAway, and both go on
when it is back. An append whose answer was lost is sent again under the number it had: the server
takes it once.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import psycopg

from callboard.hub.event import Update
from callboard.hub.history import mark as marks
from callboard.hub.history.intake import Seldom
from callboard.hub.history.mark import Mark
from callboard.hub.history.postgres_connection import Connection, Link, Server, Unfit, reason
from callboard.hub.history.postgres_database import Batch, Database, Known, Snapshot
from callboard.hub.history.postgres_schema import CHANNEL
from callboard.hub.history.store import (
    Draft,
    Epoch,
    Header,
    Page,
    Purged,
    Retention,
    Standing,
    StoreAway,
    StoreFailed,
    Told,
    Trimmed,
    place_of,
)
from callboard.hub.ports import HistoryBusy, HistoryError, HistoryFull, HistoryUncertain

log = logging.getLogger(__name__)

READERS = 2
MARK = "postgres.mark"
MARK_EVERY_S = 5.0
OPEN_WAIT_S = 10.0
"""How long a start waits for a server that is starting, too."""
TRANSIENT = (psycopg.OperationalError, OSError, StoreAway)
"""What a start waits out."""
OPEN_S = 3600.0
"""How long the first question may take: where the prefixes of retention changed, all updates are
sorted anew."""
APPEND_WAIT_S = 5.0
"""How long an append waits for a server that went away."""
DOUBT_WAIT_S = 30.0
"""How long it waits to know what became of it."""
POLL_S = 1.0
TAIL_BYTES = 4 << 20
TAIL_COUNT = 5_000
SLICE = 500
"""Rows that are trimmed or purged in one transaction."""

T = TypeVar("T")


class PostgresStore:
    """A `Store` in a database of a PostgreSQL server (12 or newer)."""

    def __init__(self, url: str, retention: Retention, folder: Path | None = None) -> None:
        """`url` is what libpq takes: `postgresql://user:password@host:port/database?…`.

        `folder` is the hub's own: there it writes down how far it was told, and knows at its next
        start a database that was restored meanwhile without a trace; None: it does not. Raises
        ValueError for another URL.
        """
        self._mark = folder / MARK if folder is not None else None
        self._marked: Mark | None = None
        self._marked_at = 0.0
        self._retention = retention
        self._database = Database(retention, self._see_epochs)
        self._server = Server(url, self._prepare)
        self._writing = Link(self._server, self._fail)
        self._tailing = Link(self._server, self._fail)
        self._reading = [Link(self._server, self._fail) for _ in range(READERS)]
        self._writer = secrets.token_hex(16)
        """Names this run of this hub; its batches are numbered."""
        self._batch = 0
        self._refusals = Seldom("history: PostgreSQL refused %d batches: %s")
        self._appending = asyncio.Lock()
        self._told_through = 0
        self._last: Update | None = None
        """The newest update that was told: a server that has another one there is restored."""
        self._more_told = asyncio.Event()
        self._purges = 0
        self._failed = False
        self._tail: asyncio.Task[None] | None = None
        self._listens: Connection | None = None

    # ------------------------------------------------------------------------ Store

    async def open(self, told: Told, purged: Purged, fatal: Callable[[str], None]) -> Standing:
        self._told = told
        self._purged = purged
        self._fatal = fatal
        standing, self._purges = await self._open(self._database.standing)
        if await self._was_restored(standing):
            standing, self._purges = await self._open(self._database.begin_epoch)
        self._told_through = standing.head
        self._tail = asyncio.create_task(self._follow(), name="history-tail")
        return standing

    async def append(self, batch: Sequence[Draft]) -> Sequence[Update]:
        async with self._appending:
            self._batch += 1
            sent = Batch(batch, self._retention)
            known = await self._send(sent)
            answers, new = sent.answers(known, self._database.epochs)
            if new and new[0].offset == self._told_through + 1:
                self._tell(new)
            while new and self._told_through < new[-1].offset:
                self._more_told.clear()
                self._check()
                await self._more_told.wait()
            self._check()
            return answers

    async def head(self) -> int:
        return await self._ask(self._database.head)

    async def read(self, after: int, bytes_max: int, count_max: int) -> Page:
        found = await self._ask(lambda c: self._database.snapshot(c, after, bytes_max, count_max))
        return found.page

    async def newest(self, bytes_max: int, count_max: int) -> Sequence[Update]:
        return await self._ask(lambda c: self._database.newest(c, bytes_max, count_max))

    async def headers(
        self, before: int, count_max: int, topics: Sequence[str] = ()
    ) -> Sequence[Header]:
        return await self._ask(lambda c: self._database.headers(c, before, count_max, topics))

    async def find(self, own_id: str) -> int | None:
        return await self._ask(lambda c: self._database.find(c, own_id))

    async def at_time(self, time_ms: int) -> int:
        return await self._ask(lambda c: self._database.at_time(c, time_ms))

    async def trim(self, now_ms: int) -> Trimmed:
        loop = asyncio.get_running_loop()
        if loop.time() > self._marked_at + MARK_EVERY_S:
            self._marked_at = loop.time()
            await self._write_mark()
        return await self._ask(lambda c: self._database.trim(c, now_ms, SLICE))

    async def purge(self, topic: str) -> int:
        through, count = await self.head(), 0
        while removed := await self._ask(lambda c: self._database.purge(c, topic, through, SLICE)):
            count += removed
        self._purged(topic, through)  # by the tail once more, after what it may be about to tell
        return count

    async def close(self) -> None:
        """Also after `fatal`."""
        async with self._appending:
            if self._tail is not None:
                self._tail.cancel()
                with suppress(asyncio.CancelledError):
                    await self._tail
                with suppress(StoreFailed):
                    await self._write_mark()
            for link in (self._writing, self._tailing, *self._reading):
                await link.close()

    # ------------------------------------------------------------------------ the server

    async def _open(
        self, begin: Callable[[Connection], Awaitable[tuple[Standing, int]]]
    ) -> tuple[Standing, int]:
        """Raises OSError or ValueError."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + OPEN_WAIT_S
        while True:
            try:
                return await self._tailing.ask(begin, OPEN_S)
            except (StoreAway, psycopg.Error, OSError) as problem:
                cause = problem.__cause__ or problem
                if isinstance(cause, Unfit):
                    await self.close()
                    raise cause from None
                if not isinstance(cause, TRANSIENT) or loop.time() > deadline:
                    await self.close()
                    raise OSError(f"PostgreSQL: {reason(cause)}") from problem
                await self._server.pause()

    async def _was_restored(self, standing: Standing) -> bool:
        """Whether the database was further once. One that this hub was never at is not."""
        if self._mark is None:
            return False
        self._marked = await asyncio.to_thread(marks.read, self._mark)
        known = {epoch.name for epoch in standing.epochs}
        return (
            self._marked is not None
            and self._marked.epoch in known
            and self._marked.head > standing.head
        )

    async def _write_mark(self) -> None:
        """Say how far this hub was told. Raises StoreFailed."""
        now = Mark(place_of(self._database.epochs, self._told_through), self._told_through)
        if self._mark is None or now == self._marked:
            return
        try:
            await asyncio.to_thread(marks.write, self._mark, now)
        except OSError as problem:
            self._fail(f"history: {problem}")
            raise StoreFailed from problem
        self._marked = now

    async def _prepare(self, connection: Connection) -> None:
        """Of every new connection: the server is fit, and has what it had when it was left."""
        same = await self._database.join(connection, self._told_through, self._last)
        if not same:
            self._leave()

    def _see_epochs(self, new: Sequence[Epoch]) -> None:
        """A new epoch is no matter if all that was told precedes it."""
        if any(epoch.first <= self._told_through for epoch in new):
            self._leave()

    def _leave(self) -> None:
        """No reader may go on as if nothing had been lost: each comes back with its cursor, and
        is told of the gap. Raises StoreFailed."""
        self._fail("history: PostgreSQL was restored, or another server took its place")
        raise StoreFailed

    async def _send(self, batch: Batch) -> list[Known]:
        """Append, however often the server goes away meanwhile; within limits. Raises
        HistoryError."""
        parameters = {"writer": self._writer, "batch": self._batch, **batch.parameters}
        loop = asyncio.get_running_loop()
        began, doubt = loop.time(), False
        while True:
            self._check()
            try:
                return await self._writing.ask(lambda c: self._database.append(c, parameters))
            except StoreAway as away:
                waited = max(loop.time() - began, self._server.away_s)
                if not doubt and waited > APPEND_WAIT_S:
                    raise HistoryBusy("PostgreSQL is away") from away
            except (psycopg.Error, OSError) as problem:
                self._check()
                if not self._writing.broken:
                    raise self._refusal(problem) from problem
                doubt = True
            if doubt and loop.time() - began > DOUBT_WAIT_S:
                raise HistoryUncertain("PostgreSQL went away before it answered")
            await self._server.pause()

    def _refusal(self, problem: Exception) -> HistoryError:
        """What a batch is refused with that the server rolled back."""
        if isinstance(problem, psycopg.errors.DiskFull):
            return HistoryFull("the disk of the PostgreSQL server is full")
        self._refusals.tell(1, reason(problem))
        return HistoryBusy("PostgreSQL did not take it")

    async def _ask(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Ask on the first connection that is free. Raises StoreAway, StoreFailed."""
        self._check()
        link = next((link for link in self._reading if not link.busy), self._reading[0])
        try:
            return await link.ask(work)
        except (psycopg.Error, OSError) as problem:
            self._check()
            raise StoreAway(f"PostgreSQL: {reason(problem)}") from problem

    def _check(self) -> None:
        if self._failed:
            raise StoreFailed

    def _fail(self, text: str) -> None:
        if not self._failed:
            self._failed = True
            self._more_told.set()
            self._fatal(text)

    # ------------------------------------------------------------------------ the tail

    async def _follow(self) -> None:
        """Tell what is appended, as long as the hub runs."""
        while True:
            try:
                await self._tailing.ask(self._tail_once)
            except StoreFailed:
                return
            except (StoreAway, psycopg.Error, OSError):
                await self._server.pause()
            except Exception as problem:
                log.exception("history: the tail ended")
                self._fail(f"history: {reason(problem)}")
                return

    async def _tail_once(self, connection: Connection) -> None:
        """Tell a page of what there is; if that is all, wait for a hint, or for a second."""
        if connection is not self._listens:
            await connection.execute(f"LISTEN {CHANNEL}".encode())
            self._listens = connection
        after = self._told_through
        now = await self._database.snapshot(connection, after, TAIL_BYTES, TAIL_COUNT)
        self._take(now, after)
        if self._told_through < now.head:
            return
        if now.purges > self._purges:
            await self._take_purges(connection, now.purges)
        async for hint in connection.notifies(timeout=POLL_S, stop_after=1):
            if not hint.payload or int(hint.payload) > self._told_through:
                return

    def _take(self, now: Snapshot, after: int) -> None:
        updates = now.page.updates
        through = updates[-1].offset if updates else now.head
        if through - after > len(updates):
            offsets = {update.offset for update in updates}
            missing = next(o for o in range(after + 1, through + 1) if o not in offsets)
            if missing <= max(now.page.trimmed.values()):
                # readers must be told of a gap: they are, when they come back
                self._fail("history: updates were trimmed before this hub had read them")
                raise StoreFailed
        self._tell(updates, through)

    async def _take_purges(self, connection: Connection, last: int) -> None:
        """Tell what was purged; all that these took has been told, or will not be."""
        found = await self._database.purges(connection, self._purges, last)
        if len(found) < last - self._purges:
            self._fail("history: more was purged than the server remembers")
            raise StoreFailed
        self._purges = last
        for topic, through in dict.fromkeys(found):
            self._purged(topic, through)

    def _tell(self, updates: Sequence[Update], through: int = 0) -> None:
        """Tell what was not told yet. What was purged before it could be is left out."""
        new = [update for update in updates if update.offset > self._told_through]
        if new:
            self._last = new[-1]
            self._told_through = new[-1].offset
            self._told(new)
        self._told_through = max(self._told_through, through)
        self._more_told.set()
