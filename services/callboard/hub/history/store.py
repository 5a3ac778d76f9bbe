"""What keeps the history: one protocol for SQLite (one hub) and PostgreSQL (several).

Offsets count from 1 without gaps, over all epochs. An epoch is a name for a run of offsets; a new
one begins where an offset might otherwise be given twice (see `Epoch`). What was published is kept
until retention trims it, by the prefix of its canonical topic, or somebody purges it: then its
offset is a hole. Holes are no gap by themselves; `Standing.trimmed` tells whose updates are gone.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from callboard.hub.event import Publication, Update

EPOCH_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
EPOCH_LENGTH = 12
EPOCHS_MAX = 100
"""Older ones are forgotten: their ids are then unknown ones."""


class Acknowledge(Enum):
    """When a publication is acknowledged, and seen by readers: never the one before the other."""

    MEMORY = "memory"
    """At once; it is written behind. A crash loses the last moments, also of what was seen."""
    WRITTEN = "written"
    """Once it is committed: survives a killed process, but not a power cut."""
    DURABLE = "durable"
    """Once it is on the disk: whatever a reader ever saw survives."""


class StoreAway(Exception):
    """The store cannot be asked now (its server is gone): ask again later."""


class StoreFailed(Exception):
    """`fatal` was called; what became of the call nobody knows, and nobody is to be told."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """A run of offsets that were given once each.

    An id is `#name.offset`. A new epoch begins at head + 1 when offsets above the head may have
    been given, and lost: an unclean end in a mode that is not durable, or a store older than what
    was told of it. An id of an older epoch is exact up to the next epoch's `first` - 1.
    """

    name: str
    """`[a-z0-9]{12}`, random."""
    first: int


@dataclass(frozen=True, slots=True)
class Bound:
    """What is kept of the updates of one prefix; None: as much as there is."""

    count: int | None = None
    bytes: int | None = None
    """As `Update.size` counts."""
    age_s: float | None = None


@dataclass(frozen=True, slots=True)
class Retention:
    """Bounds by prefix of the canonical topic; the longest prefix that fits is the one."""

    default: Bound = field(default_factory=lambda: Bound(1_000_000, 1 << 30, 7 * 86400.0))
    prefixes: Mapping[str, Bound] = field(default_factory=dict)
    keys_count: int = 100_000
    """Idempotency keys are remembered for so many publications (of any kind) ..."""
    keys_age_s: float = 86400.0
    """... and no longer than this."""

    def prefix_of(self, topic: str) -> str:
        """The prefix that a topic belongs to; "" is the default."""
        return longest_prefix(topic, self.prefixes)

    def bound(self, prefix: str) -> Bound:
        """The bound of a prefix, as `prefix_of` gives it."""
        return self.prefixes.get(prefix, self.default)


@dataclass(frozen=True, slots=True)
class Draft:
    """A publication on its way into a store."""

    publication: Publication
    time_ms: int
    """Wall time since 1970. A store never lets it go backwards: it keeps the largest so far."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What a store has: all epochs it knows, oldest first, and its ends."""

    epochs: tuple[Epoch, ...]
    head: int
    """The highest offset given; 0 before the first."""
    oldest: int
    """The lowest offset kept; head + 1 when none is."""
    trimmed: Mapping[str, int]
    """By prefix, "" for the default: the highest offset that retention has taken from it. An
    update that is trimmed counts for the prefix of each of its topics. A purge counts for none."""


@dataclass(frozen=True, slots=True)
class Page:
    """Updates in the order of offsets, with what was trimmed by the time they were read: read in
    one transaction, so that nobody takes a hole for silence."""

    updates: Sequence[Update]
    oldest: int
    trimmed: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Header:
    """As much of an update as says who wants it."""

    offset: int
    topics: tuple[str, ...]
    private: bool


@dataclass(frozen=True, slots=True)
class Trimmed:
    """What one slice of trimming did."""

    oldest: int
    trimmed: Mapping[str, int]
    """As in `Standing`."""
    more: bool
    """There is more to trim: call again."""
    kept: Mapping[str, int]
    """By prefix of the canonical topic (by the longest that fits, of these): below this offset
    nothing is left of it; head + 1 where nothing is at all. Read no later than `trimmed`, which
    so tells of all that retention has taken below it."""


Told = Callable[[Sequence[Update]], None]
"""On the event loop: committed updates, in order, each once, no offset left out."""
Purged = Callable[[str, int], None]
"""On the event loop: a topic, and an offset up to which it was purged; perhaps more than once."""


class Store(Protocol):
    """Keeps updates. All calls on the event loop; none of them blocks it.

    Any call but `append` may raise StoreAway. A store that cannot know what is on its disk (a
    failed fsync, SQLITE_IOERR), that finds itself damaged, or behind what it told (restored under
    a running hub), calls `fatal` once, with the reason; calls in progress and later ones raise
    StoreFailed.
    """

    async def open(self, told: Told, purged: Purged, fatal: Callable[[str], None]) -> Standing:
        """Make it if there is none, and begin a new epoch where one is needed.

        From then on `told` gets every update above `Standing.head`, also those that other hubs
        append, and `purged` what any hub purges, once `told` has had what precedes it. Raises
        OSError or ValueError (another format, or damaged), with the reason.
        """

    async def append(self, batch: Sequence[Draft]) -> Sequence[Update]:
        """Commit a batch as the mode says, in one transaction: all of it or nothing.

        One call at a time. Gives the update of each, in their order; `told` has had them by then.
        A draft whose idempotency key is known (or came earlier in the batch) gets no offset and is
        not told: its update has the first one's offset, epoch, time and id, the rest is its own. A
        repeated `own_id` is an update of its own. Raises HistoryFull or HistoryBusy: then nothing
        of the batch is there, nor will be.
        """

    async def head(self) -> int:
        """The highest offset committed, also by other hubs: perhaps not told yet."""

    async def read(self, after: int, bytes_max: int, count_max: int) -> Page:
        """What follows `after`, at least one update if there is one, then no more than either."""

    async def newest(self, bytes_max: int, count_max: int) -> Sequence[Update]:
        """The last updates, in the order of offsets, of no more than either."""

    async def headers(
        self, before: int, count_max: int, topics: Sequence[str] = ()
    ) -> Sequence[Header]:
        """The last so many below an offset, the newest first; only those of `topics`, if any."""

    async def find(self, own_id: str) -> int | None:
        """The lowest offset kept of those that a publisher gave this id."""

    async def at_time(self, time_ms: int) -> int:
        """The lowest offset kept whose time is not before this; head + 1 if there is none."""

    async def trim(self, now_ms: int) -> Trimmed:
        """One small slice of what retention asks for, and of old idempotency keys."""

    async def purge(self, topic: str) -> int:
        """Remove all updates that have a topic among theirs, whole; how many. On return that is
        durable, and `purged` was told."""

    async def close(self) -> None:
        """The end of a clean run. Appends in progress are finished before."""


class BehindStore(Store, Protocol):
    """A store of one hub alone, whose offsets the hub may give itself (`memory`)."""

    async def write(self, batch: Sequence[tuple[Update, str]]) -> None:
        """Commit updates, with their idempotency keys, that were told already; their offsets
        continue the head. One call at a time. Raises HistoryFull: nothing of it is there."""

    async def keys(self) -> Mapping[str, tuple[int, int, str]]:
        """The idempotency keys that are remembered: offset, time_ms and own id of each's update,
        in the order of offsets."""


def longest_prefix(topic: str, prefixes: Mapping[str, object]) -> str:
    """The longest of `prefixes` that a topic begins with, or ""."""
    return max((p for p in prefixes if topic.startswith(p)), key=len, default="")


def new_epoch() -> str:
    """A name for an epoch."""
    return "".join(secrets.choice(EPOCH_LETTERS) for _ in range(EPOCH_LENGTH))


def place_of(epochs: Sequence[Epoch], offset: int) -> str:
    """The epoch that an offset belongs to; 0, before all, belongs to the first."""
    for epoch in reversed(epochs):
        if epoch.first <= offset:
            return epoch.name
    return epochs[0].name
