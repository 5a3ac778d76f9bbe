"""Lamport's clock: orders what members say without wall clocks (Lamport, CACM 1978)."""

from __future__ import annotations

TIME_MAX = 2**63
"""A time above this from outside is a fault, not a clock: it would stop ours from counting."""


class LamportClock:
    """Counts what this member says, and runs ahead of everything that it hears."""

    def __init__(self, time: int = 0) -> None:
        self.time = time

    def increment(self) -> int:
        """Count one thing said; return the new time."""
        self.time += 1
        return self.time

    def witness(self, heard: int) -> None:
        """Be later than what was heard."""
        if self.time <= heard < TIME_MAX:
            self.time = heard + 1
