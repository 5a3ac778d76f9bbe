"""Every kind of message, to every role, of a stale, the equal and a newer term: what comes of it.

The table is the whole truth about the dispatch. A cell reads `role, term, answer`:

    role    F follower, P pre-candidate, C candidate, L leader: what the member is afterwards
    term    `=` kept, `^` taken from the message, `+` its own next
    answer  what it sends (`!` before it: a rejection), `-` nothing, or `I1` if it stops
"""

from __future__ import annotations

import random

import pytest

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
    Raft,
    Role,
    SnapshotMetadata,
)

CONFIGURATION = Configuration(voters=("a", "b", "c"))
TERM = 5
LATE = 100.0
"""Long after anybody was heard: nobody sticks to a leader (that is a scenario's subject)."""

SHORT = {
    "append": MessageKind.APPEND_RESPONSE,
    "beat": MessageKind.HEARTBEAT_RESPONSE,
    "vote": MessageKind.VOTE_RESPONSE,
    "pre": MessageKind.PRE_VOTE_RESPONSE,
    "ask": MessageKind.REQUEST_VOTE,
    "lead": MessageKind.HEARTBEAT,
    "feed": MessageKind.APPEND,
}

TABLE = """
kind                role           stale           equal           newer
APPEND              FOLLOWER       F = !append     F = append      F ^ append
APPEND              PRE_CANDIDATE  P = !append     F = append      F ^ append
APPEND              CANDIDATE      C = !append     F = append      F ^ append
APPEND              LEADER         L = !append     I1              F ^ append
APPEND_RESPONSE     FOLLOWER       F = -           F = -           F ^ -
APPEND_RESPONSE     PRE_CANDIDATE  P = -           P = -           F ^ -
APPEND_RESPONSE     CANDIDATE      C = -           C = -           F ^ -
APPEND_RESPONSE     LEADER         L = -           L = feed        F ^ -
HEARTBEAT           FOLLOWER       F = !append     F = beat        F ^ beat
HEARTBEAT           PRE_CANDIDATE  P = !append     F = beat        F ^ beat
HEARTBEAT           CANDIDATE      C = !append     F = beat        F ^ beat
HEARTBEAT           LEADER         L = !append     I1              F ^ beat
HEARTBEAT_RESPONSE  FOLLOWER       F = -           F = -           F ^ -
HEARTBEAT_RESPONSE  PRE_CANDIDATE  P = -           P = -           F ^ -
HEARTBEAT_RESPONSE  CANDIDATE      C = -           C = -           F ^ -
HEARTBEAT_RESPONSE  LEADER         L = -           L = feed        F ^ -
REQUEST_VOTE        FOLLOWER       F = !vote       F = !vote       F ^ vote
REQUEST_VOTE        PRE_CANDIDATE  P = !vote       F = vote        F ^ vote
REQUEST_VOTE        CANDIDATE      C = !vote       C = !vote       F ^ vote
REQUEST_VOTE        LEADER         L = !vote       L = !vote       F ^ !vote
VOTE_RESPONSE       FOLLOWER       F = -           F = -           F ^ -
VOTE_RESPONSE       PRE_CANDIDATE  P = -           P = -           F ^ -
VOTE_RESPONSE       CANDIDATE      C = -           L = feed,lead   F ^ -
VOTE_RESPONSE       LEADER         L = -           L = -           F ^ -
PRE_VOTE            FOLLOWER       F = !pre        F = !pre        F = pre
PRE_VOTE            PRE_CANDIDATE  P = !pre        P = pre         P = pre
PRE_VOTE            CANDIDATE      C = !pre        C = !pre        C = pre
PRE_VOTE            LEADER         L = !pre        L = !pre        L = !pre
PRE_VOTE_RESPONSE   FOLLOWER       F = -           F = -           F = -
PRE_VOTE_RESPONSE   PRE_CANDIDATE  P = -           P = -           C ^ ask
PRE_VOTE_RESPONSE   CANDIDATE      C = -           C = -           C = -
PRE_VOTE_RESPONSE   LEADER         L = -           L = -           L = -
SNAPSHOT            FOLLOWER       F = !append     F = -           F ^ -
SNAPSHOT            PRE_CANDIDATE  P = !append     F = -           F ^ -
SNAPSHOT            CANDIDATE      C = !append     F = -           F ^ -
SNAPSHOT            LEADER         L = !append     I1              F ^ -
TIMEOUT_NOW         FOLLOWER       F = -           C + ask         F ^ -
TIMEOUT_NOW         PRE_CANDIDATE  P = -           P = -           F ^ -
TIMEOUT_NOW         CANDIDATE      C = -           C = -           F ^ -
TIMEOUT_NOW         LEADER         L = -           L = -           F ^ -
"""


def member(role: Role) -> Raft:
    """A member in `role` and TERM, with the log (1/1); long not heard from anybody."""
    standing = role in (Role.CANDIDATE, Role.LEADER)
    raft = Raft(
        Config("a"),
        InitialState(
            hard_state=HardState(TERM - 1 if standing else TERM),
            configuration=CONFIGURATION,
            entries=[Entry(1, 1, EntryKind.NORMAL, b"x")],
        ),
        now=0.0,
        rng=random.Random(1),
    )
    if role is Role.FOLLOWER:
        raft.step(message(MessageKind.HEARTBEAT, TERM), 0.0)
    else:
        raft.tick(raft.deadline())
    if standing:
        raft.step(message(MessageKind.PRE_VOTE_RESPONSE, TERM), 1.0)
    if role is Role.LEADER:
        raft.step(message(MessageKind.VOTE_RESPONSE, TERM), 1.0)
    settle(raft)
    assert (raft.role, raft.term) == (role, TERM)
    return raft


def settle(raft: Raft) -> tuple[Message, ...]:
    """Take and write all that is to do; returns the messages."""
    sent: tuple[Message, ...] = ()
    while (ready := raft.ready()) is not None:
        if ready.must_persist:
            raft.persisted(ready.index, ready.term, ready.number)
        sent += ready.messages + ready.after_persist
    return sent


def message(kind: MessageKind, term: int) -> Message:
    """A plausible message of `kind` from b: its log is up to date, its answers are positive."""
    snapshot = SnapshotMetadata(7, 4, CONFIGURATION) if kind is MessageKind.SNAPSHOT else None
    asking = kind in (MessageKind.PRE_VOTE, MessageKind.REQUEST_VOTE)
    return Message(
        kind=kind,
        sender="b",
        receiver="a",
        term=term,
        index=9 if asking else 1,
        log_term=4 if asking else 1,
        snapshot=snapshot,
    )


def outcome(role: Role, kind: MessageKind, term: int) -> str:
    """What comes of it, in the table's words."""
    raft = member(role)
    try:
        raft.step(message(kind, term), LATE)
    except InvariantBroken as broken:
        return broken.invariant
    sent = settle(raft)
    names = {value: name for name, value in SHORT.items()}
    told = sorted({("!" if each.reject else "") + names[each.kind] for each in sent})
    kept = "=" if raft.term == TERM else "^" if raft.term == term else "+"
    return f"{raft.role.name[0]} {kept} {','.join(told) or '-'}"


def cells() -> list[tuple[MessageKind, Role, int, str]]:
    """The table, cell by cell."""
    found = []
    for line in TABLE.strip().splitlines()[1:]:
        kind, role, *told = (word.strip() for word in line.split("  ") if word.strip())
        for term, expected in zip((TERM - 1, TERM, TERM + 1), told, strict=True):
            found.append((MessageKind[kind], Role[role], term, expected))
    return found


@pytest.mark.parametrize(("kind", "role", "term", "expected"), cells())
def test_outcome(kind: MessageKind, role: Role, term: int, expected: str) -> None:
    assert outcome(role, kind, term) == expected


def test_the_table_is_complete() -> None:
    assert {(kind, role, term) for kind, role, term, _ in cells()} == {
        (kind, role, term)
        for kind in MessageKind
        for role in Role
        for term in (TERM - 1, TERM, TERM + 1)
    }
