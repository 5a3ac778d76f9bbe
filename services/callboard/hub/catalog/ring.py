"""The latest changes as events, whole indexes of them, bounded in bytes and number. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import islice

from callboard.hub.event import CatalogEvent

BYTES_MAX = 16 << 20
EVENTS_MAX = 100_000

EVENT_OVERHEAD_BYTES = 250
"""What an event costs beside its data."""


class Ring:
    """Events in the order of (index, part); the oldest indexes go when there are too many."""

    def __init__(
        self, index: int, *, bytes_max: int = BYTES_MAX, events_max: int = EVENTS_MAX
    ) -> None:
        """`index` is where the catalog stands: what follows is known."""
        self.oldest = index
        """The index after which changes are known."""
        self._skipped = range(0)
        """Indexes above `oldest` of which nothing is known, but that all together they changed
        nothing."""
        self._bytes_max = bytes_max
        self._events_max = events_max
        self._bytes = 0
        self._events: list[CatalogEvent] = []
        self._indexes: list[int] = []
        """The index of each event."""

    def __len__(self) -> int:
        return len(self._events)

    @property
    def size_bytes(self) -> int:
        """About how much memory the events take."""
        return self._bytes

    def restart(self, index: int) -> None:
        """Forget all: the catalog stands at `index`, and what led there is not known."""
        self.oldest = index
        self._skipped = range(0)
        self._bytes = 0
        self._events.clear()
        self._indexes.clear()

    def skip(self, after: int, upto: int) -> None:
        """The catalog is at `upto` what it was at `after`, the newest index: what there was
        between is not known. Of such stretches one is remembered; what led to it goes for
        another."""
        if upto > after:
            if self._skipped:
                self._drop_upto(self._skipped[-1])
            self._skipped = range(after + 1, upto + 1)

    def add(self, events: Sequence[CatalogEvent]) -> None:
        """The events of one index, above all others; more than fit are not kept, either."""
        for event in events:
            self._events.append(event)
            self._indexes.append(event.index)
            self._bytes += _size(event)
        while self._bytes > self._bytes_max or len(self._events) > self._events_max:
            self._drop_upto(self._indexes[0])

    def after(self, index: int, part: int = 0) -> Iterator[CatalogEvent] | None:
        """The events that follow `index`, or `part` of it (0: all of it); None if some of them
        are not known. To be used up before the next `add`."""
        if index < self.oldest or (index == self.oldest and part):
            return None
        if index in self._skipped and (part or index != self._skipped[-1]):
            return None
        at = bisect_right(self._indexes, index)
        while part and at:
            event = self._events[at - 1]
            if event.index != index or event.part <= part:
                break
            at -= 1
        return islice(self._events, at, None)

    def _drop_upto(self, index: int) -> None:
        """Drop the events up to an index."""
        self.oldest = max(self.oldest, index)
        count = bisect_right(self._indexes, index)
        self._bytes -= sum(map(_size, self._events[:count]))
        del self._events[:count], self._indexes[:count]


def _size(event: CatalogEvent) -> int:
    return len(event.data) + len(event.topic) + EVENT_OVERHEAD_BYTES
