"""The small parts: majorities, progress, read rounds, pending writes, membership, settings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.raft import (
    Config,
    Configuration,
    HardState,
    InvariantBroken,
    Progress,
    ProgressState,
    ReadState,
    quorum,
)
from callboard.raft.membership import Membership
from callboard.raft.quorum import Tally
from callboard.raft.reads import ReadRounds
from callboard.raft.storage import PendingWrites, Write


@pytest.mark.parametrize(("voters", "needed"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (7, 4)])
def test_two_majorities_share_a_member(voters: int, needed: int) -> None:
    assert quorum.majority(voters) == needed
    assert 2 * needed > voters


@given(st.lists(st.integers(min_value=0, max_value=20), min_size=1, max_size=9))
def test_what_is_reached_is_reached_by_a_majority_and_no_more(levels: list[int]) -> None:
    reached = quorum.reached(levels)
    needed = quorum.majority(len(levels))

    assert sum(level >= reached for level in levels) >= needed
    assert sum(level > reached for level in levels) < needed


@pytest.mark.parametrize(
    ("votes", "outcome"),
    [
        ({"a": True}, Tally.PENDING),
        ({"a": True, "b": True}, Tally.WON),
        ({"a": True, "b": False}, Tally.PENDING),
        ({"a": True, "b": False, "c": False}, Tally.LOST),
        ({"a": True, "stranger": True}, Tally.PENDING),
    ],
)
def test_votes_are_counted_among_voters(votes: dict[str, bool], outcome: Tally) -> None:
    assert quorum.tally(votes, ("a", "b", "c")) is outcome


def test_a_contradictory_configuration_is_refused() -> None:
    with pytest.raises(ValueError, match="listed twice"):
        Membership("a", Configuration(("a", "b"), ("b",)))


def test_a_learner_is_fed_and_does_not_vote() -> None:
    membership = Membership("c", Configuration(("a", "b"), ("c",)))

    assert not membership.is_voter
    assert Membership("a", membership.configuration).others == ("b", "c")


@pytest.mark.parametrize(
    "changes",
    [
        {"node_id": ""},
        {"heartbeat_interval_s": 0.0},
        {"heartbeat_interval_s": 0.5},
        {"max_inflight": 0},
        {"max_batch_bytes": 0},
    ],
    ids=str,
)
def test_contradictory_settings_are_refused(changes: dict[str, object]) -> None:
    values: dict[str, object] = {"node_id": "a", **changes}

    with pytest.raises(ValueError, match=r"must|need"):
        Config(**values)  # type: ignore[arg-type]


# progress -------------------------------------------------------------------------------------
def replicating(match: int, *sent: int) -> Progress:
    """A member that acknowledged `match`, with appends up to each of `sent` under way."""
    progress = Progress(match + 1)
    progress.acknowledge(match)
    progress.replicate()
    for last in sent:
        progress.sends += 1
        progress.sent(last, 10)
    return progress


def test_an_acknowledgement_frees_all_appends_it_covers() -> None:
    progress = replicating(1, 3, 5, 7)

    assert progress.acknowledge(5)
    assert (progress.match, progress.next) == (5, 8)
    assert list(progress.inflight) == [(7, 10)]
    assert progress.inflight_bytes == 10


def test_an_old_acknowledgement_is_no_news() -> None:
    progress = replicating(5)

    assert not progress.acknowledge(3)
    assert progress.match == 5


def test_a_rejection_in_the_pipeline_goes_back_to_probing() -> None:
    progress = replicating(1, 3, 5)

    assert progress.reject(3, 1, send=2)
    assert progress.state is ProgressState.PROBE
    assert (progress.next, progress.inflight_bytes) == (2, 0)


def test_what_was_acknowledged_cannot_be_rejected() -> None:
    progress = replicating(5, 7)

    assert not progress.reject(5, 3, send=1)
    assert progress.state is ProgressState.REPLICATE


def test_a_rejection_of_an_append_sent_before_the_last_setback_is_old_news() -> None:
    progress = replicating(1, 3, 5)
    assert progress.reject(3, 1, send=1)
    progress.sends += 1
    progress.acknowledge(3)
    progress.replicate()

    assert not progress.reject(5, 1, send=2)
    assert progress.state is ProgressState.REPLICATE


@pytest.mark.parametrize(
    ("rejected", "hint", "following"), [(9, 4, 5), (9, 20, 9), (9, 0, 3), (7, 4, 10)]
)
def test_a_probe_follows_the_hint_but_never_below_the_match(
    rejected: int, hint: int, following: int
) -> None:
    progress = Progress(3)
    progress.acknowledge(2)
    progress.probe(10)
    progress.sends += 1

    progress.reject(rejected, hint, send=progress.sends)

    assert progress.next == following


def test_a_member_being_fed_a_snapshot_rejects_nothing() -> None:
    progress = Progress(5)
    progress.await_snapshot(9)

    assert not progress.reject(4, 0, send=1)


def test_match_stays_below_next() -> None:
    with pytest.raises(InvariantBroken, match="not below next"):
        Progress(5).sent(-1, 10)


# reads ----------------------------------------------------------------------------------------
def test_reads_asked_before_a_round_are_answered_by_it() -> None:
    reads = ReadRounds()
    reads.ask(1)
    reads.ask(2)
    first = reads.begin(7)
    reads.ask(3)

    assert reads.won(first) == [ReadState(1, 7), ReadState(2, 7)]
    assert (reads.pending, reads.waiting) == (1, True)


def test_a_later_round_wins_the_earlier_ones() -> None:
    reads = ReadRounds()
    reads.ask(1)
    reads.begin(7)
    reads.ask(2)
    last = reads.begin(8)

    assert reads.won(last) == [ReadState(1, 7), ReadState(2, 8)]


def test_a_round_before_an_own_commit_takes_no_reads() -> None:
    reads = ReadRounds()
    reads.ask(1)

    assert reads.won(reads.begin(None)) == []
    assert reads.waiting


def test_round_ids_are_never_reused_not_even_after_a_change_of_role() -> None:
    reads = ReadRounds()
    first = reads.begin(1)
    reads.drop()

    assert reads.begin(1) > first


def test_a_reused_context_stops_the_node() -> None:
    reads = ReadRounds()
    reads.ask(5)

    with pytest.raises(InvariantBroken, match="I9"):
        reads.ask(5)


def test_dropped_reads_are_all_told() -> None:
    reads = ReadRounds()
    reads.ask(1)
    reads.begin(1)
    reads.ask(2)

    assert reads.drop() == [1, 2]
    assert reads.pending == 0


# pending writes ---------------------------------------------------------------------------------
def pending(*writes: Write) -> PendingWrites:
    """Writes under way."""
    waiting = PendingWrites(HardState())
    for write in writes:
        waiting.add(write)
    return waiting


def test_a_write_is_durable_with_all_before_it() -> None:
    waiting = pending(
        Write(1, HardState(1, "a"), 1, 2, 1), Write(2, None, 3, 4, 1), Write(3, None, 5, 5, 1)
    )

    assert waiting.done(4, 1, 2) == 4
    assert waiting.hard_state == HardState(1, "a")


def test_an_entry_that_a_write_under_way_replaces_is_not_durable() -> None:
    """Written, replaced, and written again with the same term: the ABA race."""
    waiting = pending(Write(1, None, 2, 2, 2), Write(2, None, 2, 2, 3), Write(3, None, 2, 2, 2))

    assert waiting.done(2, 2, 1) == 1
    assert waiting.done(2, 3, 2) == 1
    assert waiting.done(2, 2, 3) == 2


def test_without_a_number_the_earliest_write_that_fits_is_meant() -> None:
    waiting = pending(Write(1, None, 2, 2, 2), Write(2, None, 2, 2, 3), Write(3, None, 2, 2, 2))

    assert waiting.done(2, 2, None) == 1


def test_a_write_of_a_hard_state_alone_makes_no_entry_durable() -> None:
    waiting = pending(Write(1, HardState(2, ""), 0, 5, 1))

    assert waiting.done(5, 1, 1) == 0
    assert waiting.hard_state.term == 2


def test_writes_of_a_log_that_was_replaced_tell_nothing_of_the_new_one() -> None:
    waiting = pending(Write(1, HardState(2, ""), 3, 9, 1))
    waiting.forget_entries()

    assert waiting.done(9, 1, 1) == 0
    assert waiting.hard_state.term == 2
