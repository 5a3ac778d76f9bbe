"""Lifeguard's suspicion: how long one who did not answer may take to refute.

The first accusation sets a long time; each further member that says the same shortens it, down to
the least (Lifeguard, section IV-B "Local Health Aware Suspicion"). The formula is apart from the
timer: `remaining_suspicion_time_s` is memberlist's remainingSuspicionTime.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field


def suspicion_timeout_s(suspicion_mult: int, members: int, probe_interval_s: float) -> float:
    """The least suspicion time: mult * max(1, log10(n)) * interval."""
    return suspicion_mult * max(1.0, math.log10(max(1.0, members))) * probe_interval_s


def remaining_suspicion_time_s(
    confirmations: int, expected: int, elapsed_s: float, least_s: float, most_s: float
) -> float:
    """What is left of the time after `confirmations` of the `expected` ones; may be negative."""
    fraction = math.log(confirmations + 1.0) / math.log(expected + 1.0)
    raw = most_s - fraction * (most_s - least_s)
    return max(math.floor(1000.0 * raw) / 1000.0, least_s) - elapsed_s


@dataclass(slots=True)
class Suspicion:
    """One member under suspicion: who says so, and until when it may refute."""

    started: float
    expected: int
    """How many more accusers bring the time down to the least; 0 in small clusters."""
    least_s: float
    most_s: float
    accusers: set[str] = field(default_factory=set)
    """The first one included."""

    @property
    def deadline(self) -> float:
        """When the member is declared dead."""
        if self.expected < 1:
            return self.started + self.least_s
        confirmations = len(self.accusers) - 1
        return self.started + remaining_suspicion_time_s(
            confirmations, self.expected, 0.0, self.least_s, self.most_s
        )

    def confirm(self, accuser: str) -> bool:
        """Count an accuser; False when that is nothing new (then it is not gossiped again)."""
        if len(self.accusers) - 1 >= self.expected or accuser in self.accusers:
            return False
        self.accusers.add(accuser)
        return True

    def shift(self, gap_s: float) -> None:
        """We were not running for `gap_s`: the accused could not have reached us."""
        self.started += gap_s
