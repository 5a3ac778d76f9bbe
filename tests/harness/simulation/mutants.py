"""Broken Raft cores: each breaks one rule on purpose. A simulator that does not catch them all
proves nothing by finding no fault in the real one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from callboard.raft import Entry, Message, Raft, Role, election, replication
from callboard.raft.log import RaftLog
from callboard.raft.reads import ReadRounds

Mutant = Callable[[pytest.MonkeyPatch], None]


def duplicate_append_truncates(patch: pytest.MonkeyPatch) -> None:
    """PySyncObj's: everything after the previous entry is cut, though it matches (I4)."""
    honest = RaftLog.merge

    def merge(
        log: RaftLog, previous: int, previous_term: int, entries: Sequence[Entry]
    ) -> int | None:
        cut = previous + len(entries)
        if log.term(previous) == previous_term and log.commit <= cut < log.last_index:
            log._truncate_from(cut + 1, 0)
        return honest(log, previous, previous_term, entries)

    patch.setattr(RaftLog, "merge", merge)


def old_term_is_committed_by_count(patch: pytest.MonkeyPatch) -> None:
    """Figure 3.7 of the dissertation (I5)."""

    def maybe_commit(raft: Raft) -> None:
        def match(voter: str) -> int:
            return raft.log.stable if voter == raft.node_id else raft.progress[voter].match

        raft.log.commit_to(raft.membership.reached(match))

    patch.setattr(replication, "maybe_commit", maybe_commit)


def acknowledged_before_durable(patch: pytest.MonkeyPatch) -> None:
    """A follower acknowledges what is in its memory only (I3)."""
    patch.setattr(Raft, "send_durable", lambda raft, message: raft._messages.append(message))


def leader_counts_itself_before_durable(patch: pytest.MonkeyPatch) -> None:
    """A leader counts what is in its memory only (I3)."""
    honest = replication.maybe_commit

    def maybe_commit(raft: Raft) -> None:
        raft.log.stable = raft.log.last_index
        honest(raft)

    patch.setattr(replication, "maybe_commit", maybe_commit)


def vote_before_durable(patch: pytest.MonkeyPatch) -> None:
    """A vote leaves before it is on the disk (I2)."""
    patch.setattr(Raft, "send", lambda raft, message: raft._messages.append(message))


def vote_for_a_shorter_log(patch: pytest.MonkeyPatch) -> None:
    """The up-to-date check is missing (section 3.6.1)."""
    patch.setattr(RaftLog, "up_to_date", lambda log, index, term: True)


def vote_twice(patch: pytest.MonkeyPatch) -> None:
    """A second candidate of one term gets a vote too."""
    patch.setattr(election, "_may_grant", lambda raft, message, pre: raft.role is not Role.LEADER)


def read_without_quorum(patch: pytest.MonkeyPatch) -> None:
    """A deposed leader answers reads (I9)."""
    patch.setattr(replication, "_confirm_reads", _answer_at_once)


def _answer_at_once(raft: Raft) -> None:
    raft.read_states.extend(raft.reads.won(raft.reads.round))


def read_before_own_commit(patch: pytest.MonkeyPatch) -> None:
    """A new leader takes its commit index for the newest before it committed anything (I9)."""
    honest = replication.broadcast_heartbeat
    begin = ReadRounds.begin

    def broadcast_heartbeat(raft: Raft) -> None:
        patch.setattr(ReadRounds, "begin", lambda reads, commit: begin(reads, raft.log.commit))
        honest(raft)

    patch.setattr(replication, "broadcast_heartbeat", broadcast_heartbeat)


def old_answers_count(patch: pytest.MonkeyPatch) -> None:
    """Acknowledgements of an earlier term are taken for this one's (I7)."""
    honest = election.answer_lower_term

    def answer_lower_term(raft: Raft, message: Message) -> None:
        if raft.role is Role.LEADER and message.kind.name == "APPEND_RESPONSE":
            replication.on_append_response(raft, message)
        else:
            honest(raft, message)

    patch.setattr(election, "answer_lower_term", answer_lower_term)


def commit_beyond_the_match(patch: pytest.MonkeyPatch) -> None:
    """A heartbeat commits whatever the follower holds (I6): a divergent tail, too."""
    honest = Raft.send

    def send(raft: Raft, message: Message) -> None:
        if message.kind.name == "HEARTBEAT":
            fields: dict[str, Any] = {
                name: getattr(message, name) for name in message.__struct_fields__
            }
            message = Message(**{**fields, "commit": raft.log.commit})
        honest(raft, message)

    patch.setattr(Raft, "send", send)
    patch.setattr(RaftLog, "commit_to", lambda log, index: _commit(log, min(index, log.last_index)))


def _commit(log: RaftLog, index: int) -> bool:
    log.commit = max(log.commit, index)
    return True


def reads_survive_a_new_term(patch: pytest.MonkeyPatch) -> None:
    """Waiting reads are kept over a change of role (etcd #21386)."""
    patch.setattr(ReadRounds, "drop", lambda reads: [])


FOUND_BY_WALK: tuple[Mutant, ...] = (
    duplicate_append_truncates,
    acknowledged_before_durable,
    leader_counts_itself_before_durable,
    vote_before_durable,
    vote_for_a_shorter_log,
    vote_twice,
    read_before_own_commit,
    commit_beyond_the_match,
    old_answers_count,
)
"""The adversary finds each of these within seconds."""

FOUND_BY_SCENARIO: dict[Mutant, str] = {
    old_term_is_committed_by_count: "old_term_commit",
    read_without_quorum: "read_index_of_a_deposed_leader",
    old_answers_count: "stale_acknowledgement",
    reads_survive_a_new_term: "reads_dropped_on_step_down",
    vote_before_durable: "vote_waits_for_the_disk",
    acknowledged_before_durable: "acknowledgement_waits_for_the_disk",
    leader_counts_itself_before_durable: "leader_counts_itself_when_durable",
}
"""A scenario of tests/unit/raft arranges what it takes, and must fail. Some need a coincidence too
long for the adversary."""
