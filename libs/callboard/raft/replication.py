"""How the log spreads: appends, acknowledgements, commit, heartbeats, snapshots.

Functions over a `Raft`, called by its dispatch and by `ready()`. Appends are not made when a
proposal comes but when the driver asks for work, so all proposals of a loop tick travel in one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from callboard.raft import election
from callboard.raft.errors import UnsupportedEntry
from callboard.raft.membership import Membership
from callboard.raft.messages import Entry, EntryKind, Message, MessageKind, SnapshotMetadata
from callboard.raft.progress import Progress, ProgressState

if TYPE_CHECKING:
    from callboard.raft.core import Raft


PATIENCE = 10
"""Election timeouts of silence after which no log is kept for a member that was catching up."""


# the leader's side ----------------------------------------------------------------------------
def replicate(raft: Raft) -> None:
    """Send every member what it lacks and may be sent now."""
    log = raft.log
    for member, progress in raft.progress.items():
        if (
            progress.next <= log.last_index
            or progress.sent_commit < log.commit
            or progress.state is ProgressState.PROBE
        ):
            _feed(raft, member, progress)


def _feed(raft: Raft, member: str, progress: Progress) -> None:
    if progress.paused or progress.state is ProgressState.SNAPSHOT:
        return
    if progress.next <= raft.log.offset:
        _send_snapshot(raft, member, progress)
    elif progress.state is ProgressState.PROBE:
        _probe(raft, member, progress)
    else:
        _pipeline(raft, member, progress)


def _probe(raft: Raft, member: str, progress: Progress) -> None:
    """One append, then wait: it shows where the member's log agrees with ours."""
    last, _ = _batch(raft, progress)
    _send_append(raft, member, progress, last)
    progress.paused = True


def _pipeline(raft: Raft, member: str, progress: Progress) -> None:
    log = raft.log
    config = raft.config
    while progress.next <= log.last_index:
        if len(progress.inflight) >= config.max_inflight:
            return
        last, size = _batch(raft, progress)
        if progress.inflight and progress.inflight_bytes + size > config.max_inflight_bytes:
            return
        _send_append(raft, member, progress, last)
        progress.sent(last, size)
    if progress.sent_commit < log.commit:
        # Nothing to append, but news: it can apply now, and not only at the next heartbeat.
        _send_append(raft, member, progress, progress.next - 1)


def _batch(raft: Raft, progress: Progress) -> tuple[int, int]:
    if progress.next > raft.log.last_index:
        return progress.next - 1, 0
    return raft.log.batch(progress.next, raft.config.max_batch_entries, raft.config.max_batch_bytes)


def _send_append(raft: Raft, member: str, progress: Progress, last: int) -> None:
    """Entries `progress.next` to `last` (none if that is the one before)."""
    log = raft.log
    previous = progress.next - 1
    term = log.term(previous)
    assert term is not None, "the caller has checked that the log reaches back this far"
    progress.sends += 1
    raft.send(
        Message(
            kind=MessageKind.APPEND,
            sender=raft.node_id,
            receiver=member,
            term=raft.term,
            index=previous,
            log_term=term,
            commit=log.commit,
            entries=log.slice(previous + 1, last) if last > previous else (),
            context=progress.sends,
        )
    )
    progress.sent_commit = log.commit


def _send_snapshot(raft: Raft, member: str, progress: Progress) -> None:
    """The member needs what was compacted: the driver is to stream our last snapshot."""
    snapshot = raft.snapshot
    assert snapshot is not None, "a log is only compacted below a snapshot"
    progress.await_snapshot(snapshot.index)
    raft.send(
        Message(
            kind=MessageKind.SNAPSHOT,
            sender=raft.node_id,
            receiver=member,
            term=raft.term,
            index=snapshot.index,
            log_term=snapshot.term,
            commit=raft.log.commit,
            snapshot=snapshot,
        )
    )


def broadcast_heartbeat(raft: Raft) -> None:
    """Show that we lead, in a round of its own (reads.py). The commit index is cut to what each
    member acknowledged: beyond that its log may not be ours."""
    commit = raft.log.commit
    round_id = raft.reads.begin(commit if raft.log.term(commit) == raft.term else None)
    for member, progress in raft.progress.items():
        told = min(progress.match, commit)
        raft.send(
            Message(
                kind=MessageKind.HEARTBEAT,
                sender=raft.node_id,
                receiver=member,
                term=raft.term,
                log_term=raft.log.term(told) or 0,
                commit=told,
                context=round_id,
            )
        )
    raft.heartbeat_at = raft.now + raft.config.heartbeat_interval_s
    _confirm_reads(raft)


def on_append_response(raft: Raft, message: Message) -> None:
    """A member acknowledged our log up to `index`, or rejected what came after `index`."""
    progress = _progress_of(raft, message)
    if progress is None:
        return
    log = raft.log
    if message.reject:
        _on_reject(raft, progress, message)
        return
    if message.index > log.last_index:
        raft.drop("acknowledged_beyond_log")
        return
    news = progress.acknowledge(message.index)
    if progress.state is ProgressState.PROBE or (
        progress.state is ProgressState.SNAPSHOT and progress.match >= log.offset
    ):
        # It agrees with us at `match`, and we hold all that follows: from here on, pipelined.
        progress.replicate()
    if news:
        maybe_commit(raft)
    if progress.catching_up and progress.match >= log.commit:
        progress.catching_up = False
    election.offer_leadership(raft, message.sender)


def _on_reject(raft: Raft, progress: Progress, message: Message) -> None:
    hint = message.reject_hint
    if progress.voteless and hint < progress.match:
        progress.forget(hint + 1)
        return
    if message.log_term > 0:
        # It holds (hint, log_term) and nothing later that could match: find where *our* log can
        # agree with that, and skip a whole term of ours in one step if need be.
        hint, _ = raft.log.conflict_hint(hint, message.log_term)
    if not progress.reject(message.index, hint, message.context):
        raft.drop("stale_reject")


def on_heartbeat_response(raft: Raft, message: Message) -> None:
    """A member is alive and in our term; its round may win reads."""
    progress = _progress_of(raft, message)
    if progress is None:
        return
    if message.context > raft.reads.round:
        raft.drop("unknown_round")
        return
    progress.acked_round = max(progress.acked_round, message.context)
    progress.paused = False
    if progress.state is ProgressState.REPLICATE and progress.match < raft.log.last_index:
        # Something is unacknowledged; if it was lost, an empty append at the end of what was
        # sent draws a rejection, and the member is probed.
        if progress.next > raft.log.offset:
            _send_append(raft, message.sender, progress, progress.next - 1)
        else:
            _send_snapshot(raft, message.sender, progress)
    _confirm_reads(raft)
    election.offer_leadership(raft, message.sender)


def _progress_of(raft: Raft, message: Message) -> Progress | None:
    progress = raft.progress.get(message.sender)
    if progress is None:
        raft.drop("unknown_member")
        return None
    progress.heard_at = raft.now
    if message.voteless and not progress.voteless:
        # What it acknowledged before is gone with its directory.
        progress.forget(progress.next)
    progress.voteless = message.voteless
    return progress


def _confirm_reads(raft: Raft) -> None:
    reads = raft.reads
    if not reads.pending:
        return

    def acked_round(voter: str) -> int:
        if voter == raft.node_id:
            return reads.round
        progress = raft.progress[voter]
        return 0 if progress.voteless else progress.acked_round

    raft.read_states.extend(reads.won(raft.membership.reached(acked_round)))


def maybe_commit(raft: Raft) -> None:
    """Commit what a majority holds durably, ourselves included only as far as our own disk told
    (I3), and only if it ends in an entry of our term (I5, figure 3.7)."""

    def match(voter: str) -> int:
        if voter == raft.node_id:
            return raft.log.stable
        progress = raft.progress[voter]
        return 0 if progress.voteless else progress.match

    index = raft.membership.reached(match)
    if index > raft.log.commit and raft.log.term(index) == raft.term:
        raft.log.commit_to(index)
        raft.settle_proposals()


def report_unreachable(raft: Raft, member: str) -> None:
    """What was pipelined to `member` may be lost."""
    progress = raft.progress.get(member)
    if progress is not None and progress.state is ProgressState.REPLICATE:
        progress.probe(progress.match + 1)


def report_snapshot(raft: Raft, member: str, *, ok: bool) -> None:
    """The stream to `member` ended. Probing waits for its next sign of life: it may still be
    installing, or be gone."""
    progress = raft.progress.get(member)
    if progress is None or progress.state is not ProgressState.SNAPSHOT:
        return
    progress.probe(progress.pending_snapshot + 1 if ok else progress.match + 1)
    progress.paused = True
    progress.catching_up = ok


def retained_from(raft: Raft, keep_from: int) -> int:
    """The first index to keep in memory: lower than asked while a member catches up from a
    snapshot and needs what follows it, within max_retained_bytes."""
    log = raft.log
    first = keep_from
    alive_since = raft.now - PATIENCE * raft.config.election_timeout_s
    for progress in raft.progress.values():
        if progress.catching_up and progress.heard_at >= alive_since:
            first = min(first, max(progress.pending_snapshot, progress.match) + 1)
    first = max(first, log.offset + 1)
    if first < keep_from and log.size > raft.config.max_retained_bytes:
        return keep_from
    return first


# the followers' side --------------------------------------------------------------------------
def well_formed(message: Message) -> bool:
    """An APPEND's entries follow `index` without a gap, and no term falls or is the future's."""
    index = message.index
    term = message.log_term
    for entry in message.entries:
        index += 1
        if entry.index != index or entry.term < term:
            return False
        term = entry.term
    return term <= message.term


def on_append(raft: Raft, message: Message) -> None:
    """Entries of the leader (section 3.5). Answered once what it acknowledges is durable."""
    if not well_formed(message):
        raft.drop("malformed")
        return
    election.heard_leader(raft, message)
    log = raft.log
    if raft.installing is not None:
        raft.drop("installing_snapshot")
        return
    if message.index < log.commit:
        # All of ours up to commit is the leader's too; its progress can jump there.
        _acknowledge(raft, message.sender, log.commit)
        return
    _refuse_unsupported(message.entries)
    matched = log.merge(message.index, message.log_term, message.entries)
    if matched is None:
        _reject_append(raft, message)
        return
    # Never beyond what this message matched: what we hold after it may be another leader's (I6).
    log.commit_to(min(message.commit, matched))
    _acknowledge(raft, message.sender, matched)


def _refuse_unsupported(entries: tuple[Entry, ...]) -> None:
    for entry in entries:
        if entry.kind is EntryKind.CONFIGURATION:
            raise UnsupportedEntry(entry.index, entry.kind)


def _acknowledge(raft: Raft, leader: str, index: int) -> None:
    raft.send_durable(
        Message(
            kind=MessageKind.APPEND_RESPONSE,
            sender=raft.node_id,
            receiver=leader,
            term=raft.term,
            index=index,
            voteless=raft.voteless,
        )
    )


def _reject_append(raft: Raft, message: Message) -> None:
    hint, term = raft.log.conflict_hint(message.index, message.log_term)
    raft.send(
        Message(
            kind=MessageKind.APPEND_RESPONSE,
            sender=raft.node_id,
            receiver=message.sender,
            term=raft.term,
            index=message.index,
            log_term=term,
            reject=True,
            reject_hint=hint,
            context=message.context,
            voteless=raft.voteless,
        )
    )


def on_heartbeat(raft: Raft, message: Message) -> None:
    """The leader lives; `commit` is not beyond what we acknowledged to it."""
    election.heard_leader(raft, message)
    log = raft.log
    if _acknowledged(raft, message):
        log.commit_to(message.commit)
    elif not raft.voteless:
        # It remembers that we acknowledged what we do not have: our directory was rolled back. We
        # must not vote any more, for we have forgotten whom we elected and what we promised.
        raft.voteless = True
        raft.drop("rolled_back")
    raft.send(
        Message(
            kind=MessageKind.HEARTBEAT_RESPONSE,
            sender=raft.node_id,
            receiver=message.sender,
            term=raft.term,
            context=message.context,
            voteless=raft.voteless,
        )
    )


def _acknowledged(raft: Raft, message: Message) -> bool:
    """Whether our log holds what a HEARTBEAT commits, as far as its term (0: unknown) tells: what
    stands there instead may be another leader's (I6)."""
    log = raft.log
    if message.commit <= log.commit:
        return True
    if message.commit > log.last_index:
        return False
    return message.log_term in (0, log.term(message.commit))


def on_snapshot(raft: Raft, message: Message) -> None:
    """A whole snapshot is here, streamed by the driver: take it, unless we hold as much."""
    metadata = message.snapshot
    if metadata is None:
        raft.drop("malformed")
        return
    election.heard_leader(raft, message)
    log = raft.log
    if raft.installing is not None:
        raft.drop("installing_snapshot")
    elif metadata.index <= log.commit:
        _acknowledge(raft, message.sender, log.commit)
    elif log.term(metadata.index) == metadata.term:
        # Our log holds the snapshot's last entry, hence all before it: commit, keep the tail.
        log.commit_to(metadata.index)
        _acknowledge(raft, message.sender, metadata.index)
    else:
        install(raft, metadata)


def install(raft: Raft, metadata: SnapshotMetadata) -> None:
    """Our log is not the leader's: replace it and the state, in one durable step (I10)."""
    raft.log.restore(metadata)
    raft.writes.forget_entries()
    raft.snapshot = metadata
    raft.membership = Membership(raft.node_id, metadata.configuration)
    raft.installing = metadata
    raft.install_handed = False


def installed(raft: Raft) -> None:
    """The driver has replaced state and log: tell the leader."""
    raft.installing = None
    if raft.leader:
        _acknowledge(raft, raft.leader, raft.log.commit)
