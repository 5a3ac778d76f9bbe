"""Who leads: pre-votes, votes, stickiness to a live leader, CheckQuorum, leadership transfer.

Functions over a `Raft`, called by its dispatch only (core.py); what an election changes in the
member is changed by the `become_*` here and nowhere else. Log replication is replication.py's.

Sections are the dissertation's: 3.4 elections, 3.6.1 the up-to-date check, 3.10 transfer,
6.2 CheckQuorum, 9.6 pre-vote, 4.2.3 stickiness.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from callboard.raft import replication
from callboard.raft.errors import InvariantBroken, ProposalDropped
from callboard.raft.messages import EntryKind, Message, MessageKind
from callboard.raft.progress import NEVER, Progress
from callboard.raft.quorum import Tally
from callboard.raft.ready import Role

if TYPE_CHECKING:
    from callboard.raft.core import Raft

FROM_LEADER = frozenset({MessageKind.APPEND, MessageKind.HEARTBEAT, MessageKind.SNAPSHOT})
VOTE_REQUESTS = frozenset({MessageKind.PRE_VOTE, MessageKind.REQUEST_VOTE})


# roles ----------------------------------------------------------------------------------------
def become_follower(raft: Raft, term: int, leader: str) -> None:
    """Follow `leader` ("" if unknown) in `term`; drops all that was a leader's or candidate's."""
    if term < raft.term:
        raise InvariantBroken("term", f"{raft.node_id} would go back from {raft.term} to {term}")
    silent = raft.role is Role.FOLLOWER and not leader
    if term > raft.term:
        raft.term = term
        raft.vote = ""
    raft.enter(Role.FOLLOWER, leader)
    # A follower that merely learns of a term keeps its timer: a candidate that cannot win must
    # not keep those silent who can.
    if not silent:
        arm_election_timer(raft)


def arm_election_timer(raft: Raft) -> None:
    """Draw a new timeout from [1x, 2x) and start it now (section 3.4)."""
    raft.election_timeout_s = raft.config.election_timeout_s * (1.0 + raft.rng.random())
    raft.election_at = raft.now + raft.election_timeout_s
    raft.rearmed = False


def heard_leader(raft: Raft, message: Message) -> None:
    """A message of this term's leader came: follow it, and be silent for another timeout."""
    sender = message.sender
    if raft.role is Role.LEADER or raft.leader not in ("", sender):
        raise InvariantBroken(
            "I1",
            f"two leaders in term {raft.term}: {raft.leader} and {sender} ({message.kind.name})",
        )
    if raft.role is not Role.FOLLOWER or not raft.leader:
        become_follower(raft, raft.term, sender)
    raft.leader_heard_at = raft.now
    raft.election_at = raft.now + raft.election_timeout_s
    raft.rearmed = False


def leader_is_live(raft: Raft) -> bool:
    """True while a leader was heard (or leads with a majority) within an election timeout: no
    vote may disturb it then (section 4.2.3)."""
    if raft.role is Role.LEADER:
        return raft.now - quorum_seen_at(raft) < raft.config.election_timeout_s
    return raft.leader != "" and raft.now - raft.leader_heard_at < raft.config.election_timeout_s


def may_campaign(raft: Raft) -> bool:
    """A voter, with its vote, on a disk that answers, not in the middle of a snapshot."""
    return (
        raft.membership.is_voter
        and not raft.voteless
        and not raft.stalled
        and raft.installing is None
    )


# time -----------------------------------------------------------------------------------------
def tick_follower(raft: Raft) -> None:
    """The election timer of everyone who does not lead."""
    if raft.now < raft.election_at:
        return
    if may_campaign(raft):
        pre_campaign(raft)
    else:
        raft.enter(Role.FOLLOWER, "")
        arm_election_timer(raft)


def tick_leader(raft: Raft) -> None:
    """Heartbeats, CheckQuorum, and the patience of a transfer."""
    if raft.transferee and raft.now >= raft.transfer_at:
        raft.transferee = ""
        if raft.stalled:
            step_down(raft, "transfer_failed_on_stalled_disk")
            return
    if raft.now < raft.heartbeat_at:
        return
    if raft.now - quorum_seen_at(raft) >= raft.config.election_timeout_s:
        step_down(raft, "quorum_lost")
        return
    replication.broadcast_heartbeat(raft)


def quorum_heard_at(raft: Raft) -> float:
    """The latest time since which a majority has been heard, this member included."""

    def heard_at(voter: str) -> float:
        if voter == raft.node_id:
            return raft.now
        progress = raft.progress[voter]
        return NEVER if progress.voteless else progress.heard_at

    return raft.membership.reached(heard_at)


def quorum_seen_at(raft: Raft) -> float:
    """The same, but not before this leader began, or was woken: then it has a timeout's grace."""
    heard_at = quorum_heard_at(raft)
    if heard_at > raft.quorum_from:
        raft.rearmed = False
        return heard_at
    return raft.quorum_from


def step_down(raft: Raft, reason: str) -> None:
    """A leader gives up without a successor."""
    raft.stepped_down[reason] += 1
    become_follower(raft, raft.term, "")


# campaigns ------------------------------------------------------------------------------------
def pre_campaign(raft: Raft) -> None:
    """Ask whether a majority would vote for us, without touching anybody's term (section 9.6)."""
    raft.enter(Role.PRE_CANDIDATE, "")
    arm_election_timer(raft)
    raft.votes = {raft.node_id: True}
    if raft.membership.tally(raft.votes) is Tally.WON:
        campaign(raft, force=False)
        return
    _ask_votes(raft, MessageKind.PRE_VOTE, raft.term + 1, force=False)


def campaign(raft: Raft, *, force: bool) -> None:
    """Stand for leader in the next term (section 3.4). `force`: asked to by the old leader."""
    raft.campaigns += 1
    raft.term += 1
    raft.vote = raft.node_id
    raft.enter(Role.CANDIDATE, "")
    arm_election_timer(raft)
    raft.votes = {raft.node_id: True}
    if raft.membership.tally(raft.votes) is Tally.WON:
        become_leader(raft)
        return
    _ask_votes(raft, MessageKind.REQUEST_VOTE, raft.term, force=force)


def _ask_votes(raft: Raft, kind: MessageKind, term: int, *, force: bool) -> None:
    log = raft.log
    for voter in raft.membership.other_voters():
        raft.send(
            Message(
                kind=kind,
                sender=raft.node_id,
                receiver=voter,
                term=term,
                index=log.last_index,
                log_term=log.last_term,
                force=force,
            )
        )


def become_leader(raft: Raft) -> None:
    """Lead this term: write its first entry, which commits all before it (section 3.6.2, I5)."""
    if raft.role is not Role.CANDIDATE or raft.vote != raft.node_id:
        raise InvariantBroken("I1", f"{raft.node_id} leads term {raft.term} without a vote")
    raft.enter(Role.LEADER, raft.node_id)
    raft.rearmed = False
    raft.quorum_from = raft.now
    following = raft.log.last_index + 1
    raft.progress = {member: Progress(following) for member in raft.membership.others}
    raft.log.append(raft.term, EntryKind.NOOP, (b"",))
    replication.broadcast_heartbeat(raft)


# votes ----------------------------------------------------------------------------------------
def on_vote_request(raft: Raft, message: Message) -> None:
    """PRE_VOTE or REQUEST_VOTE of our term, or PRE_VOTE of a later one."""
    pre = message.kind is MessageKind.PRE_VOTE
    granted = _may_grant(raft, message, pre=pre)
    if granted and not pre:
        # Whoever votes waits a whole timeout for the winner, and stands back itself.
        raft.vote = message.sender
        if raft.role is not Role.FOLLOWER:
            become_follower(raft, raft.term, "")
        else:
            arm_election_timer(raft)
    raft.send(
        Message(
            kind=MessageKind.PRE_VOTE_RESPONSE if pre else MessageKind.VOTE_RESPONSE,
            sender=raft.node_id,
            receiver=message.sender,
            # A granted pre-vote tells the term it was asked for; all else tells our own.
            term=message.term if pre and granted else raft.term,
            reject=not granted,
            voteless=raft.voteless,
        )
    )


def _may_grant(raft: Raft, message: Message, *, pre: bool) -> bool:
    if raft.voteless or not raft.membership.is_voter:
        return False
    # We can vote if this repeats a vote already cast, or none was cast and no leader is known in
    # this term; a pre-vote for a later term binds nobody.
    free = (
        raft.vote == message.sender
        or (raft.vote == "" and raft.leader == "")
        or (pre and message.term > raft.term)
    )
    # ... and if the candidate's log holds all that ours may have committed.
    return free and raft.log.up_to_date(message.index, message.log_term)


def on_pre_vote_response(raft: Raft, message: Message) -> None:
    """An answer to our pre-campaign."""
    if not message.reject and message.term != raft.term + 1:
        raft.drop("stale_pre_vote")
        return
    raft.votes.setdefault(message.sender, not message.reject)
    outcome = raft.membership.tally(raft.votes)
    if outcome is Tally.WON:
        if may_campaign(raft):
            campaign(raft, force=False)
    elif outcome is Tally.LOST:
        become_follower(raft, raft.term, "")


def on_vote_response(raft: Raft, message: Message) -> None:
    """An answer to our campaign; the first from each voter counts."""
    raft.votes.setdefault(message.sender, not message.reject)
    outcome = raft.membership.tally(raft.votes)
    if outcome is Tally.WON:
        become_leader(raft)
    elif outcome is Tally.LOST:
        become_follower(raft, raft.term, "")


# terms ----------------------------------------------------------------------------------------
def admit_higher_term(raft: Raft, message: Message) -> bool:
    """A message of a later term came; False if it is to be ignored, with its term."""
    kind = message.kind
    if kind in VOTE_REQUESTS and not message.force and leader_is_live(raft):
        raft.drop("leader_is_live")
        return False
    if kind is MessageKind.PRE_VOTE:
        return True  # it asks about a term, it does not begin it
    if kind is MessageKind.PRE_VOTE_RESPONSE and not message.reject:
        return True  # it carries the term we asked about
    become_follower(raft, message.term, message.sender if kind in FROM_LEADER else "")
    return True


def answer_lower_term(raft: Raft, message: Message) -> None:
    """A message of an earlier term: tell who sent it, if it can be stuck there, else ignore it.

    A leader that was overtaken steps down on our term; a candidate with an old term learns it.
    """
    raft.drop("stale_term")
    kind = message.kind
    if kind in FROM_LEADER:
        answer = MessageKind.APPEND_RESPONSE
    elif kind is MessageKind.PRE_VOTE:
        answer = MessageKind.PRE_VOTE_RESPONSE
    elif kind is MessageKind.REQUEST_VOTE:
        answer = MessageKind.VOTE_RESPONSE
    else:
        return
    raft.send(
        Message(
            kind=answer,
            sender=raft.node_id,
            receiver=message.sender,
            term=raft.term,
            reject=True,
            voteless=raft.voteless,
        )
    )


# transfer -------------------------------------------------------------------------------------
def transfer(raft: Raft, to: str) -> None:
    """Stop taking proposals, bring `to` up to date, then tell it to campaign (section 3.10)."""
    if to == raft.node_id or to not in raft.membership.voters:
        raise ProposalDropped(f"{to} is no other voter")
    if raft.progress[to].voteless:
        raise ProposalDropped(f"{to} has lost its data and may not lead")
    raft.transferee = to
    raft.transfer_at = raft.now + raft.config.election_timeout_s
    offer_leadership(raft, to)


def offer_leadership(raft: Raft, to: str) -> None:
    """Tell the transferee to campaign if it holds all of our log. Said again at each of its
    answers: its term rises with the first one that arrives, and the others are stale then."""
    if raft.transferee != to or raft.progress[to].match != raft.log.last_index:
        return
    raft.send(
        Message(kind=MessageKind.TIMEOUT_NOW, sender=raft.node_id, receiver=to, term=raft.term)
    )


def on_timeout_now(raft: Raft, message: Message) -> None:
    """The leader hands over to us: campaign at once, past everyone's stickiness."""
    if message.sender != raft.leader or not may_campaign(raft):
        raft.drop("transfer_refused")
        return
    campaign(raft, force=True)


def on_stalled_disk(raft: Raft) -> None:
    """Our disk does not answer: hand over to the best placed voter, or step down."""
    raft.stalled_until = raft.now + raft.config.election_timeout_s
    if raft.role is not Role.LEADER or raft.transferee or not raft.membership.other_voters():
        return  # alone there is nobody to hand over to, and no quorum but our disk
    able = [
        voter
        for voter in raft.membership.other_voters()
        if not raft.progress[voter].voteless
        and raft.now - raft.progress[voter].heard_at < raft.config.election_timeout_s
    ]
    if able:
        transfer(raft, max(able, key=lambda voter: raft.progress[voter].match))
    else:
        step_down(raft, "disk_stalled")
