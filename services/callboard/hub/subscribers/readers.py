"""All streams of a hub: how they begin, what they share, what they are counted by."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TypeVar

from callboard.hub.cursor import EARLIEST, Cursor
from callboard.hub.ports import CatalogTopics, History, Resume, Subscription
from callboard.hub.subscribers.delivery import Delivery
from callboard.hub.subscribers.groups import Groups, Index
from callboard.hub.subscribers.limits import ReaderLimits, Times
from callboard.hub.subscribers.polls import Poll
from callboard.hub.subscribers.reader import Reader, State
from callboard.hub.subscribers.times import Rounds
from callboard.serve.exchange import Parked
from callboard.serve.fanout import FanOut
from callboard.serve.timerwheel import TimerWheel

log = logging.getLogger(__name__)

K = TypeVar("K")

RETRY_MIN_S, RETRY_MAX_S = 1.0, 5.0
READERS_PER_RETRY_S = 1_000
"""So many more readers make the longest reconnection time one second longer."""
RETRY_LONGEST_S = 15.0
FETCH_BYTES = 256 * 1024
"""A page of the store, as `Update.size` counts (about half of it is what a reader is sent). Each
costs a transaction and a change of threads; a reader that stands still keeps one, written."""


class Refused(Exception):
    """One stream too many; the text says of what."""


@dataclass(slots=True)
class Opened:
    """A stream that may begin."""

    sink: Reader
    last_event_id: str
    """Where it begins, for the answer's head; `earliest` after a gap."""


@dataclass(slots=True)
class Counts:
    """What happened since the start."""

    begun: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    """By reason: gone, stalled, life, token, stop, failed."""


class Readers:
    """See the module. All calls on the event loop."""

    def __init__(
        self,
        history: History,
        catalog: CatalogTopics | None,
        index: Index,
        *,
        wheel: TimerWheel,
        times: Times | None = None,
        limits: ReaderLimits | None = None,
        name: str = "hub",
        now: Callable[[], float] = time.time,
        rng: random.Random | None = None,
    ) -> None:
        """`name` is the hub's own, told in `hub.hello`."""
        loop = asyncio.get_running_loop()
        self.history = history
        self.catalog = catalog
        self.name = name
        self.counts = Counts()
        self.gaps = 0
        self.turns = FanOut(loop, batch=64)
        self._loop = loop
        self._groups = Groups(index)
        self._limits = limits or ReaderLimits()
        self._now = now
        self._rng = rng or random.Random()
        self._rounds = Rounds(loop, wheel, times or Times(), now, self._rng)
        self._wheel = wheel
        self._clients: Counter[str] = Counter()
        self._tokens: Counter[bytes] = Counter()
        self._all: dict[Reader, None] = {}
        self._waiting: list[Reader] = []
        self._fetches: set[asyncio.Task[None]] = set()
        self.on_begin: Callable[[Subscription], None] | None = None
        self.on_end: Callable[[Subscription], None] | None = None
        self.delivery = Delivery(loop, history, catalog, self._groups, self._passed)

    def __len__(self) -> int:
        return len(self._all)

    # ------------------------------------------------------------------ beginning

    async def open(self, subscription: Subscription) -> Opened:
        """A reader for a stream, to be given to a connection. Raises Refused."""
        self._admit(subscription)
        hub, cursor = subscription.selector.hub, subscription.cursor
        resume = await self._locate(subscription) if hub else Resume(0)
        catalog = cursor.catalog if cursor is not None else None
        reader = Reader(self, subscription, resume.after, catalog, resume.gap)
        longest_s = min(RETRY_MAX_S + len(self._all) / READERS_PER_RETRY_S, RETRY_LONGEST_S)
        reader.retry_ms = int(self._rng.uniform(RETRY_MIN_S, longest_s) * 1000)
        if resume.gap is not None:
            return Opened(reader, EARLIEST)
        place = self.history.place(resume.after) if hub else None
        return Opened(reader, str(Cursor(place, catalog)))

    def poll(
        self, opened: Opened, wait_s: float, headers: Iterable[tuple[str, str]] = ()
    ) -> Parked:
        """A long poll: one whole answer with these headers, as soon as there is an event, or after
        `wait_s`. The leader that the client was told by its last one is none."""
        cursor = opened.sink.subscription.cursor
        opened.sink.poll(cursor.beside if cursor is not None else "")
        return Poll(opened.sink, self._wheel, wait_s, headers)

    async def _locate(self, subscription: Subscription) -> Resume:
        history = self.history
        if subscription.cursor is not None:
            return await history.locate(subscription.cursor, subscription.selector)
        if subscription.since_ms is not None:
            return Resume(await history.since(subscription.since_ms))
        if subscription.last is not None:
            return Resume(await history.last(subscription.last, subscription.selector))
        return Resume(history.head)

    def _admit(self, subscription: Subscription) -> None:
        limits, token = self._limits, subscription.rights.token_hash
        if limits.readers_max and len(self._all) >= limits.readers_max:
            raise Refused("this hub has as many subscribers as it takes")
        if limits.per_client_max and self._clients[subscription.client] >= limits.per_client_max:
            raise Refused("this address has as many streams as one may have")
        if limits.per_token_max and token and self._tokens[token] >= limits.per_token_max:
            raise Refused("this token has as many streams as one may have")

    # ------------------------------------------------------------------ what readers call

    def started(self, reader: Reader) -> None:
        """A reader has its connection."""
        subscription = reader.subscription
        chunked = reader.connection.chunked
        group = reader.group = self._groups.join(
            subscription.selector, subscription.format, chunked
        )
        # its own selector would cost each reader as much as all the rest of it
        subscription = replace(subscription, selector=group.selector, cursor=None)
        reader.subscription = subscription
        self._all[reader] = None
        self._clients[subscription.client] += 1
        if subscription.rights.token_hash:
            self._tokens[subscription.rights.token_hash] += 1
        self.counts.begun += 1
        self._rounds.add(reader)
        if self.on_begin is not None:
            self.on_begin(subscription)

    def ended(self, reader: Reader, reason: str) -> None:
        """A reader is no more; one that never had a connection was never counted."""
        if self._all.pop(reader, self) is self:
            return
        subscription = reader.subscription
        reader.group.live.pop(reader, None)
        self.counts.ended[reason] += 1
        _uncount(self._clients, subscription.client)
        if subscription.rights.token_hash:
            _uncount(self._tokens, subscription.rights.token_hash)
        self._rounds.discard(reader)
        self._groups.leave(reader.group)
        if self.on_end is not None:
            self.on_end(subscription)

    def stalls(self, reader: Reader) -> None:
        """A reader's connection is full."""
        self._rounds.stalls(reader)

    def moves(self, reader: Reader) -> None:
        """And takes bytes again."""
        self._rounds.moves(reader)

    def waits(self, reader: Reader) -> None:
        """A reader is ahead of the delivery, which is in a pass: it looks again after that."""
        self._waiting.append(reader)

    def fetch(self, reader: Reader) -> None:
        """Read on for a reader from the store: memory does not reach back so far."""
        task = self._loop.create_task(self._fetch(reader))
        self._fetches.add(task)
        task.add_done_callback(self._fetches.discard)

    def greeting(self, reader: Reader) -> dict[str, object]:
        """What `hub.hello` tells beside the cursor."""
        return {"hub": self.name, "time": int(self._now() * 1000), "retry": reader.retry_ms}

    def standing(self) -> dict[str, object]:
        """What `hub.beat` tells beside the cursor: the hub's time in milliseconds, and how old its
        copy of the catalog is in seconds (null: it has none)."""
        age_s = self.catalog.age_s() if self.catalog is not None else float("inf")
        known = None if age_s == float("inf") else round(age_s, 3)
        return {"time": int(self._now() * 1000), "catalog_age": known}

    # ------------------------------------------------------------------ for others

    def all(self) -> Iterator[Reader]:
        """The readers there are."""
        return iter(list(self._all))

    def lag(self) -> tuple[int, int]:
        """How many readers are not level, and how many events the last one is behind."""
        taken = self.delivery.taken
        lagging = [each for each in self._all if each.state is State.LAGGING]
        return len(lagging), max((taken - each.offset for each in lagging), default=0)

    async def stop(self) -> None:
        """End what is still there; the server has drained before."""
        self._rounds.stop()
        for reader in list(self._all):
            reader.cut("stop")
        for task in list(self._fetches):
            task.cancel()
        await asyncio.gather(*self._fetches, return_exceptions=True)

    # ------------------------------------------------------------------ inside

    def _passed(self) -> None:
        waiting, self._waiting = self._waiting, []
        for reader in waiting:
            reader.post()

    async def _fetch(self, reader: Reader) -> None:
        head = self.history.head
        try:
            updates = await self.history.read(reader.offset, FETCH_BYTES)
        except Exception:
            log.exception("reading the history failed: reader cut")
            reader.fetching = False
            if reader.state is not State.ENDED:
                reader.cut("failed")
            return
        reader.fetching = False
        if reader.state is not State.LAGGING:
            return
        reader.tell_trimmed()
        if updates:
            reader.take(updates)
        else:  # all that followed is gone
            reader.offset = max(reader.offset, min(head, self.delivery.taken))
        reader.post()


def _uncount(counter: Counter[K], key: K) -> None:
    counter[key] -= 1
    if counter[key] <= 0:
        del counter[key]
