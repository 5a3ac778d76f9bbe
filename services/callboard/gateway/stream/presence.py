"""Whether media comes. Pure."""

from __future__ import annotations

OFFLINE_AFTER_S = 2.0


class Presence:
    """Live while packets come; offline when none has for a while."""

    def __init__(self, offline_after_s: float = OFFLINE_AFTER_S) -> None:
        self.last_seen: float | None = None
        """When the last packet came; None: none so far."""
        self._offline_after_s = offline_after_s
        self._ended = False

    def saw(self, now: float) -> None:
        """A packet has come."""
        self.last_seen = now
        self._ended = False

    def end(self) -> None:
        """The source has said good-bye: it is offline at once."""
        self._ended = True

    def is_live(self, now: float) -> bool:
        """Whether media comes."""
        return self.deadline is not None and now < self.deadline

    @property
    def deadline(self) -> float | None:
        """When it is offline if nothing comes; None if it was never live, or has ended."""
        if self.last_seen is None or self._ended:
            return None
        return self.last_seen + self._offline_after_s
