"""Carries `pause` and `start` of viewers to the films that are played for them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Hashable

from callboard.gateway.film import Film, NotSteered

log = logging.getLogger(__name__)


class Steering:
    """One request at a time of each viewer; of those that come meanwhile the last one counts."""

    def __init__(self) -> None:
        self._wanted: dict[Hashable, bool] = {}
        self._tasks: dict[Hashable, asyncio.Task[None]] = {}

    def tell(self, viewer: Hashable, film: Film | None, *, playing: bool) -> None:
        """Have the film play, or stand still; returns at once. None is a live stream."""
        if film is None:
            return
        self._wanted[viewer] = playing
        if viewer not in self._tasks:
            task = asyncio.get_running_loop().create_task(self._carry(viewer, film), name="steer")
            self._tasks[viewer] = task
            task.add_done_callback(lambda _: self._tasks.pop(viewer, None))

    async def stop(self) -> None:
        """Leave what is under way."""
        tasks = tuple(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _carry(self, viewer: Hashable, film: Film) -> None:
        while (playing := self._wanted.pop(viewer, None)) is not None:
            try:
                await (film.start() if playing else film.pause())
            except (NotSteered, ConnectionError) as problem:
                log.warning("a film does not do what is asked", extra={"reason": str(problem)})
