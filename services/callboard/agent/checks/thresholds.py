"""When a check's result becomes its status (Consul: SuccessBeforePassing and friends). Pure."""

from __future__ import annotations

from dataclasses import dataclass

from callboard.catalog.objects import CRITICAL, PASSING, WARNING


@dataclass(slots=True)
class Thresholds:
    """Counts results in a row; a status changes once as many as its threshold have come.

    0 and 1 both mean the first result decides. `failures_before_warning` of 0 means the same as
    `failures_before_critical`, so that no warning comes between (Consul 1.11 and later).
    """

    success_before_passing: int = 0
    failures_before_warning: int = 0
    failures_before_critical: int = 0
    _successes: int = 0
    _failures: int = 0

    def observe(self, status: str, current: str) -> str:
        """The status after one more result `status`, when it was `current` so far."""
        if status in (PASSING, WARNING):
            self._successes += 1
            self._failures = 0
            return status if self._successes >= self.success_before_passing else current
        self._failures += 1
        self._successes = 0
        if self._failures >= self.failures_before_critical:
            return CRITICAL
        before_warning = self.failures_before_warning or self.failures_before_critical
        return WARNING if self._failures >= before_warning else current
