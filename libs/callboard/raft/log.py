"""The replicated log of one member, in memory, from the last compaction on.

Laws of this file: an entry at or below `commit` never changes (I4); `commit` never goes back and
never passes the end; indexes are contiguous and terms do not fall. Who may append and what counts
as committed is decided elsewhere (replication.py); what is durable is the driver's, and noted in
`stable`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate

from callboard.raft.errors import InvariantBroken, UnsupportedEntry
from callboard.raft.messages import Entry, EntryKind, SnapshotMetadata


class RaftLog:
    """Entries (offset, last_index]; `offset` is what the last compaction or snapshot covers."""

    __slots__ = (
        "_ends",
        "_entries",
        "_slice",
        "commit",
        "handed",
        "last_index",
        "offset",
        "offset_term",
        "released",
        "stable",
    )

    def __init__(
        self, snapshot: SnapshotMetadata | None, entries: Sequence[Entry], *, commit: int
    ) -> None:
        self.offset = snapshot.index if snapshot else 0
        self.offset_term = snapshot.term if snapshot else 0
        self._entries = [entry for entry in entries if entry.index > self.offset]
        self.last_index = self.offset + len(self._entries)
        self._ends = [0, *accumulate(len(entry.data) for entry in self._entries)]
        """Bytes of data up to each entry: a batch's end is found by bisection."""
        self._slice: tuple[int, int, tuple[Entry, ...]] = (0, 0, ())
        """The last batch made: all followers of a pipeline get the same tuple."""
        self.commit = max(self.offset, min(commit, self.last_index))
        self.handed = self.last_index
        """The last entry handed out for writing."""
        self.stable = self.last_index
        """The last entry known durable."""
        self.released = self.commit
        """The last committed entry handed out for applying."""
        self._check_entries()

    def _check_entries(self) -> None:
        term = self.offset_term
        for index, entry in enumerate(self._entries, self.offset + 1):
            if entry.index != index or entry.term < term:
                raise InvariantBroken(
                    "log",
                    f"after ({index - 1}, term {term}) comes ({entry.index}, term {entry.term})",
                )
            if entry.kind is EntryKind.CONFIGURATION:
                raise UnsupportedEntry(entry.index, entry.kind)
            term = entry.term

    @property
    def last_term(self) -> int:
        """Term of the last entry (or of the snapshot, if nothing follows it)."""
        return self._entries[-1].term if self._entries else self.offset_term

    @property
    def size(self) -> int:
        """Bytes of data held."""
        return self._ends[-1] - self._ends[0]

    def term(self, index: int) -> int | None:
        """The term of the entry at `index`; None below the offset and beyond the end."""
        if index > self.offset:
            if index <= self.last_index:
                return self._entries[index - self.offset - 1].term
        elif index == self.offset:
            return self.offset_term
        return None

    def up_to_date(self, index: int, term: int) -> bool:
        """True if a log that ends with (index, term) holds all that ours may have committed
        (section 3.6.1)."""
        return (term, index) >= (self.last_term, self.last_index)

    def slice(self, first: int, last: int) -> tuple[Entry, ...]:
        """Entries `first` to `last`, both included."""
        if self._slice[0] == first and self._slice[1] == last:
            return self._slice[2]
        base = self.offset + 1
        entries = tuple(self._entries[first - base : last - base + 1])
        self._slice = (first, last, entries)
        return entries

    def batch(self, first: int, max_entries: int, max_bytes: int) -> tuple[int, int]:
        """(last index, bytes) of the batch from `first` within the limits; at least one entry."""
        low = first - self.offset
        high = min(low + max_entries, self.last_index - self.offset + 1)
        before = self._ends[low - 1]
        end = bisect_right(self._ends, before + max_bytes, low, high)
        end = max(end, low + 1) - 1
        return self.offset + end, self._ends[end] - before

    def bytes_between(self, first: int, last: int) -> int:
        """Bytes of data in `first` to `last`, both included."""
        return self._ends[last - self.offset] - self._ends[first - 1 - self.offset]

    def first_within(self, max_bytes: int) -> int:
        """The first index from which on the log is at most `max_bytes`."""
        return self.offset + bisect_left(self._ends, self._ends[-1] - max_bytes) + 1

    def conflict_hint(self, index: int, term: int) -> tuple[int, int]:
        """The last (index, term) at or below `index` whose term is at most `term`.

        Where a log that has `term` at `index` may still agree with ours: everything of ours
        above it cannot match. (0, 0) when that lies below the offset. It skips whole terms in
        one answer instead of one entry a round trip (etcd's findConflictByTerm).
        """
        index = min(index, self.last_index)
        while index > self.offset:
            own = self._entries[index - self.offset - 1].term
            if own <= term:
                return index, own
            index -= 1
        if index == self.offset and self.offset_term <= term:
            return self.offset, self.offset_term
        return index, 0

    # changes ------------------------------------------------------------------------------
    def append(self, term: int, kind: EntryKind, data: Sequence[bytes]) -> int:
        """The leader's own entries; returns the index of the first."""
        first = self.last_index + 1
        self._entries.extend(
            [Entry(index, term, kind, each) for index, each in enumerate(data, first)]
        )
        self._extend_ends(map(len, data))
        return first

    def merge(self, previous: int, previous_term: int, entries: Sequence[Entry]) -> int | None:
        """A leader's entries after (previous, previous_term): append what is new.

        Returns the last index that is now known to match the leader's log, or None if ours does
        not hold `previous`. What matches is left alone, and what follows it too: a doubled or
        late append must not truncate (I4). Only a real conflict does, and never a committed one.
        """
        if self.term(previous) != previous_term:
            return None
        matched = previous + len(entries)
        new = self._skip_matching(previous, entries)
        if new == len(entries):
            return matched
        first = entries[new].index
        if first <= self.last_index:
            self._truncate_from(first, entries[new].term)
        added = entries[new:]
        self._entries.extend(added)
        self._extend_ends([len(entry.data) for entry in added])
        return matched

    def _skip_matching(self, previous: int, entries: Sequence[Entry]) -> int:
        """How many of `entries` the log holds already, with equal terms, in a row."""
        if previous == self.last_index:
            return 0
        for count, entry in enumerate(entries):
            if self.term(entry.index) != entry.term:
                return count
        return len(entries)

    def _truncate_from(self, index: int, term: int) -> None:
        if index <= self.commit:
            raise InvariantBroken(
                "I4",
                f"entry {index} of term {self.term(index)} is committed (commit {self.commit}) "
                f"and a leader replaces it by one of term {term}",
            )
        keep = index - self.offset - 1
        del self._entries[keep:]
        del self._ends[keep + 1 :]
        self._slice = (0, 0, ())
        self.last_index = index - 1
        self.handed = min(self.handed, index - 1)
        self.stable = min(self.stable, index - 1)

    def _extend_ends(self, sizes: Iterable[int]) -> None:
        ends = accumulate(sizes, initial=self._ends[-1])
        next(ends)
        self._ends.extend(ends)
        self.last_index = self.offset + len(self._entries)

    def commit_to(self, index: int) -> bool:
        """Everything up to `index` is committed; False if that was known."""
        if index <= self.commit:
            return False
        if index > self.last_index:
            raise InvariantBroken(
                "I6", f"commit {index} is beyond the end of the log, {self.last_index}"
            )
        self.commit = index
        return True

    def take_unwritten(self) -> tuple[Entry, ...]:
        """Entries not handed out for writing yet."""
        if self.handed == self.last_index:
            return ()
        entries = self.slice(self.handed + 1, self.last_index)
        self.handed = self.last_index
        return entries

    def take_committed(self) -> tuple[Entry, ...]:
        """Committed entries not handed out for applying yet."""
        if self.released == self.commit:
            return ()
        entries = self.slice(self.released + 1, self.commit)
        self.released = self.commit
        return entries

    def stable_to(self, index: int) -> bool:
        """The log is durable up to `index`, as it stands; False if that was known."""
        index = min(index, self.handed)
        if index <= self.stable:
            return False
        self.stable = index
        return True

    def restore(self, metadata: SnapshotMetadata) -> None:
        """Replace everything by a snapshot of committed entries beyond our commit (I10)."""
        if metadata.index <= self.commit:
            raise InvariantBroken(
                "I10", f"snapshot {metadata.index} would move commit {self.commit} back"
            )
        self.offset = self.last_index = metadata.index
        self.offset_term = metadata.term
        self._entries.clear()
        self._ends = [0]
        self._slice = (0, 0, ())
        self.commit = self.released = self.handed = self.stable = metadata.index

    def compact(self, keep_from: int) -> None:
        """Drop entries below `keep_from`; only applied ones may go."""
        offset = keep_from - 1
        if offset <= self.offset:
            return
        term = self.term(offset)
        if term is None or offset > self.released:
            raise InvariantBroken(
                "compaction", f"up to {offset}, but only {self.released} was handed out to apply"
            )
        drop = offset - self.offset
        del self._entries[:drop]
        del self._ends[:drop]
        self.offset = offset
        self.offset_term = term
