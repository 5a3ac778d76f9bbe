"""A virtual clock: what is to happen, and when. A simulated hour takes seconds."""

from __future__ import annotations

import heapq
from collections.abc import Callable

Action = Callable[[], None]


class Schedule:
    """Actions ordered by virtual time; equal times in the order they were asked for."""

    def __init__(self) -> None:
        self.now = 0.0
        """Virtual seconds since the start."""
        self.events = 0
        """Actions run so far."""
        self._heap: list[tuple[float, int, Action]] = []
        self._sequence = 0

    def after(self, delay_s: float, action: Action) -> None:
        """Run `action` in `delay_s` virtual seconds (not negative)."""
        self._sequence += 1
        heapq.heappush(self._heap, (self.now + max(delay_s, 0.0), self._sequence, action))

    def run_for(self, seconds: float) -> None:
        """Let `seconds` pass."""
        until = self.now + seconds
        while self._heap and self._heap[0][0] <= until:
            self.now, _, action = heapq.heappop(self._heap)
            self.events += 1
            action()
        self.now = until

    def run_until(self, fact: Callable[[], bool], timeout_s: float) -> bool:
        """Let time pass until `fact` holds; False if it did not within `timeout_s`."""
        until = self.now + timeout_s
        while not fact():
            if not self._heap or self._heap[0][0] > until:
                self.now = until
                return fact()
            self.now, _, action = heapq.heappop(self._heap)
            self.events += 1
            action()
        return True
