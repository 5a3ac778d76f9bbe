"""Keeps one lease of one stream at one sidecar: takes it, renews it, gives it back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Protocol

from callboard.chassis.logs import RateLimited
from callboard.gateway.sources.holding import Action, Holding
from callboard.media.leases import Progress

log = logging.getLogger(__name__)

LOG_INTERVAL_S = 30.0
WAIT_MAX_S = 3600.0
"""For a viewer; then it is looked again."""


class ControlError(Exception):
    """A sidecar did not answer, or not as expected; the text says why."""


class Gone(ControlError):
    """Nobody is there: the connection is refused, or was cut off."""


class LeaseUnknown(ControlError):
    """The sidecar has no such lease (any more)."""


class Leasing(Protocol):
    """A sidecar, as far as leases go. All raise ControlError, and none waits for long."""

    async def take(self, stream: str, ports: Mapping[str, int]) -> tuple[str, float]:
        """A new lease: its ID, and how long it lasts in seconds. RTP of each track comes to its
        port."""

    async def renew(self, lease: str) -> float:
        """How long it lasts from now on. Raises LeaseUnknown."""

    async def release(self, lease: str) -> None:
        """It is not needed any more. Raises LeaseUnknown."""

    async def progress(self, lease: str) -> Progress:
        """Where a film is. Raises LeaseUnknown, and callboard.gateway.film.NotSteered; so do the
        next ones."""

    async def start(self, lease: str) -> Progress:
        """Let a film go on."""

    async def pause(self, lease: str) -> Progress:
        """Hold it."""

    async def seek(self, lease: str, position_s: float) -> Progress:
        """Go elsewhere in it."""


class LeaseKeeper:
    """`run` is its task; `end` gives back what it holds."""

    def __init__(
        self,
        sidecar: Leasing,
        stream: str,
        ports: Mapping[str, int],
        holding: Holding,
        *,
        on_taken: Callable[[], None] = lambda: None,
        on_lost: Callable[[str], None] = lambda reason: None,
    ) -> None:
        """`on_taken` is called when a lease is new: the sidecar's packets begin anew; `on_lost`
        when there is none any more though there should be."""
        self._sidecar = sidecar
        self._stream = stream
        self._ports = dict(ports)
        self._holding = holding
        self._on_taken = on_taken
        self._on_lost = on_lost
        self._lease = ""
        self._woken = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._limited = RateLimited(log, LOG_INTERVAL_S)

    def watched(self, watched: bool) -> None:
        """Somebody watches; or nobody does any more."""
        self._holding.watched(watched, self._loop.time())
        self._woken.set()

    @property
    def lease(self) -> str:
        """The ID of what is held; "" for nothing."""
        return self._lease

    async def run(self) -> None:
        """Keep it for ever; cancel to stop."""
        while True:
            now = self._loop.time()
            action = self._holding.action(now)
            if action is Action.WAIT:
                await self._wait(self._holding.due_at(now) - now)
            else:
                await self._do(action, now)

    async def take(self) -> None:
        """Take it now, once. Raises ControlError."""
        now = self._loop.time()
        self._lease, lasts_s = await self._sidecar.take(self._stream, self._ports)
        self._holding.granted(now, lasts_s)
        self._on_taken()

    async def end(self) -> None:
        """Give back what is held, after `run` was cancelled; never raises ControlError."""
        lease, self._lease = self._lease, ""
        self._holding.released()
        if lease:
            try:
                await self._sidecar.release(lease)
            except ControlError as problem:
                log.debug("a lease ends by itself", extra={"reason": str(problem)})

    async def _do(self, action: Action, now: float) -> None:
        held = self._holding.held
        try:
            if action is Action.TAKE:
                await self.take()
            elif action is Action.RENEW:
                self._holding.granted(now, await self._sidecar.renew(self._lease))
            else:
                await self.end()
        except ControlError as problem:
            self._failed(problem, unknown=action is Action.RENEW and type(problem) is LeaseUnknown)
            if held and not self._holding.held:
                self._on_lost(str(problem))

    def _failed(self, problem: ControlError, *, unknown: bool) -> None:
        now = self._loop.time()
        if unknown:
            self._lease = ""
            self._holding.lost(now)
        else:
            self._holding.failed(now)
        extra = {"stream": self._stream, "reason": str(problem)}
        self._limited.warning("lease", "a sidecar grants no lease", extra)

    async def _wait(self, for_s: float) -> None:
        self._woken.clear()
        try:
            async with asyncio.timeout(min(for_s, WAIT_MAX_S)):
                await self._woken.wait()
        except TimeoutError:
            pass
