"""The hub's history: what is visible, in memory and in a store, and where readers stand in it."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

from callboard.hub.cursor import Cursor, Place
from callboard.hub.event import Publication, Update
from callboard.hub.history.intake import CommitFirst, Intake, Seldom, WriteBehind
from callboard.hub.history.resume import Extent, requested, trimmed_of
from callboard.hub.history.ring import Ring
from callboard.hub.history.schema import joined
from callboard.hub.history.store import (
    BehindStore,
    Epoch,
    Header,
    Retention,
    Store,
    StoreAway,
    StoreFailed,
)
from callboard.hub.ports import Gap, Resume, Selector, Taken

log = logging.getLogger(__name__)

NEWEST_BYTES = 8 << 20
NEWEST_COUNT = 10_000
"""What is loaded into memory at the start."""
READ_COUNT = 2_000
"""Updates in one page from the store."""
TRIM_EVERY_S = 1.0
AWAY_S = 0.5
"""Between questions to a store that cannot be asked, and twice that at most."""
CATCH_UP_S = 5.0
"""How long a reader with a place that this hub has not seen yet waits for it."""
CLOSE_S = 20.0
"""How long the end waits for commits; the store is closed within the program's own deadline."""
SCAN_PAGE = 500
SCAN_MAX = 20_000
"""Updates that `last` looks at, at most."""

T = TypeVar("T")


class StoredHistory:
    """A `History` over a `Store`. `start` comes first, `close` last."""

    def __init__(
        self,
        store: Store,
        retention: Retention,
        *,
        clock: Callable[[], float],
        fatal: Callable[[str], None],
        behind: BehindStore | None = None,
        ring: Ring | None = None,
    ) -> None:
        """`clock` gives wall time in seconds. `fatal` is told once, on the loop, why the process
        must leave. `behind`: the same store, to be written behind (`memory`)."""
        self._store = store
        self._retention = retention
        self._clock = clock
        self._fatal = fatal
        self._behind = behind
        self._ring = Ring() if ring is None else ring
        self._listeners: list[Callable[[Sequence[Update]], None]] = []
        self._epochs: list[Epoch] = []
        self._head = 0
        self._oldest = 1
        self._trimmed: dict[str, int] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._intake: Intake
        self._early: list[Callable[[], None]] | None = None
        self._grown = asyncio.Event()
        self._away = Seldom("history: the store was away %d times: %s")

    async def start(self) -> None:
        """Open the store. Raises OSError or ValueError, with the reason."""
        # what is told before the ring has its beginning waits for it
        early: list[Callable[[], None]] = []
        self._early = early
        standing = await self._store.open(self._see, self._forget, self._fatal)
        self._epochs = list(standing.epochs)
        self._head, self._oldest = standing.head, standing.oldest
        self._trimmed = dict(standing.trimmed)
        try:
            newest = await self._store.newest(NEWEST_BYTES, NEWEST_COUNT)
        except StoreFailed as failed:
            raise OSError("the history cannot be read") from failed
        newest = [update for update in newest if update.offset <= self._head]
        self._ring.begin(newest, newest[0].offset if newest else self._head + 1)
        self._intake = await self._make_intake(newest[-1].time_ms if newest else 0)
        self._early = None
        for told in early:
            told()
        self._tasks = [
            asyncio.create_task(self._commit(), name="history-commit"),
            asyncio.create_task(self._trim(), name="history-trim"),
        ]

    async def close(self) -> None:
        """Finish what waits, and end the run cleanly."""
        self._intake.stop()
        commit, trim = self._tasks
        trim.cancel()
        done, _ = await asyncio.wait([commit], timeout=CLOSE_S)
        if not done:
            log.error("history: %d publications were not written in time", self.waiting)
            commit.cancel()
        await asyncio.gather(commit, trim, return_exceptions=True)
        await self._store.close()

    # ------------------------------------------------------------------------ publishing

    @property
    def waiting(self) -> int:
        """Publications that are not committed yet."""
        return self._intake.waiting

    def submit(self, publication: Publication, taken: Taken) -> None:
        joined(publication.topics)  # ValueError, to whom it may concern
        self._intake.submit(publication, taken)

    def listen(self, visible: Callable[[Sequence[Update]], None]) -> None:
        self._listeners.append(visible)

    # ------------------------------------------------------------------------ reading

    @property
    def epoch(self) -> str:
        return self._epochs[-1].name

    @property
    def head(self) -> int:
        return self._head

    @property
    def oldest(self) -> int:
        return self._oldest

    @property
    def ring(self) -> Ring:
        """What is in memory, for figures."""
        return self._ring

    def recent(self, after: int, bytes_max: int) -> Sequence[Update] | None:
        updates = self._ring.after(after, bytes_max)
        if updates is not None and not updates and after < self._head:
            return None  # all that followed is gone: whoever asks the store gets on, and is told
        return updates

    async def read(self, after: int, bytes_max: int) -> Sequence[Update]:
        page = await self._ask(lambda: self._store.read(after, bytes_max, READ_COUNT))
        self._learn(page.oldest, page.trimmed)
        # another hub's may be in the store, and not be visible here yet
        return [update for update in page.updates if update.offset <= self._head]

    def trimmed(self, selector: Selector) -> int:
        return trimmed_of(self._trimmed, selector)

    def gap(self, after: int, upto: int) -> Gap:
        extent = self._extent()
        return extent.gap(extent.id(after), after, upto)

    def place(self, offset: int) -> Place:
        return self._extent().place(offset)

    async def locate(self, cursor: Cursor, selector: Selector | None = None) -> Resume:
        if cursor.earliest:
            return Resume(self._oldest - 1)
        if cursor.place is not None:
            found = self._stands(cursor.place, selector)
            if found is None:
                await self._catch_up()
                found = self._stands(cursor.place, selector)
            if found is not None:
                return found
        elif not cursor.own_id:
            return Resume(self._head)
        if cursor.own_id:
            await self._flushed()
            offset = await self._ask(lambda: self._store.find(cursor.own_id))
            if offset is not None:
                trimmed = trimmed_of(self._trimmed, selector)
                return self._extent().known(offset, cursor.own_id, trimmed)
        return self._extent().unknown(requested(cursor))

    async def since(self, time_ms: int) -> int:
        offset = self._ring.at_time(time_ms)
        if offset is None:
            await self._flushed()
            offset = await self._ask(lambda: self._store.at_time(time_ms))
        return min(offset - 1, self._head)

    async def last(self, count: int, selector: Selector) -> int:
        if count <= 0 or not selector.hub:
            return self._head
        scanned = 0
        place = self._head
        async for headers in self._backwards(selector):
            for header in headers:
                scanned += 1
                if selector.wants(header.topics, header.private):
                    place = header.offset - 1
                    count -= 1
                if count == 0 or scanned == SCAN_MAX:
                    return place
        return place

    async def purge(self, topic: str) -> int:
        await self._flushed()
        return await self._ask(lambda: self._store.purge(topic))

    async def trim(self) -> None:
        """Take what retention asks for out of the store, slice by slice, and out of memory what
        the store has no more: readers get what is kept, wherever it comes from. Raises StoreAway,
        StoreFailed."""
        more = True
        while more:
            slice = await self._store.trim(int(self._clock() * 1000))
            self._learn(slice.oldest, slice.trimmed)
            self._ring.forget_trimmed(slice.kept)
            more = slice.more

    # ------------------------------------------------------------------------ inside

    async def _make_intake(self, time_ms: int) -> Intake:
        if self._behind is None:
            return CommitFirst(self._store, self._clock)
        return WriteBehind(
            self._behind,
            self._clock,
            self._visible,
            epochs=self._epochs,
            head=self._head,
            time_ms=time_ms,
            keys=OrderedDict(await self._behind.keys()),
            retention=self._retention,
        )

    def _see(self, updates: Sequence[Update]) -> None:
        """What a store tells."""
        if self._early is not None:
            self._early.append(partial(self._visible, updates))
        else:
            self._visible(updates)

    def _forget(self, topic: str, through: int) -> None:
        """What a store purged, whichever hub asked for it."""
        if self._early is not None:
            self._early.append(partial(self._ring.forget, topic, through))
        else:
            self._ring.forget(topic, through)

    def _visible(self, updates: Sequence[Update]) -> None:
        for update in updates:
            if update.epoch != self._epochs[-1].name:
                # another hub began it
                self._epochs.append(Epoch(update.epoch, update.offset))
        self._head = updates[-1].offset
        written = self._intake.written if isinstance(self._intake, WriteBehind) else None
        self._ring.add(updates, written)
        self._grown.set()
        self._grown = asyncio.Event()
        for listener in self._listeners:
            try:
                listener(updates)
            except Exception:
                log.exception("history: a listener failed")

    def _extent(self) -> Extent:
        return Extent(self._epochs, self._head, self._oldest)

    def _learn(self, oldest: int, trimmed: Mapping[str, int]) -> None:
        self._oldest = max(self._oldest, oldest)
        for prefix, offset in trimmed.items():
            self._trimmed[prefix] = max(self._trimmed.get(prefix, 0), offset)

    def _stands(self, place: Place, selector: Selector | None) -> Resume | None:
        return self._extent().resume(place, trimmed_of(self._trimmed, selector))

    async def _flushed(self) -> None:
        try:
            await self._intake.flushed()
        except TimeoutError:
            log.warning("history: the disk is behind what is visible")

    async def _catch_up(self) -> None:
        """Wait, not for long, until all is visible here that any hub has committed."""
        try:
            async with asyncio.timeout(CATCH_UP_S):
                head = await self._store.head()
                while self._head < head:
                    await self._grown.wait()
        except (TimeoutError, StoreAway):
            return

    async def _backwards(self, selector: Selector) -> AsyncIterator[Sequence[Header]]:
        """What a selector may want, the newest first: by the topics that it names, or all."""
        topics: tuple[str, ...] = ()
        before = self._head + 1
        if all(matcher.kind == "exact" for matcher in selector.matchers):
            topics = tuple(matcher.text for matcher in selector.matchers)
        else:
            while page := self._page_of_ring(before):
                yield page
                before = page[-1].offset
                await asyncio.sleep(0)
        await self._flushed()
        while True:
            page = await self._ask(partial(self._store.headers, before, SCAN_PAGE, topics))
            if not page:
                return
            yield page
            before = page[-1].offset

    def _page_of_ring(self, before: int) -> Sequence[Header]:
        found = []
        for update in self._ring.before(before):
            found.append(Header(update.offset, update.topics, update.private))
            if len(found) == SCAN_PAGE:
                break
        return found

    async def _ask(self, question: Callable[[], Awaitable[T]]) -> T:
        """Ask the store; where it is away, until it is back."""
        while True:
            try:
                return await question()
            except StoreAway as away:
                self._away.tell(1, away)
                await asyncio.sleep(AWAY_S * (1 + random.random()))

    async def _commit(self) -> None:
        try:
            await self._intake.run()
        except StoreFailed:
            return  # `fatal` has been told
        except Exception as problem:
            log.exception("history: commits ended")
            self._fatal(f"history: commits ended: {problem!r}")

    async def _trim(self) -> None:
        while True:
            await asyncio.sleep(TRIM_EVERY_S)
            try:
                await self.trim()
            except StoreAway as away:
                self._away.tell(1, away)
            except StoreFailed:
                return
            except Exception:
                log.exception("history: trimming failed, it is tried again")
