"""A media port on loopback, with a clock that a test can move."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from callboard.gateway.peer.transports import MediaTransports


class MovedClock:
    """The loop's clock, and what a test adds to it."""

    def __init__(self) -> None:
        self.ahead_s = 0.0
        self._loop = asyncio.get_running_loop()

    def __call__(self) -> float:
        return self._loop.time() + self.ahead_s


@pytest.fixture
async def clock() -> MovedClock:
    """Of the `transports`."""
    return MovedClock()


@pytest.fixture
async def transports(clock: MovedClock) -> AsyncIterator[MediaTransports]:
    """A port of 127.0.0.1 that looks for the vanished often."""
    opened = MediaTransports("127.0.0.1", 0, clock=clock, sweep_interval_s=0.02)
    await opened.start()
    yield opened
    await opened.stop()
