"""How publications come into the store: after the commit, or before it.

Both have one bounded queue and one task; whatever comes while a commit is on its way goes into the
next one. When the queue is full, publications are refused (HistoryBusy); when the disk is, too
(HistoryFull), until a commit succeeds again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import Protocol

from callboard.hub.event import Publication, Update
from callboard.hub.history.repeats import Known, repeated
from callboard.hub.history.store import (
    BehindStore,
    Draft,
    Epoch,
    Retention,
    Store,
    StoreFailed,
    Told,
    place_of,
)
from callboard.hub.ports import HistoryBusy, HistoryError, Taken

log = logging.getLogger(__name__)

WAITING_MAX = 10_000
WAITING_BYTES_MAX = 64 << 20
BATCH_MAX = 1_000
BATCH_BYTES_MAX = 8 << 20
GATHER_S = 0.02
"""Between two commits of `memory`, unless somebody waits for one. (A commit for each publication
would have the writer's thread and the loop fight for the interpreter.)"""
AGAIN_S = 1.0
FLUSH_S = 10.0
LOG_EVERY_S = 10.0


class Intake(Protocol):
    """What a history gives publications to."""

    @property
    def waiting(self) -> int:
        """Publications that are not committed yet."""

    def submit(self, publication: Publication, taken: Taken) -> None:
        """As `History.submit`."""

    async def flushed(self) -> None:
        """Returns once what is visible now can be read from the store. Raises TimeoutError."""

    async def run(self) -> None:
        """Commit, until `stop` was called and nothing waits any more."""

    def stop(self) -> None:
        """Take no more."""


class Seldom:
    """A log line that does not come more often than every few seconds, with what it left out."""

    def __init__(self, text: str) -> None:
        """`text` has one %d, for how often, and one %s, for the latest reason."""
        self._text = text
        self._count = 0
        self._again_at = 0.0

    def tell(self, count: int, reason: object) -> None:
        now = asyncio.get_running_loop().time()
        self._count += count
        if now >= self._again_at:
            log.warning(self._text, self._count, reason)
            self._count, self._again_at = 0, now + LOG_EVERY_S


def cost(publication: Publication) -> int:
    """Bytes that a publication costs while it waits."""
    return len(publication.data) + sum(map(len, publication.topics)) + 400


def answer(taken: Taken, outcome: Update | HistoryError) -> None:
    """Tell a publisher; what goes wrong there is not the history's."""
    try:
        taken(outcome)
    except Exception:
        log.exception("history: a publisher could not be told")


class CommitFirst:
    """`written` and `durable`: visible and acknowledged after the commit."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        """`clock` gives wall time in seconds."""
        self._store = store
        self._clock = clock
        self._queue: deque[tuple[Draft, Taken]] = deque()
        self._waiting = 0
        self._bytes = 0
        self._wake = asyncio.Event()
        self._stopped = False
        self._refusals = Seldom("history: %d publications refused: %s")

    @property
    def waiting(self) -> int:
        return self._waiting

    def submit(self, publication: Publication, taken: Taken) -> None:
        size = cost(publication)
        if self._stopped:
            answer(taken, HistoryBusy("the hub ends"))
        elif self._waiting >= WAITING_MAX or self._bytes + size > WAITING_BYTES_MAX:
            answer(taken, HistoryBusy("too many publications wait for the disk"))
        else:
            self._waiting += 1
            self._bytes += size
            self._queue.append((Draft(publication, int(self._clock() * 1000)), taken))
            self._wake.set()

    async def flushed(self) -> None:
        return

    async def run(self) -> None:
        while True:
            batch = self._next()
            if batch:
                await self._commit(batch)
            elif self._stopped:
                return
            else:
                self._wake.clear()
                await self._wake.wait()

    def stop(self) -> None:
        self._stopped = True
        self._wake.set()

    def _next(self) -> Sequence[tuple[Draft, Taken]]:
        batch: list[tuple[Draft, Taken]] = []
        size = 0
        while self._queue and len(batch) < BATCH_MAX and size < BATCH_BYTES_MAX:
            batch.append(self._queue.popleft())
            size += cost(batch[-1][0].publication)
        return batch

    async def _commit(self, batch: Sequence[tuple[Draft, Taken]]) -> None:
        outcomes: Sequence[Update | HistoryError]
        try:
            outcomes = await self._store.append([draft for draft, _ in batch])
        except HistoryError as refusal:
            self._refusals.tell(len(batch), refusal)
            outcomes = [refusal] * len(batch)
        except StoreFailed:
            raise
        except Exception as problem:
            log.exception("history: a batch cannot be stored")
            outcomes = [HistoryError(f"it cannot be stored: {problem}")] * len(batch)
        for (draft, taken), outcome in zip(batch, outcomes, strict=True):
            self._waiting -= 1
            self._bytes -= cost(draft.publication)
            answer(taken, outcome)


class WriteBehind:
    """`memory`: visible and acknowledged at once, written a moment later (GATHER_S).

    What was visible is never taken back: on a full disk it waits, and nothing more is taken until
    it is written.
    """

    def __init__(
        self,
        store: BehindStore,
        clock: Callable[[], float],
        told: Told,
        *,
        epochs: Sequence[Epoch],
        head: int,
        time_ms: int,
        keys: OrderedDict[str, Known],
        retention: Retention,
    ) -> None:
        """`time_ms` is that of the newest update, `keys` as the store remembers them."""
        self._store = store
        self._clock = clock
        self._told = told
        self._epochs = epochs
        self._head = head
        self._time_ms = time_ms
        self._keys = keys
        self._retention = retention
        self._queue: deque[tuple[Update, str]] = deque()
        self._bytes = 0
        self.written = head
        """The store has all up to this offset."""
        self._refused: HistoryError | None = None
        """Why the last commit failed: publications get the same answer until one succeeds."""
        self._wake = asyncio.Event()
        self._hurry = asyncio.Event()
        """Somebody waits for a commit, or there is enough for one."""
        self._progress = asyncio.Condition()
        self._stopped = False
        self._refusals = Seldom("history: %d publications refused: %s")

    @property
    def waiting(self) -> int:
        return len(self._queue)

    def submit(self, publication: Publication, taken: Taken) -> None:
        refusal = self._refusal(publication)
        if refusal is not None:
            self._refusals.tell(1, refusal)
            answer(taken, refusal)
            return
        key = publication.idempotency_key
        known = self._keys.get(key) if key else None
        if known is not None:
            answer(taken, repeated(publication, known, place_of(self._epochs, known[0])))
            return
        self._head += 1
        self._time_ms = max(self._time_ms, int(self._clock() * 1000))
        update = Update(self._head, self._epochs[-1].name, self._time_ms, publication)
        if key:
            self._remember(key, update)
        self._queue.append((update, key))
        self._bytes += update.size
        self._wake.set()
        if len(self._queue) >= BATCH_MAX or self._bytes >= BATCH_BYTES_MAX:
            self._hurry.set()
        self._told((update,))
        answer(taken, update)

    async def flushed(self) -> None:
        upto = self._head
        if upto > self.written:
            self._hurry.set()
        async with asyncio.timeout(FLUSH_S), self._progress:
            await self._progress.wait_for(lambda: self.written >= upto)

    async def run(self) -> None:
        while True:
            batch = self._next()
            if batch:
                await self._commit(batch)
                if self._refused is not None and self._stopped:
                    log.error("history: %d updates are lost: %s", self.waiting, self._refused)
                    return
                await self._gather()
            elif self._stopped:
                return
            else:
                self._wake.clear()
                await self._wake.wait()

    def stop(self) -> None:
        self._stopped = True
        self._wake.set()
        self._hurry.set()

    async def _gather(self) -> None:
        """Let publications come together, unless it hurries."""
        if not self._stopped:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GATHER_S):
                    await self._hurry.wait()
        if len(self._queue) < BATCH_MAX:
            self._hurry.clear()

    def _refusal(self, publication: Publication) -> HistoryError | None:
        if self._stopped:
            return HistoryBusy("the hub ends")
        if self._refused is not None:
            return self._refused
        size = self._bytes + 2 * cost(publication)
        if len(self._queue) >= WAITING_MAX or size > WAITING_BYTES_MAX:
            return HistoryBusy("too many publications wait for the disk")
        return None

    def _remember(self, key: str, update: Update) -> None:
        self._keys[key] = (update.offset, update.time_ms, update.own_id)
        before_ms = update.time_ms - int(self._retention.keys_age_s * 1000)
        while True:
            oldest = next(iter(self._keys))
            offset, time_ms, _ = self._keys[oldest]
            if offset > self._head - self._retention.keys_count and time_ms >= before_ms:
                break
            del self._keys[oldest]

    def _next(self) -> Sequence[tuple[Update, str]]:
        batch: list[tuple[Update, str]] = []
        size = 0
        for waiting in self._queue:
            if len(batch) >= BATCH_MAX or size >= BATCH_BYTES_MAX:
                break
            batch.append(waiting)
            size += waiting[0].size
        return batch

    async def _commit(self, batch: Sequence[tuple[Update, str]]) -> None:
        try:
            await self._store.write(batch)
        except HistoryError as refusal:
            self._refused = refusal
            if not self._stopped:
                await asyncio.sleep(AGAIN_S)
            return
        self._refused = None
        for update, _ in batch:
            self._queue.popleft()
            self._bytes -= update.size
        self.written = batch[-1][0].offset
        async with self._progress:
            self._progress.notify_all()
