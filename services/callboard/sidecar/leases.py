"""Who holds which stream, and until when. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from callboard.media.leases import LASTS_S

LEASES_MAX = 256
"""Of one sidecar: each may be a gateway's, and a gateway has few."""

Destination = tuple[str, str, int]
"""Track, host and port."""


class TooMany(Exception):
    """No further lease is granted."""


@dataclass(slots=True)
class _Lease:
    stream: str
    destinations: frozenset[Destination]
    ends_at: float


class Leases:
    """All leases of a sidecar. `now` is in seconds and never goes back."""

    def __init__(self, new_id: Callable[[], str], *, lasts_s: float = LASTS_S) -> None:
        """`new_id` makes names that nobody guesses."""
        self._new_id = new_id
        self.lasts_s = lasts_s
        self._held: dict[str, _Lease] = {}

    def __len__(self) -> int:
        return len(self._held)

    def take(self, stream: str, host: str, ports: Mapping[str, int], now: float) -> str:
        """Grant one; its ID. Raises TooMany."""
        self.expire(now)
        if len(self._held) >= LEASES_MAX:
            raise TooMany(f"{LEASES_MAX} leases are held")
        id = self._new_id()
        where = frozenset((track, host, port) for track, port in ports.items())
        self._held[id] = _Lease(stream, where, now + self.lasts_s)
        return id

    def renew(self, id: str, now: float) -> bool:
        """Let one last from now on; False if there is none (any more)."""
        self.expire(now)
        lease = self._held.get(id)
        if lease is not None:
            lease.ends_at = now + self.lasts_s
        return lease is not None

    def release(self, id: str, now: float) -> bool:
        """End one; False if there is none (any more)."""
        self.expire(now)
        return self._held.pop(id, None) is not None

    def end(self, stream: str) -> None:
        """End all of a stream."""
        for id in [id for id, lease in self._held.items() if lease.stream == stream]:
            del self._held[id]

    def expire(self, now: float) -> None:
        """Forget those whose time is over."""
        for id in [id for id, lease in self._held.items() if lease.ends_at <= now]:
            del self._held[id]

    def holds(self, id: str, now: float) -> bool:
        """Whether there is such a lease."""
        self.expire(now)
        return id in self._held

    def of(self, stream: str, now: float) -> int:
        """How many are held of a stream."""
        self.expire(now)
        return sum(lease.stream == stream for lease in self._held.values())

    def destinations(self, stream: str, now: float) -> frozenset[Destination]:
        """Where a stream is to go: each place once, however many leases name it."""
        self.expire(now)
        held = (lease.destinations for lease in self._held.values() if lease.stream == stream)
        return frozenset().union(*held)
