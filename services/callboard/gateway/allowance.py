"""How much of something may be done: a token bucket. Pure."""

from __future__ import annotations


class Allowance:
    """So many a second, and so many at once. Times are seconds of any one clock."""

    def __init__(self, per_s: float, at_once: int) -> None:
        self._per_s = per_s
        self._at_once = at_once
        self._left = float(at_once)
        self._counted: float | None = None

    def take(self, wanted: int, now: float) -> int:
        """How many of `wanted` may be done now; those are taken."""
        if self._counted is not None:
            gained = max(now - self._counted, 0.0) * self._per_s
            self._left = min(self._left + gained, float(self._at_once))
        self._counted = now
        given = min(wanted, int(self._left))
        self._left -= given
        return given
