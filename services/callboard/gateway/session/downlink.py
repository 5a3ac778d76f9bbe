"""How one track comes at a viewer, as its receiver reports say. Pure."""

from __future__ import annotations

from collections import deque

from callboard.gateway.session.feedback import Received

REPORTS_KEPT = 8
"""Of ours: a viewer answers one of the last."""
ROUND_TRIP_MAX_S = 10.0


class Downlink:
    """Loss, jitter and round-trip time (RFC 3550, 6.4.1)."""

    def __init__(self, clock_rate: int) -> None:
        self.fraction_lost = 0.0
        """Of the last report's interval."""
        self.lost = 0
        """In all."""
        self.jitter_s = 0.0
        self.round_trip_s: float | None = None
        self.reports = 0
        self._clock_rate = clock_rate
        self._sent: deque[tuple[int, float]] = deque(maxlen=REPORTS_KEPT)

    def reported(self, ntp: int, now: float) -> None:
        """We have sent a report with this NTP timestamp (it may be another machine's time)."""
        self._sent.append((ntp >> 16 & 0xFFFFFFFF, now))

    def received(self, block: Received, now: float) -> None:
        """The viewer has sent a report."""
        self.reports += 1
        self.fraction_lost = block.fraction_lost
        self.lost = block.lost
        self.jitter_s = block.jitter / self._clock_rate
        for middle, at in self._sent:
            if middle == block.last_report:
                span_s = now - at - block.delay / 65_536
                if 0 <= span_s <= ROUND_TRIP_MAX_S:
                    self.round_trip_s = span_s

    def statistics(self) -> dict[str, object]:
        """For people and programs."""
        trip = self.round_trip_s
        return {
            "fraction_lost": round(self.fraction_lost, 4),
            "lost": self.lost,
            "jitter_ms": round(1000 * self.jitter_s, 1),
            "round_trip_ms": None if trip is None else round(1000 * trip, 1),
        }
