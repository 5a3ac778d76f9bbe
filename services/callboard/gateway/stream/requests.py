"""When to ask a source for a keyframe: many viewers' wishes become few requests. Pure."""

from __future__ import annotations

INTERVAL_S = 0.4
"""An encoder needs about as long; more keyframes would cost all viewers their picture's quality."""
AGAIN_S = 1.0
"""After a request, before the next one for the same wish: the first may have been lost."""
TRIES = 3
"""Requests for one wish; a source that heeds none of them never does."""


class KeyframeRequests:
    """At most one request in an interval. A wish within it is remembered, and due at its end. A
    wish is kept until a keyframe comes, or it was asked for in vain; `asked` tells that a request
    was sent, without which it does not count."""

    def __init__(self, interval_s: float = INTERVAL_S) -> None:
        self.sent = 0
        """Requests so far that went to somebody."""
        self.deadline: float | None = None
        """When a request is due for a wish that is kept."""
        self._interval_s = interval_s
        self._free_at = float("-inf")
        self._left = 0
        """Requests that the newest wish is still worth."""

    def wish(self, now: float) -> bool:
        """Somebody needs a keyframe. Whether to send a request now."""
        self.remember(now)
        return self.due(now)

    def remember(self, now: float) -> None:
        """A keyframe is needed, but who needs it cannot send now: see `due`."""
        self._left = TRIES
        self.deadline = max(now, self._free_at)

    def due(self, now: float) -> bool:
        """Whether to send a request now for a wish that is kept."""
        if self.deadline is None or now < self.deadline:
            return False
        self._free_at = self.deadline = now + self._interval_s  # unless somebody was there: `asked`
        return True

    def asked(self, now: float) -> None:
        """The request was sent to somebody."""
        self.sent += 1
        self._left -= 1
        self.deadline = now + AGAIN_S if self._left > 0 else None

    def keyframe_came(self) -> None:
        """All wishes so far are fulfilled."""
        self.deadline = None
