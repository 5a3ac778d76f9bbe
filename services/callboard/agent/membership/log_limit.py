"""Says whether a log line may be written: strangers must not fill our log."""

from __future__ import annotations


class LogLimit:
    """At most `lines_max` lines in each window; what was held back is counted."""

    def __init__(self, lines_max: int = 5, window_s: float = 10.0) -> None:
        self._lines_max = lines_max
        self._window_s = window_s
        self._window_ends = 0.0
        self._lines = 0
        self._held_back = 0

    def allow(self, now: float) -> int | None:
        """None: hold back. Otherwise write, and say that this many were held back before."""
        if now >= self._window_ends:
            self._window_ends = now + self._window_s
            self._lines = 0
        if self._lines >= self._lines_max:
            self._held_back += 1
            return None
        self._lines += 1
        held_back, self._held_back = self._held_back, 0
        return held_back
