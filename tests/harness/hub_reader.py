"""A subscriber that goes from one hub to another, as tests look over its shoulder."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from aiohttp import ClientSession
from tests.harness.eventually import eventually

from callboard.events.parser import Event, Parser

WITHIN_S = 30.0


class HubReader:
    """What one subscriber reads, from one hub after the other."""

    def __init__(self, path: str, cursor: str = "") -> None:
        """`path` is what it asks each hub for, with its query."""
        self.path = path
        self.cursor = cursor
        self.messages: list[Event] = []
        self.gaps: list[Event] = []

    @contextlib.asynccontextmanager
    async def reading(self, url: str) -> AsyncIterator[None]:
        """Read from a hub, from where the last one left off, until the block ends."""
        headers = {"Last-Event-ID": self.cursor} if self.cursor else {}
        async with (
            ClientSession() as session,
            session.get(url + self.path, headers=headers) as answer,
        ):
            assert answer.status == 200
            task = asyncio.create_task(self._read(answer.content.iter_any()))
            try:
                yield
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def until(self, fact: Callable[[], object]) -> None:
        """Wait for a fact about what was read."""
        await eventually(fact, WITHIN_S)

    def take(self, event: Event) -> None:
        """One event, as it came."""
        if event.type == "hub.gap":
            self.gaps.append(event)
        elif event.type == "message":
            self.messages.append(event)

    async def _read(self, stream: AsyncIterator[bytes]) -> None:
        parser = Parser(self.cursor)
        with contextlib.suppress(OSError):
            async for octets in stream:
                for event in parser.feed(octets):
                    self.take(event)
                self.cursor = parser.last_event_id
