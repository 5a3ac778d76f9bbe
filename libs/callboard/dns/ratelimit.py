"""How many UDP answers a network outside gets a second: a front must be no amplifier.

Anyone can send a small query in another's name and have the answer sent there. Beyond the rate an
answer is dropped, and every second one is sent empty with TC: a real client then asks over TCP,
where its address is proven (what DNS servers call response rate limiting, with a slip of 2). Pure:
`now` is monotonic seconds.
"""

from __future__ import annotations

import enum
import ipaddress
from functools import lru_cache

from callboard.dns.addresses import read_address

NETWORKS_MAX = 1 << 16
"""Networks remembered; then all are forgotten, which lets each have a second's answers more."""

SLIP = 2


class Verdict(enum.Enum):
    """What becomes of an answer."""

    SEND = enum.auto()
    TRUNCATE = enum.auto()
    """Send an empty one with TC."""
    DROP = enum.auto()


class RateLimit:
    """A bucket of one second's answers for each network."""

    def __init__(self, answers_per_second: int) -> None:
        assert answers_per_second > 0
        self._rate = float(answers_per_second)
        self._buckets: dict[str, list[float]] = {}
        """Network to [answers left, when that was, answers held back]."""

    def judge(self, client: str, now: float) -> Verdict:
        """Whether an answer may go to a client's address."""
        network = network_of(client)
        bucket = self._buckets.get(network)
        if bucket is None:
            if len(self._buckets) >= NETWORKS_MAX:
                self._buckets.clear()
            bucket = self._buckets[network] = [self._rate, now, 0.0]
        left = min(self._rate, bucket[0] + (now - bucket[1]) * self._rate)
        bucket[1] = now
        if left >= 1.0:
            bucket[0] = left - 1.0
            return Verdict.SEND
        bucket[0] = left
        bucket[2] += 1.0
        return Verdict.TRUNCATE if bucket[2] % SLIP == 0 else Verdict.DROP


@lru_cache(maxsize=4096)
def network_of(client: str) -> str:
    """The /24 or /56 of an address; itself if it is none."""
    address = read_address(client)
    if address is None:
        return client
    size = 24 if address.version == 4 else 56
    return str(ipaddress.ip_network((address, size), strict=False).network_address)
