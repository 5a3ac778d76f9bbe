"""The newest updates in memory, bounded by count and bytes. Pure.

Lists instead of a deque: where a reader stands is found by bisection, also past holes (updates
that were purged, or trimmed before a start), and what it gets is one slice.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence

from callboard.hub.event import Publication, Update
from callboard.hub.history.store import longest_prefix

COUNT_MAX = 100_000
BYTES_MAX = 64 << 20
_COMPACT_AFTER = 1024
"""Slots that may lie waste before the lists are cut."""
_GONE = Update(0, "", 0, Publication((), b""))
"""In the slot of one that was let go."""


class Ring:
    """Updates from `first` to the head; what is not there has no update any more."""

    def __init__(self, *, count_max: int = COUNT_MAX, bytes_max: int = BYTES_MAX) -> None:
        self._count_max = count_max
        self._bytes_max = bytes_max
        self._updates: list[Update] = []
        self._offsets: list[int] = []
        self._ends: list[int] = []
        """Bytes of all updates up to and with this one, since the ring began."""
        self._start = 0
        self._first = 1
        self._kept: dict[str, int] = {}
        """By prefix: below which offset `forget_trimmed` has nothing to do any more."""

    def __len__(self) -> int:
        return len(self._updates) - self._start

    @property
    def first(self) -> int:
        """From this offset on the ring has whatever there is."""
        return self._first

    @property
    def bytes(self) -> int:
        """As `Update.size` counts."""
        return self._ends[-1] - self._before(self._start) if len(self) else 0

    def begin(self, updates: Sequence[Update], first: int) -> None:
        """Start with the store's newest; `first` is the offset from which they are complete."""
        self._updates, self._offsets, self._ends = [], [], []
        self._start, self._first = 0, first
        self.add(updates)

    def add(self, updates: Sequence[Update], written: int | None = None) -> None:
        """Append what became visible, and let go of the oldest. Updates above `written` stay,
        whatever the bounds: no store has them yet."""
        end = self._ends[-1] if self._ends else 0
        for update in updates:
            end += update.size
            self._updates.append(update)
            self._offsets.append(update.offset)
            self._ends.append(end)
        self._let_go(written)

    def after(self, after: int, bytes_max: int) -> Sequence[Update] | None:
        """As `History.recent`."""
        if after + 1 < self._first:
            return None
        begin = bisect_right(self._offsets, after, self._start)
        if begin == len(self._updates):
            return ()
        limit = self._before(begin) + bytes_max
        end = bisect_right(self._ends, limit, begin)
        return self._updates[begin : max(end, begin + 1)]

    def before(self, offset: int) -> Iterator[Update]:
        """The updates below an offset, the newest first. Not to be gone on with once the ring has
        changed."""
        for index in range(
            bisect_left(self._offsets, offset, self._start) - 1, self._start - 1, -1
        ):
            yield self._updates[index]

    def at_time(self, time_ms: int) -> int | None:
        """The first offset whose time is not before this; None where an older one may be, or
        where there is none."""
        found = bisect_left(self._updates, time_ms, self._start, key=lambda u: u.time_ms)
        if found == self._start or found == len(self._updates):
            return None
        return self._offsets[found]

    def forget(self, topic: str, through: int) -> None:
        """Take out the updates up to an offset that have a topic among theirs."""
        kept = [
            u for u in self._updates[self._start :] if u.offset > through or topic not in u.topics
        ]
        if len(kept) < len(self):
            self.begin(kept, self._first)

    def forget_trimmed(self, kept: Mapping[str, int]) -> None:
        """Take out what a store has trimmed; `kept` as in `Trimmed`.

        Looks only at what lies between the bounds that it was told last time and these, so that
        to be told every second costs little.
        """
        if not len(self):
            return
        if kept.keys() != self._kept.keys():
            self._kept = dict.fromkeys(kept, 0)
        raised = {prefix for prefix, bound in kept.items() if bound > self._kept[prefix]}
        if not raised:
            return
        low = min(self._kept[prefix] for prefix in raised)
        high = max(kept[prefix] for prefix in raised)
        # what a store of several hubs trimmed may be yet to come
        end = self._offsets[-1] + 1
        self._kept = {prefix: min(bound, end) for prefix, bound in kept.items()}
        begin = bisect_left(self._offsets, low, self._start)
        self._sift(begin, bisect_left(self._offsets, high, begin), kept)

    def _sift(self, begin: int, end: int, kept: Mapping[str, int]) -> None:
        """Take out, between two indexes, what lies below the bound of its prefix."""
        bounds: dict[str, int] = {}
        updates: list[Update] = []
        ends: list[int] = []
        gone = 0
        for index in range(begin, end):
            update = self._updates[index]
            topic = update.topics[0]
            bound = bounds.get(topic)
            if bound is None:
                bound = bounds[topic] = kept.get(longest_prefix(topic, kept), 0)
            if update.offset < bound:
                gone += update.size
            else:
                updates.append(update)
                ends.append(self._ends[index] - gone)
        if gone:
            self._ends[begin:] = [*ends, *(through - gone for through in self._ends[end:])]
            self._updates[begin:end] = updates
            self._offsets[begin:end] = [update.offset for update in updates]

    def _before(self, index: int) -> int:
        """Bytes of what precedes an index."""
        return self._ends[index] - self._updates[index].size

    def _let_go(self, written: int | None) -> None:
        while len(self) > 1 and (len(self) > self._count_max or self.bytes > self._bytes_max):
            offset = self._offsets[self._start]
            if written is not None and offset > written:
                break
            self._updates[self._start] = _GONE
            self._start += 1
            self._first = offset + 1
        if self._start > _COMPACT_AFTER and self._start > len(self._updates) // 2:
            del self._updates[: self._start]
            del self._offsets[: self._start]
            del self._ends[: self._start]
            self._start = 0
