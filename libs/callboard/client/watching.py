"""The state of a watch: which index to ask with, when something changed, how long to rest.

Shared by the sync and the async client; no clock and no socket. Rules from Consul's documentation
of blocking queries: an index that went down begins anew at 0, one of 0 is asked without waiting.
"""

from __future__ import annotations

import random

BACKOFF_MIN_S = 0.1
BACKOFF_MAX_S = 5.0


class WatchState:
    """One watch."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._failures = 0
        self._yielded = False
        self.index = 0
        """To ask with; 0 = do not wait."""

    def answered(self, index: int) -> bool:
        """Take an answer's index; whether its value is news."""
        self._failures = 0
        news = not self._yielded or index != self.index
        self._yielded = True
        self.index = index if index >= self.index else 0
        return news

    def failed(self) -> float:
        """Take a failure; seconds to rest before the next try, growing, with jitter."""
        self._failures += 1
        self.index = 0
        ceiling = min(BACKOFF_MAX_S, BACKOFF_MIN_S * float(1 << min(self._failures - 1, 10)))
        return ceiling * self._rng.uniform(0.5, 1.0)
