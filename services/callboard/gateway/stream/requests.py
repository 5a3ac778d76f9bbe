"""When to ask a source for a keyframe: many viewers' wishes become few requests. Pure."""

from __future__ import annotations

INTERVAL_S = 0.4
"""An encoder needs about as long; more keyframes would cost all viewers their picture's quality."""


class KeyframeRequests:
    """At most one request in an interval. A wish within it is remembered, and due at its end,
    unless a keyframe comes before."""

    def __init__(self, interval_s: float = INTERVAL_S) -> None:
        self.sent = 0
        """Requests so far."""
        self.deadline: float | None = None
        """When a remembered wish is due."""
        self._interval_s = interval_s
        self._free_at = float("-inf")

    def wish(self, now: float) -> bool:
        """Somebody needs a keyframe. Whether to send a request now."""
        if now >= self._free_at:
            self._send(now)
            return True
        self.remember(now)
        return False

    def remember(self, now: float) -> None:
        """A keyframe is needed, but who needs it cannot send now: see `due`."""
        self.deadline = max(now, self._free_at)

    def due(self, now: float) -> bool:
        """Whether to send a request now for a wish that was remembered."""
        if self.deadline is None or now < self.deadline:
            return False
        self._send(now)
        return True

    def keyframe_came(self) -> None:
        """All wishes so far are fulfilled."""
        self.deadline = None

    def _send(self, now: float) -> None:
        self.sent += 1
        self.deadline = None
        self._free_at = now + self._interval_s
