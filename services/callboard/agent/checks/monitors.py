"""Monitors: one per check that the agent runs itself. Each reports through one callback.

A monitor owns its timer and its task; `stop` ends both. The number of probes at one time is bounded
by the runner's semaphore, so that a thousand checks do not open a thousand sockets at once.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from callboard.agent.checks.clock import Clock, TimerHandle
from callboard.agent.checks.probes import Result
from callboard.agent.checks.thresholds import Thresholds
from callboard.catalog.objects import CRITICAL

log = logging.getLogger(__name__)

Report = Callable[[str, str], None]
"""Takes the status and the output."""


class TtlMonitor:
    """Critical unless somebody says otherwise within the time to live (Consul: CheckTTL)."""

    def __init__(self, ttl_s: float, clock: Clock, report: Report) -> None:
        self._ttl_s = ttl_s
        self._clock = clock
        self._report = report
        self._timer: TimerHandle | None = None
        self._last_output = ""
        self.expires_at: float | None = None

    def start(self, remaining_s: float | None = None) -> None:
        """Begin to count; `remaining_s` is what a restart left of an earlier time to live."""
        self._arm(self._ttl_s if remaining_s is None else min(remaining_s, self._ttl_s))

    def heard(self, output: str) -> None:
        """The check was updated from outside: the time to live begins anew."""
        self._last_output = output
        self._arm(self._ttl_s)

    def stop(self) -> None:
        """Count no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, seconds: float) -> None:
        self.stop()
        self.expires_at = self._clock.now() + seconds
        self._timer = self._clock.call_at(self.expires_at, self._expired)

    def _expired(self) -> None:
        self._timer = None
        output = "TTL expired"
        if self._last_output:
            output += f" (last output before timeout follows): {self._last_output}"
        self._report(CRITICAL, output)


class IntervalMonitor:
    """Runs a probe each interval, the first time at a random point of it (so checks spread)."""

    def __init__(
        self,
        probe: Callable[[], Awaitable[Result]],
        interval_s: float,
        *,
        thresholds: Thresholds,
        status: Callable[[], str],
        clock: Clock,
        rng: random.Random,
        slots: asyncio.Semaphore,
        report: Report,
    ) -> None:
        self._probe = probe
        self._interval_s = interval_s
        self._thresholds = thresholds
        self._status = status
        self._clock = clock
        self._rng = rng
        self._slots = slots
        self._report = report
        self._timer: TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Run first at a random point of the interval."""
        self._arm(self._rng.uniform(0, self._interval_s))

    def stop(self) -> None:
        """Run no more; a run under way is cancelled."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def _arm(self, delay_s: float) -> None:
        self._timer = self._clock.call_at(self._clock.now() + delay_s, self._due)

    def _due(self) -> None:
        self._timer = None
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        async with self._slots:
            try:
                result = await self._probe()
            except Exception as problem:  # a probe that fails must not end its check for ever
                log.exception("a check's run failed: a fault of ours")
                result = Result(CRITICAL, f"{type(problem).__name__}: {problem}")
        self._task = None
        self._report(self._thresholds.observe(result.status, self._status()), result.output)
        self._arm(self._interval_s)
