"""How fast one token may publish: a token bucket each. Pure; `now` is an argument.

The table is bounded: where it is full, the bucket that was not asked for the longest is forgotten.
Who is forgotten begins with a full one, as it would have after (burst / rate) seconds anyway.
"""

from __future__ import annotations

from collections import OrderedDict

SIZE_MAX = 16_384
"""Buckets kept."""


class Rates:
    """Buckets by key (a token's hash, an address)."""

    def __init__(self, per_s: float, burst: float, size_max: int = SIZE_MAX) -> None:
        """`per_s` publications a second on average (0: no limit), `burst` at once (at least 1)."""
        self._per_s = per_s
        self._burst = max(burst, 1.0)
        self._size_max = size_max
        self._buckets: OrderedDict[bytes, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, key: bytes, now: float) -> float:
        """Take one: 0.0, or the seconds until there is one (then none was taken). `now` is
        monotonic time."""
        if not self._per_s:
            return 0.0
        left, at = self._buckets.pop(key, (self._burst, now))
        left = min(self._burst, left + max(0.0, now - at) * self._per_s)
        wait = 0.0 if left >= 1.0 else (1.0 - left) / self._per_s
        self._buckets[key] = (left if wait else left - 1.0, now)
        if len(self._buckets) > self._size_max:
            self._buckets.popitem(last=False)
        return wait
