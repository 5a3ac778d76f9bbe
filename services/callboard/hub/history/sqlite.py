"""The store of a hub alone: SQLite with a write-ahead log, behind threads.

One thread writes, two read; the event loop only waits for them. An append is one transaction; a
hub's history puts into it whatever came while the last one was on its way (group commit).
"""

from __future__ import annotations

import asyncio
import errno
import logging
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from callboard.hub.event import Update
from callboard.hub.history.database import Database
from callboard.hub.history.reading import Reading
from callboard.hub.history.repeats import Known
from callboard.hub.history.schema import is_busy, is_full
from callboard.hub.history.schema import told as words
from callboard.hub.history.store import (
    Acknowledge,
    Draft,
    Header,
    Page,
    Purged,
    Retention,
    Standing,
    StoreAway,
    StoreFailed,
    Told,
    Trimmed,
)
from callboard.hub.ports import HistoryBusy, HistoryFull

log = logging.getLogger(__name__)

READERS = 2
MARK_EVERY_S = 5.0

T = TypeVar("T")


class SqliteStore:
    """A `BehindStore` in a folder, which belongs to one process at a time."""

    def __init__(self, folder: Path, mode: Acknowledge, retention: Retention) -> None:
        self._folder = folder
        self._mode = mode
        self._retention = retention
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="history-write")
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="history-read")
        self._failed = False
        """Set by the thread whose call failed: what waits for a thread by then is not done."""
        self._leaving = False
        """`fatal` was told."""
        self._marked_at = 0.0
        self._tidying: asyncio.Task[None] | None = None

    async def open(self, told: Told, purged: Purged, fatal: Callable[[str], None]) -> Standing:
        self._told = told
        self._purged = purged
        self._fatal = fatal
        self._loop = asyncio.get_running_loop()
        self._database = await self._loop.run_in_executor(
            self._writer, Database, self._folder, self._mode, self._retention
        )
        self._reading = Reading(self._database.path, tuple(self._database.epochs))
        return await self._write(self._database.standing)

    async def append(self, batch: Sequence[Draft]) -> Sequence[Update]:
        answers, new = await self._write(self._database.append, batch)
        if new:
            self._told(new)
        return answers

    async def write(self, batch: Sequence[tuple[Update, str]]) -> None:
        await self._write(self._database.write, batch)

    async def keys(self) -> Mapping[str, Known]:
        return await self._write(self._database.keys)

    async def head(self) -> int:
        return self._database.head

    async def read(self, after: int, bytes_max: int, count_max: int) -> Page:
        return await self._read(self._reading.read, after, bytes_max, count_max)

    async def newest(self, bytes_max: int, count_max: int) -> Sequence[Update]:
        return await self._read(self._reading.newest, bytes_max, count_max)

    async def headers(
        self, before: int, count_max: int, topics: Sequence[str] = ()
    ) -> Sequence[Header]:
        return await self._read(self._reading.headers, before, count_max, topics)

    async def find(self, own_id: str) -> int | None:
        return await self._read(self._reading.find, own_id)

    async def at_time(self, time_ms: int) -> int:
        return await self._read(self._reading.at_time, time_ms)

    async def trim(self, now_ms: int) -> Trimmed:
        if self._loop.time() > self._marked_at + MARK_EVERY_S:
            self._marked_at = self._loop.time()
            await self._write(self._mark)
        try:
            return await self._write(self._database.trim, now_ms)
        except (HistoryFull, HistoryBusy) as refused:
            raise StoreAway("the disk is full, or the database in use") from refused

    async def purge(self, topic: str) -> int:
        try:
            head, count = self._database.head, 0
            while removed := await self._write(self._database.purge, topic, head):
                count += removed
            await self._write(self._database.settle_purge)
        except (HistoryFull, HistoryBusy) as refused:
            raise StoreAway("the disk is full, or the database in use") from refused
        self._purged(topic, head)
        return count

    async def close(self) -> None:
        """Also after `fatal`: then the files are left as they are."""
        if not self._failed:
            await self._loop.run_in_executor(self._writer, self._end_reading)
            if self._tidying is not None:
                await self._tidying
            try:
                await self._run(self._writer, self._mark)
                await self._run(self._writer, self._database.close)
            except (StoreFailed, HistoryFull, HistoryBusy):
                log.warning("history: not ended cleanly, the next start will see to it")
        self._readers.shutdown(wait=False)
        self._writer.shutdown(wait=False)

    def _end_reading(self) -> None:
        self._readers.shutdown()  # no connection is closed under a question
        self._reading.close()

    async def _write(self, call: Callable[..., T], *arguments: object) -> T:
        """Run on the writer's thread, and tidy up behind it. Raises HistoryFull, HistoryBusy,
        StoreFailed."""
        try:
            return await self._run(self._writer, call, *arguments)
        finally:
            if self._database.untidy and (self._tidying is None or self._tidying.done()):
                # beside the caller, who need not wait for it
                self._tidying = self._loop.create_task(self._tidy())

    async def _read(self, call: Callable[..., T], *arguments: object) -> T:
        """Run on a reader's thread. Raises StoreAway, StoreFailed."""
        try:
            return await self._run(self._readers, call, *arguments)
        except (HistoryFull, HistoryBusy) as refused:
            raise StoreAway("the database is in use") from refused

    async def _run(self, threads: ThreadPoolExecutor, call: Callable[..., T], *given: object) -> T:
        try:
            return await self._loop.run_in_executor(threads, self._in_thread, call, *given)
        except sqlite3.Error as problem:
            if is_full(problem):
                raise HistoryFull(words(problem)) from problem
            if is_busy(problem):
                raise HistoryBusy(words(problem)) from problem
            self._fail(f"history: {self._database.path}: {words(problem)}")
            raise StoreFailed from problem
        except OSError as problem:
            # of the mark alone: SQLite has errors of its own
            self._fail(f"history: {problem}")
            raise StoreFailed from problem

    def _in_thread(self, call: Callable[..., T], *given: object) -> T:
        if self._failed:
            raise StoreFailed
        try:
            return call(*given)
        except (sqlite3.Error, OSError) as problem:
            if not (isinstance(problem, sqlite3.Error) and (is_full(problem) or is_busy(problem))):
                self._failed = True
            raise

    def _mark(self) -> None:
        try:
            self._database.mark()
        except OSError as problem:
            if problem.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            log.warning("history: the disk is full: %s", problem)

    async def _tidy(self) -> None:
        with suppress(HistoryFull, HistoryBusy, StoreFailed):
            await self._run(self._writer, self._database.tidy)

    def _fail(self, reason: str) -> None:
        if not self._leaving:
            self._leaving = True
            self._database.abandon()
            self._fatal(reason)
