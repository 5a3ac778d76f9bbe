"""When a publication is sent again, and what its answer means. Pure.

It is sent again after any failure that may pass, always with the same idempotency key: a hub that
took it the first time answers the first one's id, and its subscribers see one event.
"""

from __future__ import annotations

import random
from collections.abc import Mapping

from callboard.events.course import BACKOFF_MAX_S, retry_after_s
from callboard.events.errors import EventsError, Refused

PUBLISH_S = 30.0
"""For a publication with all its attempts."""
ATTEMPT_S = 10.0
"""For one of them."""
FIRST_REST_S = 0.2

_MAY_PASS = frozenset({408, 425, 429, 500, 502, 503, 504})


class Attempts:
    """Of one publication."""

    def __init__(self, rng: random.Random, now: float, total_s: float) -> None:
        """`now` is monotonic."""
        self._rng = rng
        self._ends_at = now + total_s
        self._count = 0

    def timeout_s(self, now: float) -> float:
        """For the next attempt."""
        return max(0.001, min(ATTEMPT_S, self._ends_at - now))

    def rest_s(
        self, problem: EventsError, now: float, headers: Mapping[str, str] | None = None
    ) -> float:
        """How long to wait after a failure. Raises it if it will not pass, or not in time."""
        if isinstance(problem, Refused) and problem.status not in _MAY_PASS:
            raise problem
        self._count += 1
        grown_s = min(FIRST_REST_S * float(1 << min(self._count - 1, 10)), BACKOFF_MAX_S)
        rest_s = grown_s * self._rng.uniform(0.75, 1.25)
        asked_s = retry_after_s(headers or {})
        rest_s = rest_s if asked_s is None else max(rest_s, asked_s)
        if now + rest_s >= self._ends_at:
            raise problem
        return rest_s
