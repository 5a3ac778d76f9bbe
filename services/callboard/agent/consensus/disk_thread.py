"""The thread seam: disk work off the loop, one piece after another, and the real thread for it.

The log has one thread and the snapshots another; never the loop's default executor, where a hung
name look-up would queue before the log. A simulation has none: there, work takes virtual time.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Protocol, TypeAlias, TypeVar

T = TypeVar("T")

Failed: TypeAlias = Callable[[Exception], None]
_Job: TypeAlias = Callable[[], Callable[[], None]]


class DiskThread(Protocol):
    """Does what is submitted in order. All methods are for the event loop's thread."""

    def submit(self, work: Callable[[], T], done: Callable[[T], None], failed: Failed) -> None:
        """Do `work` after all that was submitted before; then call `done` with what it returned,
        or `failed` with what it raised, on the loop."""

    async def end(self) -> None:
        """End once all that was submitted is done. Nothing may be submitted afterwards."""


class LoopThread:
    """A thread of its own, begun with the first piece of work."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._begun = False
        self._ended = asyncio.Event()

    def submit(self, work: Callable[[], T], done: Callable[[T], None], failed: Failed) -> None:
        def job() -> Callable[[], None]:
            try:
                result = work()
            except Exception as problem:
                failure = problem
                return lambda: failed(failure)
            return lambda: done(result)

        self._jobs.put(job)
        if not self._begun:
            self._begun = True
            threading.Thread(target=self._run, name=self._name, daemon=True).start()

    async def end(self) -> None:
        if self._begun:
            self._jobs.put(None)
            await self._ended.wait()

    def _run(self) -> None:
        """The thread: no Python is run here beyond the work's own."""
        while (job := self._jobs.get()) is not None:
            self._tell(job())
        self._tell(self._ended.set)

    def _tell(self, callback: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:
            pass  # The loop is closed: the program is past caring.
