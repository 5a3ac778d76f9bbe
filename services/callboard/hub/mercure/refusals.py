"""What is said to requests that are not served, beside what matching and auth say. Pure."""

from __future__ import annotations

import math

from callboard.hub.matching.refusal import Refused


def bad_request(text: str) -> Refused:
    """400: the request itself is wrong, whoever asks."""
    return Refused(400, text)


def too_many(text: str, retry_after_s: float) -> Refused:
    """429, with the seconds until it is worth asking again (RFC 6585, 4)."""
    return Refused(429, text, (("Retry-After", str(max(1, math.ceil(retry_after_s)))),))
