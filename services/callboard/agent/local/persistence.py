"""What each check last said, kept over a restart: status, output, and what is left of its TTL.

Notes are cheap and many (a TTL update each few seconds); they reach the disk in one file, at most
once a second. Losing the last second's is harmless: a TTL then runs out a second early.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from callboard.agent.local.journal import LocalJournal

log = logging.getLogger(__name__)

WRITE_INTERVAL_S = 1.0


@dataclass(frozen=True, slots=True)
class CheckState:
    """A check's last known state; `remaining_s` is 0 once a TTL ran out, or without one."""

    status: str
    output: str
    remaining_s: float


class CheckStates:
    """The states file: read once, written when something changed."""

    def __init__(self, journal: LocalJournal, wall: Callable[[], float]) -> None:
        """`wall` is the time of day in seconds: a TTL goes on running while the agent is down."""
        self._journal = journal
        self._wall = wall
        self._known: dict[str, dict[str, object]] = {}
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._saved: dict[str, dict[str, object]] = {}

    def load(self) -> None:
        """Read the file; what is not readable is left out."""
        state = self._journal.load_state()
        self._known = {key: value for key, value in state.items() if isinstance(value, dict)}

    def of(self, check_id: str) -> CheckState | None:
        """The last known state of a check."""
        entry = self._known.get(check_id)
        if entry is None:
            return None
        expires = entry.get("expires")
        left = expires - self._wall() if isinstance(expires, int | float) else 0.0
        return CheckState(
            str(entry.get("status", "")), str(entry.get("output", "")), max(0.0, left)
        )

    def note(self, check_id: str, status: str, output: str, remaining_s: float | None) -> None:
        """A check said something."""
        entry: dict[str, object] = {"status": status, "output": output}
        if remaining_s is not None:
            entry["expires"] = self._wall() + remaining_s
        self._known[check_id] = entry
        self._changed.set()

    def forget(self, check_id: str) -> None:
        """A check is gone."""
        if self._known.pop(check_id, None) is not None:
            self._changed.set()

    def start(self) -> None:
        """Begin to write; call from within the event loop."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="check-states")

    async def stop(self) -> None:
        """Write what is not written yet, and end."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        if self._known != self._saved:
            await self._write()

    async def _run(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            await self._write()
            await asyncio.sleep(WRITE_INTERVAL_S)

    async def _write(self) -> None:
        known = dict(self._known)
        try:
            await self._journal.save_state(known)
            self._saved = known
        except OSError as problem:
            log.error("check states not saved", extra={"error": str(problem)})
