"""The leader's housekeeping: tombstones of deleted keys are forgotten after a quarter of an hour.

A tombstone keeps the index of a deleted key, so that a blocking query on its prefix wakes; fifteen
minutes outlast every query (Consul: tombstone_ttl). The moment of forgetting is a log entry, so
that all replicas forget alike.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from callboard.agent.ports import Engine, EngineError
from callboard.agent.state.store import StateStore
from callboard.catalog.commands import TombstoneReap, encode_command

log = logging.getLogger(__name__)

INTERVAL_S = 30.0
TOMBSTONE_TTL_S = 15 * 60.0


class Maintenance:
    """Proposes TombstoneReap while this agent leads."""

    def __init__(self, store: StateStore, engine: Engine, now: Callable[[], float]) -> None:
        self._store = store
        self._engine = engine
        self._now = now
        self._seen: deque[tuple[float, int]] = deque()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; call from within the event loop."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="maintenance")

    async def stop(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL_S)
            await self.turn()

    async def turn(self) -> None:
        """Note the newest deletion, and reap up to the one that is old enough."""
        if not self._engine.is_leader:
            self._seen.clear()
            return
        now = self._now()
        count, newest = self._store.tombstones()
        if count and (not self._seen or self._seen[-1][1] < newest):
            self._seen.append((now, newest))
        due = 0
        while self._seen and self._seen[0][0] <= now - TOMBSTONE_TTL_S:
            due = self._seen.popleft()[1]
        if due:
            try:
                await self._engine.propose(encode_command(TombstoneReap(due)))
            except EngineError as problem:
                log.warning("tombstones not reaped", extra={"error": str(problem)})
                self._seen.appendleft((now - TOMBSTONE_TTL_S, due))
