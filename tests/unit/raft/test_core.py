"""The core's contract with its driver, and what it does with messages that make no sense."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callboard.raft import (
    Config,
    Configuration,
    Entry,
    EntryKind,
    HardState,
    InitialState,
    InvariantBroken,
    Message,
    MessageKind,
    NotLeader,
    ProposalDropped,
    Raft,
    Ready,
    Role,
    SnapshotMetadata,
    UnsupportedEntry,
)

VOTERS = Configuration(("a", "b", "c"))


def entries(*terms: int, first: int = 1) -> list[Entry]:
    """Commands of these terms."""
    return [
        Entry(index, term, EntryKind.NORMAL, b"%d.%d" % (index, term))
        for index, term in enumerate(terms, first)
    ]


def member(
    *terms: int,
    term: int | None = None,
    configuration: Configuration = VOTERS,
    snapshot: SnapshotMetadata | None = None,
    applied: int | None = None,
    known_commit: int = 0,
    config: Config | None = None,
) -> Raft:
    """Member a with a log of these terms."""
    first = snapshot.index + 1 if snapshot else 1
    return Raft(
        config or Config("a"),
        InitialState(
            hard_state=HardState(max(terms, default=0) if term is None else term),
            configuration=configuration,
            snapshot=snapshot,
            entries=entries(*terms, first=first),
            applied=applied,
            known_commit=known_commit,
        ),
        now=0.0,
        rng=random.Random(1),
    )


def alone(config: Config | None = None) -> Raft:
    """A single voter that leads and has committed its first entry."""
    raft = member(configuration=Configuration(("a",)), config=config)
    raft.tick(raft.deadline())
    work(raft)
    assert raft.commit == 1
    return raft


def work(raft: Raft) -> list[Ready]:
    """Do everything there is, at once."""
    done = []
    while (ready := raft.ready()) is not None:
        done.append(ready)
        if ready.must_persist:
            raft.persisted(ready.index, ready.term, ready.number)
        if ready.committed:
            raft.applied_to(ready.committed[-1].index)
    return done


def take(raft: Raft) -> Ready:
    """The next Ready, which is there."""
    ready = raft.ready()
    assert ready is not None
    return ready


def append(
    sender: str, term: int, previous: tuple[int, int], new: Sequence[Entry], commit: int = 0
) -> Message:
    """An APPEND to a."""
    return Message(
        kind=MessageKind.APPEND,
        sender=sender,
        receiver="a",
        term=term,
        index=previous[0],
        log_term=previous[1],
        commit=commit,
        entries=tuple(new),
    )


def snapshot(sender: str, term: int, metadata: SnapshotMetadata) -> Message:
    """A SNAPSHOT to a."""
    return Message(MessageKind.SNAPSHOT, sender, "a", term, snapshot=metadata)


def answers(ready: Ready) -> list[tuple[MessageKind, int, bool]]:
    """(kind, index, rejected) of what is sent once durable."""
    return [(each.kind, each.index, each.reject) for each in ready.after_persist]


# start ----------------------------------------------------------------------------------------
def test_a_log_beyond_the_durable_term_refuses_to_start() -> None:
    with pytest.raises(InvariantBroken, match="I2"):
        member(1, 2, term=1)


def test_a_state_machine_ahead_of_the_log_refuses_to_start() -> None:
    with pytest.raises(InvariantBroken, match="I8"):
        member(1, 1, applied=3)


def test_what_the_state_machine_holds_is_not_applied_again() -> None:
    raft = member(1, 1, 1, applied=2, known_commit=3)

    assert [each.index for each in take(raft).committed] == [3]


# the contract -------------------------------------------------------------------------------------
def test_nothing_to_do_is_no_ready() -> None:
    assert member(1).ready() is None


def test_readies_are_numbered() -> None:
    raft = alone()
    numbers = []
    for _ in range(3):
        raft.propose([b"x"], 1.0)
        numbers += [ready.number for ready in work(raft)]

    assert numbers == sorted(set(numbers))


def test_all_proposals_of_a_turn_travel_in_one_ready() -> None:
    raft = alone()
    for number in range(5):
        raft.propose([b"%d" % number], 1.0)

    assert [each.data for each in take(raft).entries] == [b"0", b"1", b"2", b"3", b"4"]


def test_a_proposal_tells_where_it_will_be() -> None:
    raft = alone()

    assert raft.propose([b"x", b"y"], 1.0) == (2, 1)
    assert raft.propose([b"z"], 1.0) == (4, 1)


def test_a_follower_says_who_leads() -> None:
    raft = member(1)
    raft.step(append("b", 1, (1, 1), []), 0.1)

    with pytest.raises(NotLeader) as refusal:
        raft.propose([b"x"], 0.2)
    assert refusal.value.leader == "b"


def test_nothing_proposed_is_refused() -> None:
    with pytest.raises(ProposalDropped):
        alone().propose([], 1.0)


def test_more_reads_than_may_wait_are_refused() -> None:
    raft = alone(Config("a", max_pending_reads=2))
    raft.read_index(1, 1.0)
    raft.read_index(2, 1.0)

    with pytest.raises(ProposalDropped, match="2 reads wait"):
        raft.read_index(3, 1.0)


def test_a_message_that_shows_a_new_term_waits_for_the_disk() -> None:
    raft = member(1)
    raft.step(append("b", 4, (9, 4), []), 0.1)
    ready = take(raft)

    assert ready.hard_state == HardState(4, "")
    assert ready.messages == ()
    assert answers(ready) == [(MessageKind.APPEND_RESPONSE, 9, True)]


def test_acknowledgements_of_a_turn_become_one() -> None:
    raft = member(1)
    raft.step(append("b", 1, (1, 1), entries(1, first=2)), 0.1)
    raft.step(append("b", 1, (2, 1), entries(1, first=3)), 0.1)

    assert answers(take(raft)) == [(MessageKind.APPEND_RESPONSE, 3, False)]


def test_applying_what_was_not_handed_out_stops_the_node() -> None:
    with pytest.raises(InvariantBroken, match="I8"):
        alone().applied_to(9)


def test_applying_backwards_stops_the_node() -> None:
    with pytest.raises(InvariantBroken, match="I8"):
        alone().applied_to(0)


def test_a_snapshot_beyond_what_is_applied_stops_the_node() -> None:
    with pytest.raises(InvariantBroken, match="compaction"):
        alone().compact(SnapshotMetadata(5, 1), 2)


def test_a_snapshot_of_another_term_stops_the_node() -> None:
    with pytest.raises(InvariantBroken, match="compaction"):
        alone().compact(SnapshotMetadata(1, 7), 2)


def test_what_a_rolled_back_log_holds_instead_is_never_committed_by_a_heartbeat() -> None:
    raft = member(1, 1, 1, term=3)
    heartbeat = Message(MessageKind.HEARTBEAT, "b", "a", 3, log_term=2, commit=2)
    raft.step(heartbeat, 0.1)

    assert raft.commit == 0
    assert raft.voteless
    assert work(raft)[0].messages[0].voteless


def test_heartbeat_commits_what_was_acknowledged() -> None:
    raft = member(1, 2, 2, term=3)
    raft.step(Message(MessageKind.HEARTBEAT, "b", "a", 3, log_term=2, commit=2), 0.1)

    assert (raft.commit, raft.voteless) == (2, False)


def test_compaction_keeps_no_more_of_the_log_than_may_stay_in_memory() -> None:
    raft = alone(Config("a", max_retained_bytes=1000))
    raft.propose([bytes(300)] * 10, 0.0)
    work(raft)
    assert raft.compact(SnapshotMetadata(raft.commit, 1), 1) == raft.last_index - 2
    assert raft.log.size == 900


def test_compaction_never_drops_what_the_snapshot_does_not_cover() -> None:
    raft = alone()
    raft.propose([b"x", b"y"], 1.0)
    work(raft)

    assert raft.compact(SnapshotMetadata(2, 1), 99) == 3
    assert raft.log.slice(3, 3)[0].data == b"y"


def test_an_installation_nobody_asked_for_stops_the_node() -> None:
    with pytest.raises(InvariantBroken, match="I10"):
        member(1).snapshot_installed(SnapshotMetadata(4, 1))


def test_the_deadline_is_always_finite() -> None:
    for raft in (member(1), alone(), member(config=Config("a", may_vote=False))):
        assert 0.0 < raft.deadline() < 10.0


def test_a_hastened_election_begins_by_a_pre_vote() -> None:
    raft = member()
    raft.hasten_election(0.05)

    assert raft.deadline() == 0.05
    raft.tick(0.05)
    assert (raft.role, raft.term) == (Role.PRE_CANDIDATE, 0)


def test_a_known_leader_is_not_hastened_away() -> None:
    raft = member(1)
    raft.step(append("b", 1, (1, 1), []), 0.1)
    deadline = raft.deadline()
    raft.hasten_election(0.2)

    assert raft.deadline() == deadline


def test_time_never_goes_back() -> None:
    raft = member(1)
    raft.tick(0.3)
    raft.step(append("b", 1, (1, 1), []), 0.1)

    assert raft.leader_heard_at == 0.3


def test_a_leader_knows_when_its_quorum_was_heard() -> None:
    raft = alone()

    assert raft.quorum_heard_at(5.0) == 5.0
    assert member(1).quorum_heard_at(5.0) == float("-inf")


# snapshots ------------------------------------------------------------------------------------
def test_a_snapshot_of_what_is_committed_is_acknowledged_and_not_installed() -> None:
    raft = member(1, 1, 1, known_commit=3)
    work(raft)
    raft.step(snapshot("b", 1, SnapshotMetadata(2, 1, VOTERS)), 0.1)
    ready = take(raft)

    assert ready.install is None
    assert answers(ready) == [(MessageKind.APPEND_RESPONSE, 3, False)]


def test_a_snapshot_that_our_log_holds_commits_and_keeps_the_tail() -> None:
    raft = member(1, 1, 1)
    raft.step(snapshot("b", 1, SnapshotMetadata(2, 1, VOTERS)), 0.1)
    ready = take(raft)

    assert ready.install is None
    assert [each.index for each in ready.committed] == [1, 2]
    assert raft.last_index == 3


def test_while_a_snapshot_is_installed_nothing_is_acknowledged_or_applied() -> None:
    raft = member(1, 1, known_commit=1)
    metadata = SnapshotMetadata(9, 2, VOTERS)
    raft.step(snapshot("b", 2, metadata), 0.1)
    ready = take(raft)
    raft.step(append("b", 2, (9, 2), entries(2, first=10)), 0.2)

    assert ready.install == metadata
    assert not (ready.committed or ready.entries or ready.after_persist)
    assert raft.ready() is None
    assert raft.dropped["installing_snapshot"] == 1


def test_an_installed_snapshot_is_acknowledged_and_appends_follow_it() -> None:
    raft = member(1, 1, known_commit=1)
    metadata = SnapshotMetadata(9, 2, VOTERS)
    raft.step(snapshot("b", 2, metadata), 0.1)
    work(raft)
    raft.snapshot_installed(metadata)

    assert answers(take(raft)) == [(MessageKind.APPEND_RESPONSE, 9, False)]
    raft.step(append("b", 2, (9, 2), entries(2, first=10), commit=10), 0.2)
    assert [each.index for each in take(raft).committed] == [10]


def test_nobody_campaigns_in_the_middle_of_an_installation() -> None:
    raft = member(1)
    raft.step(snapshot("b", 2, SnapshotMetadata(9, 2, VOTERS)), 0.1)
    work(raft)
    raft.tick(raft.deadline())

    assert raft.role is Role.FOLLOWER


def test_a_received_snapshot_brings_its_configuration() -> None:
    raft = member(1)
    raft.step(snapshot("b", 2, SnapshotMetadata(9, 2, Configuration(("b", "c"), ("a",)))), 0.1)

    assert raft.membership.configuration.learners == ("a",)


# the ABA race of overlapping writes -------------------------------------------------------------
def test_an_entry_is_not_stable_while_a_write_under_way_replaces_it() -> None:
    raft = member(1)
    readies = []
    for sender, term, entry_term in (("b", 2, 2), ("c", 3, 3), ("b", 4, 2)):
        raft.step(append(sender, term, (1, 1), entries(entry_term, first=2)), 0.1)
        readies.append(take(raft))

    stable = []
    for ready in readies:
        raft.persisted(ready.index, ready.term, ready.number)
        stable.append(raft.stable_index)

    assert [ready.entries[0].term for ready in readies] == [2, 3, 2]
    assert stable == [1, 1, 2]


# nonsense -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (Message(MessageKind.APPEND, "b", "x", 5), "foreign"),
        (Message(MessageKind.APPEND, "stranger", "a", 5), "foreign"),
        (Message(MessageKind.APPEND, "a", "a", 5), "foreign"),
        (append("b", 5, (1, 1), entries(1, first=5)), "malformed"),
        (append("b", 5, (1, 1), entries(5, 4, first=2)), "malformed"),
        (append("b", 5, (1, 1), entries(6, first=2)), "malformed"),
        (append("b", 5, (1, 3), entries(2, first=2)), "malformed"),
        (Message(MessageKind.SNAPSHOT, "b", "a", 5), "malformed"),
        (Message(MessageKind.APPEND_RESPONSE, "b", "a", 1, index=1), "not_for_this_role"),
        (Message(MessageKind.TIMEOUT_NOW, "c", "a", 1), "transfer_refused"),
    ],
)
def test_a_message_that_makes_no_sense_is_dropped_and_counted(
    message: Message, reason: str
) -> None:
    raft = member(1)

    raft.step(message, 0.1)

    assert raft.dropped[reason] == 1
    assert raft.last_index == 1


def leader() -> Raft:
    """a leads term 1, with an entry of its own that nobody acknowledged."""
    raft = member()
    raft.tick(raft.deadline())
    raft.step(Message(MessageKind.PRE_VOTE_RESPONSE, "b", "a", 1), raft.now)
    raft.step(Message(MessageKind.VOTE_RESPONSE, "b", "a", 1), raft.now)
    work(raft)
    assert raft.role is Role.LEADER
    return raft


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (
            Message(MessageKind.APPEND_RESPONSE, "b", "a", 1, index=2),
            "acknowledged_beyond_log",
        ),
        (Message(MessageKind.HEARTBEAT_RESPONSE, "b", "a", 1, context=99), "unknown_round"),
        (
            Message(MessageKind.APPEND_RESPONSE, "b", "a", 1, index=7, reject=True),
            "stale_reject",
        ),
    ],
)
def test_an_answer_that_makes_no_sense_is_dropped_and_counted(
    message: Message, reason: str
) -> None:
    raft = leader()

    raft.step(message, raft.now)

    assert raft.dropped[reason] == 1
    assert raft.commit == 0


def test_a_second_leader_in_one_term_stops_the_node() -> None:
    raft = member(1)
    raft.step(append("b", 1, (1, 1), []), 0.1)

    with pytest.raises(InvariantBroken, match="I1: two leaders in term 1: b and c"):
        raft.step(append("c", 1, (1, 1), []), 0.2)


def test_a_leader_that_replaces_a_committed_entry_stops_the_node() -> None:
    raft = member(1, 1, known_commit=2)

    # By way of `step` it cannot come so far: what is committed is passed over.
    raft.step(append("b", 2, (1, 1), entries(2, first=2)), 0.1)
    assert raft.log.term(2) == 1
    with pytest.raises(InvariantBroken, match="I4"):
        raft.log.merge(1, 1, entries(2, first=2))


def test_an_entry_this_build_cannot_apply_stops_the_node() -> None:
    raft = member(1)

    with pytest.raises(UnsupportedEntry):
        raft.step(append("b", 1, (1, 1), [Entry(2, 1, EntryKind.CONFIGURATION, b"")]), 0.1)


small = st.integers(min_value=0, max_value=6)
wild = st.builds(
    Message,
    kind=st.sampled_from(MessageKind),
    sender=st.sampled_from(("a", "b", "c", "stranger")),
    receiver=st.sampled_from(("a", "a", "a", "b")),
    term=small,
    index=small,
    log_term=small,
    commit=small,
    entries=st.lists(
        st.builds(
            Entry, index=small, term=small, kind=st.just(EntryKind.NORMAL), data=st.just(b"")
        ),
        max_size=3,
    ).map(tuple),
    reject=st.booleans(),
    reject_hint=small,
    context=small,
    snapshot=st.none()
    | st.builds(SnapshotMetadata, index=small, term=small, configuration=st.just(VOTERS)),
    force=st.booleans(),
    voteless=st.booleans(),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(wild, max_size=30), st.randoms(use_true_random=False))
def test_wild_messages_raise_nothing_but_a_broken_invariant(
    messages: list[Message], rng: random.Random
) -> None:
    raft = member(1, 1)
    now = 0.0
    try:
        for message in messages:
            now += rng.choice((0.0, 0.4))
            raft.step(message, now)
            if rng.random() < 0.3:
                raft.tick(max(now, raft.deadline()))
            for ready in work(raft):
                if ready.install is not None:
                    raft.snapshot_installed(ready.install)
    except InvariantBroken:
        return

    assert raft.log.offset <= raft.applied <= raft.commit <= raft.last_index
    assert all(0 <= each.match < each.next for each in raft.progress.values())
