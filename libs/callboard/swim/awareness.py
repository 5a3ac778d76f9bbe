"""Lifeguard's local health: how far we should doubt ourselves before we doubt others.

Missed answers raise the score, good probes lower it; every probe time-out is multiplied by
score + 1 (Lifeguard, section IV-A "Local Health Multiplier").
"""

from __future__ import annotations


class Awareness:
    """The health score: 0 is healthy, below `maximum` always."""

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self.score = 0

    def apply(self, delta: int) -> None:
        """Add to the score, within its bounds."""
        self.score = min(max(self.score + delta, 0), self._maximum - 1)

    def scale(self, timeout_s: float) -> float:
        """A time-out, stretched by our health."""
        return timeout_s * (self.score + 1)
