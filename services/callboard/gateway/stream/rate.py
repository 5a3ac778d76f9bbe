"""A bit rate over a sliding window. Pure."""

from __future__ import annotations

WINDOW_S = 2.0
SLOTS = 20


class BitRate:
    """Counts in slots, of which the window has a fixed number: adding and asking take the same time
    whatever came. The running slot is part of the window, so it is right to one slot in twenty."""

    def __init__(self, window_s: float = WINDOW_S, slots: int = SLOTS) -> None:
        self._slot_s = window_s / slots
        self._octets = [0] * slots
        self._sum = 0
        self._began_at: float | None = None
        self._running = 0
        """Slots since it began."""
        self._ends_at = float("-inf")

    def add(self, octets: int, now: float) -> None:
        """So many have come."""
        if now >= self._ends_at:
            self._move(now)
        self._octets[self._running % len(self._octets)] += octets
        self._sum += octets

    def bits_per_s(self, now: float) -> float:
        """The mean over the window, or over the time since the first packet if that is less (but
        not less than a slot)."""
        if self._began_at is None:
            return 0.0
        if now >= self._ends_at:
            self._move(now)
        slots = len(self._octets)
        begin = max(0, self._running - slots + 1) * self._slot_s
        span_s = max(now - self._began_at - begin, self._slot_s)
        return 8 * self._sum / span_s

    def _move(self, now: float) -> None:
        """Empty the slots that time has passed."""
        if self._began_at is None:
            self._began_at = now
        slots = len(self._octets)
        running = max(self._running, int((now - self._began_at) / self._slot_s))
        for slot in range(self._running + 1, min(running, self._running + slots) + 1):
            self._sum -= self._octets[slot % slots]
            self._octets[slot % slots] = 0
        self._running = running
        self._ends_at = self._began_at + (running + 1) * self._slot_s
