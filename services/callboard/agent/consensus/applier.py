"""Applies committed entries in order, in slices, and tells those who wait for them.

A slice takes at most 5 ms of the loop. After each slice the state's waiters are woken once. The
applied index only moves by one (I8), or by a snapshot.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from callboard.agent.ports import Applied, ProposalUnknown, StateMachine
from callboard.raft.messages import Entry, EntryKind, SnapshotMetadata

SLICE_S = 0.004
ENTRIES_PER_LOOK = 8
"""The clock is looked at after so many entries."""


class Overwritten(Exception):
    """Another entry was committed at a proposal's index: it is certain not to be committed."""


class BrokenOrder(Exception):
    """An entry that does not follow the applied index (I8): the node must stop."""


class Applier:
    """Between the committed entries and the state machine. For the loop's thread."""

    def __init__(
        self,
        state: StateMachine,
        *,
        applied_term: int,
        after_slice: Callable[[int], None],
        on_failed: Callable[[Exception], None],
        hash_interval: int,
        on_hash_due: Callable[[int], None],
        now: Callable[[], float],
        observe_s: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        """`after_slice(applied index)` is called once after each slice; `on_hash_due(index)` just
        after an entry whose index is a multiple of `hash_interval` was applied; `observe_s` is told
        how long each proposal took, from `expect` until it was applied."""
        self._state = state
        self.applied = state.applied_index
        self.applied_term = applied_term
        self._after_slice = after_slice
        self._on_failed = on_failed
        self._hash_interval = hash_interval
        self._on_hash_due = on_hash_due
        self._now = now
        self._observe_s = observe_s
        self._queue: deque[Entry] = deque()
        self._running = False
        self._paused = False
        self._ended = False
        self._loop = asyncio.get_running_loop()
        self._expected: dict[int, tuple[int, asyncio.Future[Applied], float]] = {}
        self._waiting: list[tuple[int, int, asyncio.Future[int]]] = []
        self._tickets = itertools.count()

    def add(self, entries: Iterable[Entry]) -> None:
        """Committed entries, in order. The first slice is applied at once."""
        self._queue.extend(entries)
        if not self._running and not self._paused:
            self._run_slice()

    def expect(self, index: int, term: int, future: asyncio.Future[Applied]) -> None:
        """Resolve `future` by what the entry (index, term) answers once it is applied."""
        before = self._expected.pop(index, None)
        if before is not None:
            # Gone from our log, but not for certain: nothing is committed in its place yet, and of
            # five a member that still holds the entry may lead next and commit it.
            _fail(
                before[1],
                ProposalUnknown("another entry took its place here: it may be committed yet"),
            )
        self._expected[index] = (term, future, self._now())

    def wait(self, index: int, future: asyncio.Future[int]) -> None:
        """Resolve `future` with `index` once everything up to it is applied."""
        if self.applied >= index:
            _succeed(future, index)
        else:
            heapq.heappush(self._waiting, (index, next(self._tickets), future))

    def pause(self) -> None:
        """A snapshot will replace the state: apply nothing more, forget what waits."""
        self._paused = True
        self._queue.clear()

    async def replace(self, metadata: SnapshotMetadata, chunks: Iterator[bytes]) -> None:
        """Replace the state by a snapshot and go on from there.

        In slices: the loop answers others meanwhile, and reads see the old state until the new one
        is whole. A member that fails meanwhile keeps the old one.
        """
        ends_at = self._now() + SLICE_S
        for _ in self._state.restore_slices(metadata, chunks):
            if self._now() >= ends_at:
                await asyncio.sleep(0)
                if self._ended:
                    return
                ends_at = self._now() + SLICE_S
        self.applied, self.applied_term = metadata.index, metadata.term
        for index in [index for index in self._expected if index <= metadata.index]:
            _fail(
                self._expected.pop(index)[1],
                ProposalUnknown("a snapshot replaced the entry: it may or may not be committed"),
            )
        self._paused = False
        self._wake_waiting()
        self._after_slice(self.applied)

    def fail_all(self, problem: Exception) -> None:
        """Nothing more will be applied."""
        self._paused = self._ended = True
        for _, future, _ in self._expected.values():
            _fail(future, problem)
        for _, _, waiting in self._waiting:
            _fail(waiting, problem)
        self._expected.clear()
        self._waiting.clear()

    def _run_slice(self) -> None:
        self._running = False
        if self._paused:
            return
        ends_at = self._now() + SLICE_S
        try:
            while self._queue:
                for _ in range(min(ENTRIES_PER_LOOK, len(self._queue))):
                    self._apply(self._queue.popleft())
                if self._now() >= ends_at:
                    break
        except Exception as problem:
            self._on_failed(problem)
            return
        self._wake_waiting()
        if self._queue:
            self._running = True
            self._loop.call_soon(self._run_slice)
        self._after_slice(self.applied)

    def _apply(self, entry: Entry) -> None:
        if entry.index != self.applied + 1:
            raise BrokenOrder(f"entry {entry.index} was committed after entry {self.applied}")
        value: object = None
        if entry.kind == EntryKind.NORMAL:
            value = self._state.apply(entry.index, entry.data)
        else:
            self._state.advance(entry.index)
        self.applied, self.applied_term = entry.index, entry.term
        if self._expected:
            self._answer(entry, value)
        if entry.index % self._hash_interval == 0:
            self._on_hash_due(entry.index)

    def _answer(self, entry: Entry, value: object) -> None:
        expected = self._expected.pop(entry.index, None)
        if expected is None or expected[1].done():
            return
        term, future, since = expected
        if term == entry.term:
            self._observe_s(self._now() - since)
            future.set_result(Applied(entry.index, value))
        else:
            future.set_exception(Overwritten())

    def _wake_waiting(self) -> None:
        while self._waiting and self._waiting[0][0] <= self.applied:
            index, _, future = heapq.heappop(self._waiting)
            _succeed(future, index)


def _succeed(future: asyncio.Future[int], index: int) -> None:
    if not future.done():
        future.set_result(index)


def _fail(future: asyncio.Future[Applied] | asyncio.Future[int], problem: Exception) -> None:
    if not future.done():
        future.set_exception(problem)
