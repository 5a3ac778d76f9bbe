"""Disks in virtual time: work takes a while, may stall or fail, and power cuts tear it.

What was written but not synced survives a power cut in part: any sectors of it, any prefix of the
directory's changes. That is all that a file system promises, and what the log must live with.
"""

from __future__ import annotations

import asyncio
import errno
import random
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from callboard.agent.consensus.disk import MemoryDisk
from callboard.agent.consensus.disk_thread import Failed

T = TypeVar("T")

SECTOR_BYTES = (16, 512)
"""What is written as a whole: as disks promise it, and less."""


class PowerCut(Exception):
    """The power went in the middle of an operation."""


class VirtualDisk(MemoryDisk):
    """A directory that knows what a power cut may leave of it."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__(remembers=True)
        self.latency_s = (0.0001, 0.001)
        self.stalled_until = 0.0
        self.failed = False
        """An error was injected since the last repair."""
        self._rng = rng
        self._history: list[dict[str, Any]] = []
        """The directory after each change that is not synced."""
        self._budget = -1
        self._error = 0
        self.before = self._before

    def work_s(self, now: float) -> float:
        """How long the next piece of work takes."""
        return self._rng.uniform(*self.latency_s) + max(0.0, self.stalled_until - now)

    def fail_next_sync(self, error: int = errno.EIO) -> None:
        """The next sync, or write, is answered by this error."""
        self._error = error

    def disarm(self) -> None:
        """No error is to come."""
        self._error = 0

    def repair(self) -> None:
        """Another disk, with what could be read of this one."""
        self._error, self.failed = 0, False

    def _before(self, operation: str) -> None:
        if self._budget == 0:
            raise PowerCut
        self._budget -= 1 if self._budget > 0 else 0
        if self._error and operation == ("write" if self._error == errno.ENOSPC else "sync"):
            self.failed = True
            raise OSError(self._error, "injected")

    def create(self, name: str) -> Any:
        file = super().create(name)
        self._history.append(dict(self._files))
        return file

    def rename(self, old: str, new: str) -> None:
        super().rename(old, new)
        self._history.append(dict(self._files))

    def remove(self, name: str) -> None:
        super().remove(name)
        self._history.append(dict(self._files))

    def sync_directory(self) -> None:
        super().sync_directory()
        self._history.clear()

    def power_cut(self, half_done: list[Callable[[], object]]) -> None:
        """The power goes while a thread is at some point of each piece of work."""
        for work in half_done:
            self._budget = self._rng.randrange(3)
            try:
                work()
            except Exception:
                pass  # (PowerCut, as the work reports it)
        self._budget = -1
        self._files = dict(self._rng.choice([self._durable_names, *self._history]))
        self._durable_names = dict(self._files)
        self._history.clear()
        for content in self._files.values():
            content.written = self._survivors(content.durable, content.written)
            content.durable = bytes(content.written)

    def _survivors(self, durable: bytes, written: bytearray) -> bytearray:
        if durable == written or self._rng.random() < 0.3:
            return bytearray(durable)
        found = bytearray(written)
        sector = self._rng.choice(SECTOR_BYTES)
        for start in range(0, len(found), sector):
            end = min(start + sector, len(found))
            if self._rng.random() < 0.5:
                found[start:end] = durable[start:end].ljust(end - start, b"\0")
        return found


class VirtualThread:
    """A disk thread without a thread. Belongs to the process that made it."""

    def __init__(self, disk: VirtualDisk) -> None:
        self._disk = disk
        self._loop = asyncio.get_running_loop()
        self._jobs: deque[Callable[[], Callable[[], None]]] = deque()
        self._busy = False
        self._ended = asyncio.Event()
        self._ending = False

    def submit(self, work: Callable[[], T], done: Callable[[T], None], failed: Failed) -> None:
        def job() -> Callable[[], None]:
            try:
                result = work()
            except Exception as problem:
                failure = problem
                return lambda: failed(failure)
            return lambda: done(result)

        self._jobs.append(job)
        self._next()

    async def end(self) -> None:
        self._ending = True
        self._next()
        await self._ended.wait()

    def under_way(self) -> list[Callable[[], object]]:
        """What the thread is in the middle of."""
        return [self._jobs[0]] if self._busy else []

    def _next(self) -> None:
        if self._busy:
            return
        if self._jobs:
            self._busy = True
            self._loop.call_later(self._disk.work_s(self._loop.time()), self._work)
        elif self._ending:
            self._ended.set()

    def _work(self) -> None:
        tell = self._jobs[0]()
        self._jobs.popleft()
        self._busy = False
        self._next()
        # It is done, and nobody knows yet.
        self._loop.call_later(self._disk.work_s(0.0) / 10, tell)
