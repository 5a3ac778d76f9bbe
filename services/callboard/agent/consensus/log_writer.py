"""Group commit: a thread of its own writes the log, one write in flight, the next gathering.

What Readies ask to persist while a write is out becomes one batch; messages that had to wait for
it are released when it is durable.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from callboard.agent.consensus.disk_thread import DiskThread
from callboard.agent.consensus.segment_log import SegmentLog
from callboard.raft.messages import Entry, HardState, Message, SnapshotMetadata
from callboard.raft.ready import Ready

log = logging.getLogger(__name__)


@dataclass(slots=True)
class WriteBatch:
    """What several Readies ask for, to be made durable by one write."""

    entries: list[Entry] = field(default_factory=list)
    hard_state: HardState | None = None
    messages: list[Message] = field(default_factory=list)
    """To be sent once the batch is durable."""
    commit: int = 0
    number: int = 0
    index: int = 0
    term: int = 0

    def take(self, ready: Ready, commit: int) -> None:
        """Add a Ready. Entries that it overrides are forgotten before they were written."""
        if ready.entries:
            first = ready.entries[0].index
            while self.entries and self.entries[-1].index >= first:
                self.entries.pop()
            self.entries.extend(ready.entries)
        if ready.hard_state is not None:
            self.hard_state = ready.hard_state
        self.messages.extend(ready.after_persist)
        self.commit = commit
        self.number, self.index, self.term = ready.number, ready.index, ready.term


@dataclass(slots=True)
class _Step:
    """Something else for the log's thread, in its place between the batches."""

    work: Callable[[SegmentLog], None]
    done: Callable[[], None]


class LogWriter:
    """Owns the log and its thread. All methods are for the event loop's thread."""

    def __init__(
        self,
        segment_log: SegmentLog,
        thread: DiskThread,
        *,
        now: Callable[[], float],
        on_durable: Callable[[WriteBatch], None],
        on_failed: Callable[[Exception], None],
        observe_s: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        """`on_durable` and `on_failed` are called on the loop; after a failure nothing more is
        written, ever (I11). `observe_s` is told how long each batch took to be durable."""
        self._log = segment_log
        self._thread = thread
        self._now = now
        self._on_durable = on_durable
        self._on_failed = on_failed
        self._observe_s = observe_s
        self._waiting: deque[WriteBatch | _Step] = deque()
        self._in_flight: WriteBatch | _Step | None = None
        self._began_at = 0.0
        self._failed = False

    @property
    def idle(self) -> bool:
        """Nothing is in flight, nothing waits."""
        return self._in_flight is None

    def write_age_s(self, now: float) -> float:
        """For how long the write in flight has been out; 0 when there is none."""
        return now - self._began_at if self._in_flight is not None else 0.0

    def add(self, ready: Ready, commit: int) -> None:
        """Persist a Ready; its messages are released with it. Not for one that can go at once:
        nothing to persist and `idle`."""
        if not self._waiting or not isinstance(self._waiting[-1], WriteBatch):
            self._waiting.append(WriteBatch())
        batch = self._waiting[-1]
        assert isinstance(batch, WriteBatch)
        batch.take(ready, commit)
        self._next()

    def release_later(self, messages: Sequence[Message]) -> None:
        """Send these once all that was added so far is durable; nothing of their own is."""
        last = self._waiting[-1] if self._waiting else self._in_flight
        if isinstance(last, WriteBatch):
            last.messages.extend(messages)
        else:
            self._waiting.append(WriteBatch(messages=list(messages)))
            self._next()

    def compact(self, snapshot: SnapshotMetadata, done: Callable[[], None]) -> None:
        """Record a local snapshot and drop the segments before it."""
        self._step(lambda opened: opened.compact(snapshot, snapshot.index + 1), done)

    def reset(self, snapshot: SnapshotMetadata, done: Callable[[], None]) -> None:
        """Replace the log by a received snapshot, in one durable step (I10)."""
        self._step(lambda opened: opened.reset(snapshot), done)

    def note_commit(self, commit: int, done: Callable[[], None]) -> None:
        """Keep the commit index, so that the next start knows how much it must apply."""
        self._step(lambda opened: opened.append((), None, commit), done)

    async def stop(self, timeout_s: float) -> None:
        """Let what waits be written, end the thread, close the log. Gives up after the time."""
        if not self._failed:
            written = asyncio.Event()
            self._step(lambda opened: None, written.set)
            try:
                async with asyncio.timeout(timeout_s):
                    await written.wait()
            except TimeoutError:
                log.warning("left a write of the log behind that does not come back")
                return
        await self._thread.end()
        self._log.close()

    def _step(self, work: Callable[[SegmentLog], None], done: Callable[[], None]) -> None:
        self._waiting.append(_Step(work, done))
        self._next()

    def _next(self) -> None:
        if self._in_flight is None and self._waiting and not self._failed:
            job = self._in_flight = self._waiting.popleft()
            self._began_at = self._now()
            self._thread.submit(lambda: self._work(job), lambda _: self._finished(job), self._fail)

    def _finished(self, job: WriteBatch | _Step) -> None:
        self._in_flight = None
        if isinstance(job, WriteBatch) and job.number:
            self._observe_s(self._now() - self._began_at)
        # The next write starts before the messages of this one are sent: the disk is the slowest.
        self._next()
        if isinstance(job, WriteBatch):
            self._on_durable(job)
        else:
            job.done()

    def _fail(self, problem: Exception) -> None:
        self._failed = True
        self._on_failed(problem)

    def _work(self, job: WriteBatch | _Step) -> None:
        """In the thread: no Python is run here beyond encoding and one system call."""
        if isinstance(job, WriteBatch):
            self._log.append(job.entries, job.hard_state, job.commit)
        else:
            job.work(self._log)
