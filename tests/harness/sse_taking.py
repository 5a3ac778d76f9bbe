"""A subscriber of either client that takes all it gets: the async one in a task, the blocking one
in a thread. A test sees the same of both.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import Any

from tests.harness.eventually import eventually

from callboard.events import client, synchronous
from callboard.events.parser import Event


class Taking:
    """One subscription, from construction to `stop`; an async context manager."""

    def __init__(self, kind: str, topics: str | list[str], **options: Any) -> None:
        """`kind` is "async" or "sync"."""
        self.events: list[Event] = []
        self.problem: Exception | None = None
        self.ended = False
        self.stream: client.Stream | synchronous.Stream
        self._task: asyncio.Task[None] | None = None
        self._thread: threading.Thread | None = None
        if kind == "async":
            self.stream = client.subscribe(topics, **options)
            self._task = asyncio.get_running_loop().create_task(self._take(self.stream))
        else:
            self.stream = synchronous.subscribe(topics, **options)
            self._thread = threading.Thread(target=self._take_blocking, args=(self.stream,))
            self._thread.start()

    @property
    def data(self) -> list[str]:
        """The data of what came so far."""
        return [event.data for event in self.events]

    async def until(self, *data: str, timeout_s: float = 10.0) -> None:
        """Wait until exactly this came."""

        def came() -> bool:
            if self.problem is not None:
                raise AssertionError(f"the stream failed: {self.problem!r}")
            assert self.data == list(data), self.data
            return True

        await eventually(came, timeout_s)

    async def more(self, count: int, timeout_s: float = 10.0) -> None:
        """Wait until so many more came."""
        wanted = len(self.events) + count
        await eventually(lambda: len(self.events) >= wanted, timeout_s)

    async def begun(self) -> None:
        """Wait until the stream has a place: nothing published from now on is missed."""
        await eventually(lambda: self.place)

    @property
    def place(self) -> str:
        """Where the stream stands, also when nothing was taken from it yet."""
        return self.stream._course.last_event_id

    async def failure(self, timeout_s: float = 10.0) -> Exception:
        """Wait until the iterator raises; what."""

        def failed() -> Exception | None:
            return self.problem

        found = await eventually(failed, timeout_s)
        assert found is not None
        return found

    async def end(self, timeout_s: float = 10.0) -> None:
        """Wait until the iterator ends by itself."""
        await eventually(lambda: self.ended, timeout_s)

    async def stop(self) -> None:
        """End the subscription where it waits."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            assert isinstance(self.stream, client.Stream)
            await self.stream.aclose()
        else:
            assert isinstance(self.stream, synchronous.Stream)
            self.stream.close()
            assert self._thread is not None
            await asyncio.to_thread(self._thread.join, 10)
            assert not self._thread.is_alive()

    async def __aenter__(self) -> Taking:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _take(self, stream: client.Stream) -> None:
        try:
            async with stream:
                async for event in stream:
                    self.events.append(event)
        except Exception as problem:
            self.problem = problem
        self.ended = True

    def _take_blocking(self, stream: synchronous.Stream) -> None:
        try:
            with stream:
                for event in stream:
                    self.events.append(event)
        except Exception as problem:
            self.problem = problem
        self.ended = True
