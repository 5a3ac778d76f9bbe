"""A copy of the catalog that takes its changes one log index after the other. Pure.

Agents batch changes each in their own way, and cut a long batch into frames, within an index, too.
Here they wait until an index is complete and its turn has come, so that the tables stand exactly
at each index once, whatever agent told of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from callboard.catalog.changes import Change
from callboard.catalog.tables import CatalogTables
from callboard.feed.copy import CatalogCopy
from callboard.feed.wire import FeedError

WAITING_MAX = 200_000
"""Changes that wait for their turn; a stream that brings more is left, and resumed."""


@dataclass(frozen=True, slots=True)
class Group:
    """The changes of one index."""

    index: int
    changes: list[Change]


class StepwiseCopy(CatalogCopy):
    """`applied_index` is what was received: what the feed resumes after. The tables stand at
    `stands_at`, and follow when `step` is called."""

    def __init__(
        self,
        *,
        waits: Callable[[], None],
        replaced: Callable[[int | None], None],
        beaten: Callable[[float], None],
    ) -> None:
        """`waits`: `step` may have something to do. `replaced`: by a snapshot, with the index
        at which the tables were the same already; None if they were not. `beaten`: leader, members
        and freshness were told (monotonic seconds)."""
        self._received = 0
        self._waiting: deque[Group] = deque()
        self._waiting_changes = 0
        self._doubtful = True
        """The tables are of no index: there are none, or a step is under way or has failed."""
        self._waits = waits
        self._replaced = replaced
        self._beaten = beaten
        super().__init__()

    @property
    def applied_index(self) -> int:
        """All changes up to here were received."""
        return self._received

    @applied_index.setter
    def applied_index(self, index: int) -> None:
        self._received = index
        if self._waiting:
            self._waits()

    @property
    def stands_at(self) -> int:
        """All changes up to here are made."""
        return self._waiting[0].index - 1 if self._waiting else self._received

    @property
    def waiting(self) -> int:
        """How many changes are not made yet."""
        return self._waiting_changes

    def apply(self, changes: Sequence[Change]) -> None:
        """Take changes from the feed; they wait. Raises FeedError for a disorder, or too many."""
        for before, after in pairwise(changes):
            if after.index < before.index:
                raise FeedError(f"a change of index {after.index} after one of {before.index}")
        for change in changes:
            if change.index > self._received:
                self._queue(change)
        if self._waiting_changes > WAITING_MAX:
            raise FeedError(f"{self._waiting_changes} changes wait")
        if len(self._waiting) > 1:
            self._waits()

    def _queue(self, change: Change) -> None:
        """A stream that was resumed tells again what the last one had begun to: an index below the
        newest has been told whole, and the newest told twice is the same as told once."""
        newest = self._waiting[-1].index if self._waiting else 0
        if change.index > newest:
            self._waiting.append(Group(change.index, []))
        if change.index >= newest:
            self._waiting[-1].changes.append(change)
            self._waiting_changes += 1

    def step(self) -> Group | None:
        """Make the changes of the next complete index; what was changed, as the tables say it.
        `stands_at` follows with `stepped`. None if none is complete."""
        if not self._waiting:
            return None
        group = self._waiting[0]
        if len(self._waiting) == 1 and self._received < group.index:
            return None
        self._doubtful = True
        self.version += 1
        tables = self.tables
        made = [each for it in group.changes if (each := tables.apply(it)) is not None]
        return Group(group.index, made)

    def stepped(self) -> None:
        """The last step is done with."""
        self._doubtful = False
        self._waiting_changes -= len(self._waiting.popleft().changes)

    def replace(self, tables: CatalogTables, index: int, *, epoch: str, datacenter: str) -> None:
        """Take a snapshot. Raises FeedError if it is older than what was received."""
        at = None
        if not self._doubtful and epoch == self.epoch:
            at = _same_since(self.stands_at, self.tables, tables)
        super().replace(tables, index, epoch=epoch, datacenter=datacenter)
        self._waiting.clear()
        self._waiting_changes = 0
        self._doubtful = False
        self._replaced(at)

    def doubt(self) -> None:
        """A step failed: what is here may be wrong. The feed gives another snapshot."""
        self._waiting.clear()
        self._waiting_changes = 0
        self._doubtful = True
        self.epoch = ""

    def current_as_of(self, now: float) -> None:
        """A heartbeat of an agent that is not behind."""
        super().current_as_of(now)
        self._beaten(now)


def _same_since(index: int, older: CatalogTables, newer: CatalogTables) -> int | None:
    """`index` if a later version of the same catalog does not differ from that of `index`. What
    was not changed since was there then: as many objects, none of them newer, are the same."""
    if older.counts != newer.counts:
        return None
    pinned = newer.pin()
    changed = (
        any(node.modify_index > index for node in pinned.nodes())
        or any(service.modify_index > index for service in pinned.services())
        or any(check.modify_index > index for check in pinned.checks())
    )
    return None if changed else index
