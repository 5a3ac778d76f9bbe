"""When a publication is sent again, and what its answer means. Pure.

It is sent again after any failure that may pass, always with the same idempotency key: a hub that
took it the first time answers the first one's id, and its subscribers see one event.
"""

from __future__ import annotations

import random

from callboard.events.course import BACKOFF_MAX_S
from callboard.events.errors import Refused, Unreachable, reason_of
from callboard.events.targets import Posting

PUBLISH_S = 30.0
"""For a publication with all its attempts."""
ATTEMPT_S = 10.0
"""For one of them."""
FIRST_REST_S = 0.2

_MAY_PASS = frozenset({408, 425, 429, 500, 502, 503, 504})


class Attempts:
    """Of one publication."""

    def __init__(self, posting: Posting, rng: random.Random, now: float, total_s: float) -> None:
        """`now` is monotonic. A publication without a key gets one of its own."""
        self.posting = posting
        self._rng = rng
        self._ends_at = now + total_s
        self._count = 0
        self._headers = {"Idempotency-Key": f"{rng.getrandbits(128):032x}", **posting.headers}

    def headers(self, token: str) -> dict[str, str]:
        """Of the next attempt."""
        shown = {"Authorization": f"Bearer {token}"} if token else {}
        return {**self._headers, **shown}

    def timeout_s(self, now: float) -> float:
        """For the next attempt."""
        return max(0.001, min(ATTEMPT_S, self._ends_at - now))

    def rest_s(self, problem: Exception, now: float) -> float:
        """How long to wait after a failure. Raises Refused if it will not pass, or not in time,
        Unreachable for a problem of any other kind."""
        refused = problem if isinstance(problem, Refused) else None
        if refused is not None and refused.status not in _MAY_PASS:
            raise refused
        self._count += 1
        grown_s = min(FIRST_REST_S * float(1 << min(self._count - 1, 10)), BACKOFF_MAX_S)
        rest_s = grown_s * self._rng.uniform(0.75, 1.25)
        if refused is not None and refused.retry_after_s is not None:
            rest_s = max(rest_s, refused.retry_after_s)
        if now + rest_s < self._ends_at:
            return rest_s
        if refused is not None:
            raise refused
        place = self.posting.url.partition("?")[0]
        raise Unreachable(f"{place}: {reason_of(problem)}") from problem
