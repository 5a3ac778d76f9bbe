"""RaftLog: what matches is left alone, what is committed never changes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.raft import Entry, EntryKind, InvariantBroken, SnapshotMetadata, UnsupportedEntry
from callboard.raft.log import RaftLog


def entry(index: int, term: int, data: bytes = b"x") -> Entry:
    """A command."""
    return Entry(index, term, EntryKind.NORMAL, data)


def entries(*terms: int, first: int = 1) -> list[Entry]:
    """Commands of these terms, from `first` on."""
    return [entry(index, term) for index, term in enumerate(terms, first)]


def log_of(*terms: int, commit: int = 0) -> RaftLog:
    """A log without a snapshot."""
    return RaftLog(None, entries(*terms), commit=commit)


def terms_of(log: RaftLog) -> list[int]:
    """The terms of all entries."""
    return [each.term for each in log.slice(log.offset + 1, log.last_index)]


def test_an_empty_log_ends_with_nothing() -> None:
    log = log_of()

    assert (log.last_index, log.last_term, log.term(0), log.term(1)) == (0, 0, 0, None)


def test_terms_are_known_from_the_offset_to_the_end() -> None:
    log = RaftLog(SnapshotMetadata(4, 2), entries(2, 3, first=5), commit=0)

    assert [log.term(index) for index in range(3, 8)] == [None, 2, 2, 3, None]


def test_entries_the_snapshot_covers_are_passed_over() -> None:
    log = RaftLog(SnapshotMetadata(2, 1), entries(1, 1, 1), commit=0)

    assert (log.offset, log.last_index, log.commit) == (2, 3, 2)


@pytest.mark.parametrize(
    "bad", [[entry(2, 1)], [entry(1, 2), entry(2, 1)], [entry(1, 1), entry(3, 1)]]
)
def test_a_log_with_a_gap_or_a_falling_term_is_refused(bad: list[Entry]) -> None:
    with pytest.raises(InvariantBroken, match="comes"):
        RaftLog(None, bad, commit=0)


def test_a_log_with_an_entry_this_build_cannot_apply_is_refused() -> None:
    with pytest.raises(UnsupportedEntry, match="entry 1 is of kind 3"):
        RaftLog(None, [Entry(1, 1, EntryKind.CONFIGURATION, b"")], commit=0)


def test_new_entries_are_appended() -> None:
    log = log_of(1, 1)

    assert log.merge(2, 1, entries(2, 2, first=3)) == 4
    assert terms_of(log) == [1, 1, 2, 2]


def test_entries_that_follow_nothing_we_hold_are_refused() -> None:
    log = log_of(1, 1)

    assert log.merge(3, 1, []) is None
    assert log.merge(2, 9, []) is None


def test_a_doubled_append_truncates_nothing() -> None:
    log = log_of(1, 1, 1, 1)

    assert log.merge(1, 1, entries(1, first=2)) == 2
    assert terms_of(log) == [1, 1, 1, 1]


def test_a_conflict_truncates_from_where_it_is() -> None:
    log = log_of(1, 1, 1, 1)

    assert log.merge(1, 1, entries(1, 2, first=2)) == 3
    assert terms_of(log) == [1, 1, 2]
    assert (log.handed, log.stable) == (2, 2)


def test_a_conflict_with_a_committed_entry_stops_the_node() -> None:
    log = log_of(1, 1, 1, commit=2)

    with pytest.raises(InvariantBroken, match="I4: entry 2 of term 1 is committed"):
        log.merge(1, 1, entries(2, first=2))


def test_commit_never_goes_back() -> None:
    log = log_of(1, 1, commit=2)

    assert not log.commit_to(1)
    assert log.commit == 2


def test_commit_beyond_the_end_stops_the_node() -> None:
    with pytest.raises(InvariantBroken, match="I6"):
        log_of(1).commit_to(2)


def test_committed_entries_are_handed_out_once() -> None:
    log = log_of(1, 1, 1)
    log.commit_to(2)

    assert [each.index for each in log.take_committed()] == [1, 2]
    assert log.take_committed() == ()


def test_unwritten_entries_are_handed_out_once_and_again_when_replaced() -> None:
    log = log_of(1)
    log.append(2, EntryKind.NORMAL, [b"a", b"b"])

    assert [each.index for each in log.take_unwritten()] == [2, 3]
    assert log.take_unwritten() == ()

    log.merge(1, 1, [entry(2, 3)])
    assert [(each.index, each.term) for each in log.take_unwritten()] == [(2, 3)]


def test_stable_never_passes_what_was_handed_out() -> None:
    log = log_of(1)
    log.append(2, EntryKind.NORMAL, [b"a"])

    assert not log.stable_to(2)
    log.take_unwritten()
    assert log.stable_to(2)


@pytest.mark.parametrize(
    ("sizes", "max_entries", "max_bytes", "last", "size"),
    [
        ([10, 10, 10], 10, 100, 3, 30),
        ([10, 10, 10], 2, 100, 2, 20),
        ([10, 10, 10], 10, 20, 2, 20),
        ([10, 10, 10], 10, 29, 2, 20),
        ([500, 1], 10, 100, 1, 500),
        ([0, 0, 0], 10, 1, 3, 0),
    ],
)
def test_a_batch_keeps_both_limits_but_holds_one_entry(
    sizes: list[int], max_entries: int, max_bytes: int, last: int, size: int
) -> None:
    log = log_of()
    log.append(1, EntryKind.NORMAL, [bytes(each) for each in sizes])

    assert log.batch(1, max_entries, max_bytes) == (last, size)


@given(st.lists(st.integers(min_value=0, max_value=50), min_size=1, max_size=30), st.data())
def test_a_batch_is_the_longest_within_its_limits(sizes: list[int], data: st.DataObject) -> None:
    log = log_of()
    log.append(1, EntryKind.NORMAL, [bytes(each) for each in sizes])
    first = data.draw(st.integers(min_value=1, max_value=len(sizes)))
    log.commit_to(len(sizes))
    log.take_committed()
    log.compact(data.draw(st.integers(min_value=1, max_value=first)))

    last, size = log.batch(first, 5, 60)

    assert size == sum(sizes[first - 1 : last])
    assert first <= last < first + 5
    assert size <= 60 or last == first
    assert last == len(sizes) or last == first + 4 or size + sizes[last] > 60


@pytest.mark.parametrize(
    ("terms", "index", "term", "hint"),
    [
        ([1, 1, 5, 5], 4, 2, (2, 1)),
        ([1, 1, 5, 5], 9, 5, (4, 5)),
        ([4, 4], 2, 3, (0, 0)),
        ([], 5, 3, (0, 0)),
    ],
)
def test_a_conflict_hint_skips_whole_terms(
    terms: list[int], index: int, term: int, hint: tuple[int, int]
) -> None:
    assert log_of(*terms).conflict_hint(index, term) == hint


def test_a_conflict_hint_below_the_offset_knows_no_term() -> None:
    log = RaftLog(SnapshotMetadata(4, 3), entries(3, first=5), commit=0)

    assert log.conflict_hint(2, 3) == (2, 0)
    assert log.conflict_hint(5, 1) == (4, 0)


@pytest.mark.parametrize(
    ("index", "term", "up_to_date"),
    [(2, 2, True), (3, 2, True), (1, 3, True), (1, 2, False), (9, 1, False)],
)
def test_the_later_term_wins_then_the_longer_log(index: int, term: int, up_to_date: bool) -> None:
    assert log_of(1, 2).up_to_date(index, term) is up_to_date


def test_restoring_a_snapshot_replaces_everything() -> None:
    log = log_of(1, 1, 1, commit=1)
    log.restore(SnapshotMetadata(9, 4))

    assert (log.offset, log.last_index, log.last_term, log.commit) == (9, 9, 4, 9)
    assert log.take_unwritten() == log.take_committed() == ()


def test_restoring_an_older_snapshot_stops_the_node() -> None:
    with pytest.raises(InvariantBroken, match="I10"):
        log_of(1, 1, commit=2).restore(SnapshotMetadata(2, 1))


@given(st.lists(st.integers(0, 50), max_size=20), st.integers(0, 200))
def test_first_within_is_the_longest_tail_that_fits(sizes: list[int], limit: int) -> None:
    log = RaftLog(
        SnapshotMetadata(7, 1),
        [entry(index, 1, bytes(size)) for index, size in enumerate(sizes, 8)],
        commit=0,
    )
    first = log.first_within(limit)
    assert sum(sizes[first - 8 :]) <= limit
    assert first == 8 or sum(sizes[first - 9 :]) > limit


def test_compaction_keeps_what_was_not_handed_out_to_apply() -> None:
    log = log_of(1, 1, 1)
    log.commit_to(2)

    with pytest.raises(InvariantBroken, match="compaction"):
        log.compact(2)
    log.take_committed()
    log.compact(2)
    assert (log.offset, log.offset_term, log.last_index, log.size) == (1, 1, 3, 2)
