"""The queue of broadcasts: each is sent a limited number of times, the least sent first.

Memberlist's TransmitLimitedQueue. A new broadcast about a name replaces the queued one, so that
the queue holds at most one per member; unnamed ones are bounded by `items_max`, and when it is
full the one sent most often goes (most have it already).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

QUEUE_ITEMS_MAX = 4096


def retransmit_limit(retransmit_mult: int, members: int) -> int:
    """How often one broadcast is sent: mult * ceil(log10(n + 1))."""
    return retransmit_mult * math.ceil(math.log10(members + 1))


@dataclass(slots=True, eq=False)
class Broadcast:
    """One queued message; `finished` once it was sent often enough, or replaced."""

    name: str
    """What it is about; a newer one of the same name replaces it; "" never does."""
    message: bytes
    number: int
    transmits: int = 0
    finished: bool = False


class TransmitLimitedQueue:
    """Broadcasts waiting to be piggybacked or gossiped."""

    def __init__(self, retransmit_mult: int, items_max: int = QUEUE_ITEMS_MAX) -> None:
        self._retransmit_mult = retransmit_mult
        self._items_max = items_max
        self._queue: list[Broadcast] = []
        self._numbers = 0

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, name: str, message: bytes) -> Broadcast:
        """Queue a broadcast in place of an older one of the same name."""
        if name:
            self._drop([item for item in self._queue if item.name == name])
        elif len(self._queue) >= self._items_max:
            self._drop([max(self._queue, key=lambda item: item.transmits)])
        self._numbers += 1
        broadcast = Broadcast(name, message, self._numbers)
        self._queue.append(broadcast)
        return broadcast

    def take(self, bytes_free: int, overhead_bytes: int, members: int) -> list[bytes]:
        """The messages that fit, each costing its length and `overhead_bytes`.

        The least sent first; of those the longest, then the newest, as memberlist does.
        """
        if not self._queue:
            return []
        limit = retransmit_limit(self._retransmit_mult, members)
        taken: list[bytes] = []
        self._queue.sort(key=lambda item: (item.transmits, -len(item.message), -item.number))
        done: list[Broadcast] = []
        for item in self._queue:
            cost = len(item.message) + overhead_bytes
            if cost > bytes_free:
                continue
            bytes_free -= cost
            taken.append(item.message)
            item.transmits += 1
            if item.transmits >= limit:
                done.append(item)
        self._drop(done)
        return taken

    def _drop(self, items: list[Broadcast]) -> None:
        for item in items:
            item.finished = True
            self._queue.remove(item)
