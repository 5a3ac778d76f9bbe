"""Which rendition a viewer gets, and when its link is too slow for all of them. Pure.

Away at once from one of which nothing comes. Down at once when the way does not bear the rendition,
as loss or REMB say. Up after a while without trouble: REMB cannot say that more would pass before
more is sent (its estimate stays near what comes), so going up is a try, and each that fails puts
the next one off for longer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

LOSSY, CLEAN = 0.1, 0.02
"""Fractions lost: over the first there is trouble, under the second there is none."""
ESTIMATE_SHORT = 0.9
"""REMB under so much of what is sent is trouble."""
TROUBLE_REPORTS = 2
"""In a row; one alone may be an accident."""
SETTLE_S = 2.0
"""After a change, before the next: reports of before it still come."""
TRY_AFTER_S = 10.0
TRY_AFTER_MAX_S = 160.0
FAILED_WITHIN_S = 10.0
"""Trouble so soon after going up was made by going up."""


@dataclass(frozen=True, slots=True)
class Slow:
    """The link is too slow for the last rendition."""

    needs: int
    """Bits per second."""
    gets: int


@dataclass(frozen=True, slots=True)
class Way:
    """What a viewer's reports say of its way."""

    estimate: int
    """REMB, bits per second; 0: not told."""
    fraction_lost: float
    """Of video."""


class RenditionChoice:
    """For one viewer. `current` counts from the best, 0."""

    def __init__(self, now: float) -> None:
        self.current = 0
        self.slow: Slow | None = None
        self._trouble = 0
        self._clean_since: float | None = None
        self._changed_at = now - SETTLE_S
        self._went_up_at = float("-inf")
        self._try_after_s = TRY_AFTER_S

    def begin(self, rates: Sequence[float]) -> int:
        """Which rendition to send first: the best of which something comes, else the best."""
        coming = 0 if not rates or rates[0] > 0 else _next(rates, 0, 1)
        self.current = coming or 0
        return self.current

    def report(self, way: Way, rates: Sequence[float], now: float) -> int:
        """A report came; `rates` are the renditions' bits per second, the best first, 0 for one of
        which nothing comes. Returns which rendition to send, `current`."""
        self.current = min(self.current, len(rates) - 1)
        needs = rates[self.current]
        short = 0 < way.estimate < ESTIMATE_SHORT * needs
        if short or way.fraction_lost > LOSSY:
            self._trouble += 1
            self._clean_since = None
        else:
            self._trouble = 0
            if way.fraction_lost > CLEAN:
                self._clean_since = None
            elif self._clean_since is None:
                self._clean_since = now
        if now - self._changed_at >= SETTLE_S:
            self._judge(way, rates, now)
        return self.current

    def _judge(self, way: Way, rates: Sequence[float], now: float) -> None:
        below = _next(rates, self.current, 1)
        above = _next(rates, self.current, -1)
        clean_s = 0.0 if self._clean_since is None else now - self._clean_since
        if rates[self.current] <= 0:  # it has died: no report can say so
            to = below if below is not None else above
            if to is not None:
                self._go(to, now)
        elif self._trouble >= TROUBLE_REPORTS:
            if below is not None:
                self._go_down(below, now)
            else:
                needs = rates[self.current]
                passes = needs * (1 - way.fraction_lost)
                gets = min(passes, way.estimate) if way.estimate else passes
                self.slow = Slow(round(needs), round(gets))
        elif clean_s >= SETTLE_S:
            self.slow = None
            if above is not None and clean_s >= self._try_after_s:
                self._went_up_at = now
                self._go(above, now)

    def _go_down(self, to: int, now: float) -> None:
        if now - self._went_up_at <= FAILED_WITHIN_S:
            self._try_after_s = min(2 * self._try_after_s, TRY_AFTER_MAX_S)
        else:
            self._try_after_s = TRY_AFTER_S
        self._go(to, now)

    def _go(self, to: int, now: float) -> None:
        self.current = to
        self._changed_at = now
        self._clean_since = None
        self._trouble = 0


def _next(rates: Sequence[float], current: int, step: int) -> int | None:
    """The nearest rendition that way of which something comes."""
    at = current + step
    while 0 <= at < len(rates):
        if rates[at] > 0:
            return at
        at += step
    return None
