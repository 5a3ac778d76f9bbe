"""When a lease is taken, renewed and given back, and how long one waits after a failure. Pure."""

from __future__ import annotations

import random
from enum import Enum

RENEW_S = 3.0
"""Between two renewals: a lease lasts 10 s, so two may be lost."""
KEPT_S = 10.0
"""A stream on demand is held for so long after its last viewer: who reloads a page waits less."""
RETRY_MIN_S = 0.5
RETRY_MAX_S = 5.0


class Backoff:
    """Pauses that grow with failures, each between a half and the whole of its bound."""

    def __init__(
        self, rng: random.Random, least_s: float = RETRY_MIN_S, most_s: float = RETRY_MAX_S
    ) -> None:
        self._rng = rng
        self._least_s = least_s
        self._most_s = most_s
        self._failures = 0

    def pause_s(self) -> float:
        """After a failure: never less than the least, never more than the most."""
        bound_s = min(self._most_s, self._least_s * 2 ** min(self._failures + 1, 16))
        self._failures += 1
        return self._rng.uniform(max(self._least_s, bound_s / 2), bound_s)

    def succeeded(self) -> None:
        """The next pause is short again."""
        self._failures = 0


class Action(Enum):
    """What is to be done for a stream."""

    WAIT = "wait"
    TAKE = "take"
    RENEW = "renew"
    RELEASE = "release"


class Holding:
    """Of one stream at one sidecar."""

    def __init__(self, rng: random.Random, *, on_demand: bool, renew_s: float = RENEW_S) -> None:
        """`on_demand`: it is held only while somebody watches."""
        self._renew_s = renew_s
        self._on_demand = on_demand
        self._watched = False
        self._left_at = float("-inf")
        self._held = False
        self._due_at = self._ends_at = float("-inf")
        self._backoff = Backoff(rng)

    def watched(self, watched: bool, now: float) -> None:
        """Somebody watches; or nobody does any more."""
        if self._watched and not watched:
            self._left_at = now
        elif watched and not self._watched and not self._held:
            self._due_at = now  # whoever waits in front of a black picture waits for no back-off
        self._watched = watched

    @property
    def held(self) -> bool:
        """Whether there is a lease."""
        return self._held

    def wanted(self, now: float) -> bool:
        """Whether there should be one."""
        return not self._on_demand or self._watched or now < self._left_at + KEPT_S

    def action(self, now: float) -> Action:
        """What is to be done now."""
        if not self.wanted(now):
            return Action.RELEASE if self._held else Action.WAIT
        if now < self._due_at:
            return Action.WAIT
        return Action.RENEW if self._held else Action.TAKE

    def due_at(self, now: float) -> float:
        """When to ask for the next action, unless `watched` is called before; may be infinite."""
        if not self.wanted(now):
            return now if self._held else float("inf")
        ends_at = self._left_at + KEPT_S
        leaves = self._on_demand and not self._watched
        return min(self._due_at, ends_at) if leaves else self._due_at

    def granted(self, now: float, lasts_s: float) -> None:
        """A lease was taken or renewed by a request that was sent at `now`."""
        self._held, self._due_at, self._ends_at = True, now + self._renew_s, now + lasts_s
        self._backoff.succeeded()

    def lost(self, now: float) -> None:
        """There is no lease any more: taken away or unknown; it is taken anew at once."""
        self._held, self._due_at = False, now

    def failed(self, now: float) -> None:
        """A request failed: tried again after a pause. A lease that could not be renewed in its
        time is over."""
        self._due_at = now + self._backoff.pause_s()
        if now >= self._ends_at:
            self._held = False

    def released(self) -> None:
        """It was given back."""
        self._held, self._due_at = False, float("-inf")
