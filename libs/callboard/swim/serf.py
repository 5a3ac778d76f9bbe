"""Serf on top of Swim: tags, graceful leave, failed members kept and called again.

Intents (join, leave) carry Lamport times, so that an old one never undoes a new one; that is how
a member that left is told from one that failed. This is the object that a driver runs: it has the
same five calls as Swim. Source: hashicorp/serf, serf.go and delegate.go.
"""

from __future__ import annotations

import math
import random
from collections.abc import Container, Mapping
from dataclasses import replace

from callboard.swim.broadcasts import Broadcast
from callboard.swim.codec import Codec
from callboard.swim.config import Config, SerfConfig
from callboard.swim.core import Swim
from callboard.swim.events import (
    Gone,
    Joined,
    StreamWanted,
    SwimEvent,
    Undecodable,
    Updated,
    UserMessage,
)
from callboard.swim.intents import RecentIntents
from callboard.swim.key_queries import KeyAction, KeyQuery, KeyResponse
from callboard.swim.lamport import LamportClock
from callboard.swim.members import Member
from callboard.swim.messages import Address, Message, Ping, PushPull, Status, User, Versions
from callboard.swim.packing import DecodeError
from callboard.swim.queries import Queries
from callboard.swim.serf_members import (
    MemberEvent,
    MemberEventKind,
    MemberRecord,
    MemberStatus,
    SerfMember,
)
from callboard.swim.serf_messages import (
    JoinIntent,
    LeaveIntent,
    Query,
    QueryResponse,
    Relayed,
    UserEvent,
    UserState,
    decode_serf,
    decode_tags,
    encode_serf,
    encode_tags,
)

IDENTITY_TAG = "id"
"""The tag that names the node behind a member's name; it outlives a change of address."""

SerfEvent = MemberEvent | UserEvent | KeyQuery | QueryResponse | SwimEvent

QUERY_TIMEOUT_MULT = 16
"""Serf's: an answer is waited for as long as so many rounds of gossip take, at least."""

_GONE = (MemberStatus.FAILED, MemberStatus.LEFT)


def same_identity(one: bytes, other: bytes) -> bool:
    """Whether two metas carry the same identity tag."""
    mine = decode_tags(one).get(IDENTITY_TAG)
    return bool(mine) and mine == decode_tags(other).get(IDENTITY_TAG)


class Serf:
    """One agent's membership. Inputs take `now`; outputs are taken after each input."""

    def __init__(
        self,
        config: Config,
        serf_config: SerfConfig,
        tags: Mapping[str, str],
        codec: Codec,
        *,
        now: float,
        rng: random.Random,
    ) -> None:
        """Raises ValueError when the tags do not fit a meta."""
        meta = encode_tags(tags)
        self.swim = Swim(
            replace(config, meta=meta, same_identity=same_identity), codec, now=now, rng=rng
        )
        self._config = serf_config
        self._rng = rng
        self.clock = LamportClock(1)
        self.queries = Queries(config.name, self.swim, self.member, self._relays)
        self._records: dict[str, MemberRecord] = {}
        self._intents = RecentIntents()
        self._events: list[SerfEvent] = []
        self._leaving = False
        self._reap_at = now + serf_config.reap_interval_s
        self._reconnect_at = now + serf_config.reconnect_interval_s
        self._prune_at: dict[str, float] = {}
        self._node_joined(self.swim.me, now)

    # --- what is known ----------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Our own name."""
        return self.swim.me.name

    def members(self) -> list[SerfMember]:
        """Everyone, by name; those that failed or left too, until they are reaped."""
        return [self._records[name].member for name in sorted(self._records)]

    def member(self, name: str) -> SerfMember | None:
        """One member by name."""
        record = self._records.get(name)
        return None if record is None else record.member

    def has_live_peers(self) -> bool:
        """Whether anyone else is alive."""
        return any(
            record.member.status == MemberStatus.ALIVE and name != self.name
            for name, record in self._records.items()
        )

    # --- inputs: the network ----------------------------------------------------------------------

    def receive_datagram(self, data: bytes, source: Address, now: float) -> None:
        """Take a datagram."""
        self.swim.receive_datagram(data, source, now)
        self._take_swim_events(now)

    def answer_stream(self, message: Message, now: float) -> Message | None:
        """Take the message of a stream that another opened; return the answer, if any."""
        if isinstance(message, PushPull):
            answer = self.push_pull(join=False)
            self.merge(message, now, joining=False)
            return answer
        if isinstance(message, Ping):
            return self.swim.answer_stream_ping(message)
        if isinstance(message, User):
            self._user_message(message.data, now)
            return None
        self._events.append(Undecodable(f"{type(message).__name__} on a stream", None))
        return None

    def push_pull(self, *, join: bool) -> PushPull:
        """Our state, to open or answer a push/pull exchange."""
        left = [
            name
            for name, record in self._records.items()
            if record.member.status == MemberStatus.LEFT
        ]
        state = UserState(
            self.clock.time,
            {name: record.status_time for name, record in self._records.items()},
            tuple(left),
            self.queries.event_clock.time,
            (),
            self.queries.query_clock.time,
        )
        return self.swim.push_pull(encode_serf(state), join=join)

    def merge(self, remote: PushPull, now: float, *, joining: bool) -> None:
        """Take in the other side's state; `joining`: it is the cluster that we join."""
        self.swim.merge(remote, now, joining=joining)
        self._take_swim_events(now)
        if not remote.user_state:
            return
        try:
            state = decode_serf(remote.user_state)
        except DecodeError as problem:
            self._events.append(Undecodable(str(problem), None))
            return
        if isinstance(state, UserState):
            self._merge_user_state(state, now, joining=joining)

    def stream_ping_answered(self, sequence: int, now: float) -> None:
        """A StreamPing that was wanted got its answer."""
        self.swim.stream_ping_answered(sequence, now)
        self._take_swim_events(now)

    def _merge_user_state(self, state: UserState, now: float, *, joining: bool) -> None:
        self.witness_times(state.time, state.event_time, state.query_time)
        for name in state.left:
            self._leave_intent(LeaveIntent(state.status_times.get(name, 0), name), now)
        left = set(state.left)
        for name, time in state.status_times.items():
            if name not in left:
                self._join_intent(JoinIntent(time, name), now)
        if joining:
            return  # events from before we came are not for us
        for event in state.events:
            self._user_event(event, encode_serf(event))

    def witness_times(self, time: int, event_time: int, query_time: int) -> None:
        """Be no earlier than these Lamport times of another's clocks, or of ours last time."""
        # A clock shows the time of its next message, so what was seen is one less.
        self.clock.witness(time - 1)
        self.queries.event_clock.witness(event_time - 1)
        self.queries.query_clock.witness(query_time - 1)

    # --- inputs: the program ----------------------------------------------------------------------

    def announce_join(self, now: float) -> None:
        """Say that we mean to be in: after a join succeeded."""
        intent = JoinIntent(self.clock.time, self.name)
        self.clock.witness(intent.time)
        self._join_intent(intent, now)
        self._spread(intent)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Announce other tags. Raises ValueError when they are too long."""
        self.swim.set_meta(encode_tags(tags))
        self._node_updated(self.swim.me)

    def announce_leave(self, now: float) -> Broadcast:
        """First half of a departure: say that we mean to leave."""
        self._leaving = True
        intent = LeaveIntent(self.clock.time, self.name)
        self.clock.increment()
        self._leave_intent(intent, now)
        return self._spread(intent)

    def leave(self, now: float) -> Broadcast:
        """Second half: leave."""
        self._set_status(self._records[self.name], MemberStatus.LEFT, now)
        return self.swim.leave(now)

    def query_timeout_s(self) -> float:
        """How long serf waits for the answers to a query."""
        rounds = QUERY_TIMEOUT_MULT * math.ceil(math.log10(len(self.swim.members) + 1))
        return self.swim.config.gossip_interval_s * rounds

    def live_count(self) -> int:
        """How many members are there, ourselves included; suspected ones count."""
        return sum(member.is_up for member in self.swim.members)

    def ask_keys(self, action: KeyAction, key: bytes, relay_factor: int = 0) -> Query:
        """Ask all others about a key; answers come as QueryResponse events.

        Raises ValueError for a key that is too long to be one.
        """
        return self.queries.ask_keys(
            action,
            key,
            self.swim.me.endpoint,
            self._rng.getrandbits(32),
            relay_factor=relay_factor,
            timeout_ns=int(self.query_timeout_s() * 1e9),
        )

    def repeat(self, query: Query, heard: Container[str]) -> None:
        """Send a query of ours again, straight to the members that have not been heard."""
        data = encode_serf(query)
        for member in self.swim.members:
            if member.is_up and member.name != self.name and member.name not in heard:
                self.swim.send_user(data, member.endpoint)

    def answer_keys(self, asked: KeyQuery, response: KeyResponse) -> None:
        """Answer a KeyQuery event."""
        self.queries.answer_keys(asked.query, response)

    def _relays(self, count: int) -> list[Address]:
        """Others who can pass an answer on; nobody where there are no more than the two of us."""
        me = self.swim.me
        found = self.swim.members.sample(count, lambda one: one.is_up and one is not me)
        return [member.endpoint for member in found] if len(found) == count else []

    def force_leave(self, name: str, now: float, *, prune: bool = False) -> None:
        """Turn a failed member into one that left; with `prune`, forget it everywhere.

        Raises KeyError when nobody of that name is known.
        """
        if name not in self._records:
            raise KeyError(name)
        intent = LeaveIntent(self.clock.time, name, prune)
        self.clock.increment()
        self._leave_intent(intent, now)
        self._spread(intent)

    def _spread(self, intent: JoinIntent | LeaveIntent) -> Broadcast:
        return self.swim.broadcast_user("", encode_serf(intent))

    # --- time -------------------------------------------------------------------------------------

    def deadline(self) -> float:
        """When handle_timer is due next (monotonic seconds)."""
        prune_at = min(self._prune_at.values(), default=float("inf"))
        return min(self.swim.deadline(), self._reap_at, self._reconnect_at, prune_at)

    def handle_timer(self, now: float) -> None:
        """Do everything that is due; early calls do nothing."""
        self.swim.handle_timer(now)
        self._take_swim_events(now)
        for name in [name for name, at in self._prune_at.items() if at <= now]:
            self._erase(name)
        if self._reap_at <= now:
            self._reap(now)
        if self._reconnect_at <= now:
            self._reconnect(now)

    def resume(self, now: float, gap_s: float) -> None:
        """Woken from a pause of `gap_s`: nothing that fell due meanwhile may fire."""
        self.swim.resume(now, gap_s)

    def _reap(self, now: float) -> None:
        config = self._config
        self._reap_at = now + config.reap_interval_s
        self._intents.expire(now - config.recent_intent_timeout_s)
        limits = {
            MemberStatus.FAILED: config.reconnect_timeout_s,
            MemberStatus.LEFT: config.tombstone_timeout_s,
        }
        for name, record in list(self._records.items()):
            limit_s = limits.get(record.member.status)
            if limit_s is not None and name != self.name and record.gone_at + limit_s <= now:
                self._erase(name)

    def _erase(self, name: str) -> None:
        self._prune_at.pop(name, None)
        record = self._records.pop(name, None)
        if record is not None:
            reaped = replace(record.member, status=MemberStatus.REAP)
            self._events.append(MemberEvent(MemberEventKind.REAP, reaped))

    def _reconnect(self, now: float) -> None:
        """Call one failed member again, the seldomer the fewer they are (serf's reconnect)."""
        self._reconnect_at = now + self._config.reconnect_interval_s
        if self._leaving:
            return
        failed = [r for r in self._records.values() if r.member.status == MemberStatus.FAILED]
        gone = sum(record.member.status in _GONE for record in self._records.values())
        if not failed or self._rng.random() > len(failed) / max(1, len(self._records) - gone):
            return
        member = self._rng.choice(failed).member
        self.swim.want_push_pull(member.endpoint, member.name)

    # --- intents ----------------------------------------------------------------------------------

    def _join_intent(self, intent: JoinIntent, now: float) -> bool:
        """Take an intent to be in; True if it is news (and so is spread)."""
        self.clock.witness(intent.time)
        record = self._records.get(intent.node)
        if record is None:
            return self._intents.upsert(intent.node, intent.time, now, leaves=False)
        if intent.time <= record.status_time:
            return False
        record.status_time = intent.time
        if record.member.status == MemberStatus.LEAVING and not (
            self._leaving and intent.node == self.name
        ):
            record.member = replace(record.member, status=MemberStatus.ALIVE)
            self._prune_at.pop(intent.node, None)
        return True

    def _leave_intent(self, intent: LeaveIntent, now: float) -> bool:
        """Take an intent to leave; True if it is news (and so is spread)."""
        self.clock.witness(intent.time)
        record = self._records.get(intent.node)
        if record is None:
            return self._intents.upsert(intent.node, intent.time, now, leaves=True)
        if intent.time <= record.status_time:
            return False
        if intent.node == self.name and not self._leaving:
            self.announce_join(now)  # an old intent of ours, or someone forces us: we are here
            return False
        record.status_time = intent.time
        if record.member.status == MemberStatus.ALIVE:
            record.member = replace(record.member, status=MemberStatus.LEAVING)
        elif record.member.status == MemberStatus.FAILED:
            self._set_status(record, MemberStatus.LEFT, now)
            self._events.append(MemberEvent(MemberEventKind.LEAVE, record.member))
        if intent.prune and intent.node != self.name:
            self._prune(record, now)
        return True

    def _prune(self, record: MemberRecord, now: float) -> None:
        if record.member.status != MemberStatus.LEAVING:
            self._erase(record.member.name)
            return
        # A live one still has to go: forget it when its departure has spread.
        wait_s = self._config.broadcast_timeout_s + self._config.leave_propagate_s
        self._prune_at[record.member.name] = now + wait_s

    # --- what Swim says ---------------------------------------------------------------------------

    def _take_swim_events(self, now: float) -> None:
        for event in self.swim.events():
            match event:
                case Joined(member):
                    self._node_joined(member, now)
                case Updated(member):
                    self._node_updated(member)
                case Gone(member):
                    self._node_gone(member, now)
                case UserMessage(data):
                    self._user_message(data, now)
                case _:
                    self._events.append(event)

    def _node_joined(self, member: Member, now: float) -> None:
        record = self._records.get(member.name)
        status, status_time = MemberStatus.ALIVE, 0 if record is None else record.status_time
        intent = self._intents.take(member.name) if record is None else None
        if intent is not None:
            leaves, status_time = intent
            status = MemberStatus.LEAVING if leaves else MemberStatus.ALIVE
        self._prune_at.pop(member.name, None)
        seen = _as_serf_member(member, status)
        self._records[member.name] = MemberRecord(seen, status_time)
        self._events.append(MemberEvent(MemberEventKind.JOIN, seen))

    def _node_updated(self, member: Member) -> None:
        record = self._records.get(member.name)
        if record is not None:
            record.member = _as_serf_member(member, record.member.status)
            self._events.append(MemberEvent(MemberEventKind.UPDATE, record.member))

    def _node_gone(self, member: Member, now: float) -> None:
        record = self._records.get(member.name)
        if record is None or record.member.status in _GONE:
            return
        # The intent may have been lost: one who declares itself dead has left all the same.
        left = record.member.status == MemberStatus.LEAVING or member.status == Status.LEFT
        self._set_status(record, MemberStatus.LEFT if left else MemberStatus.FAILED, now)
        kind = MemberEventKind.LEAVE if left else MemberEventKind.FAILED
        self._events.append(MemberEvent(kind, record.member))

    def _set_status(self, record: MemberRecord, status: MemberStatus, now: float) -> None:
        record.member = replace(record.member, status=status)
        record.gone_at = now

    def _user_message(self, data: bytes, now: float) -> None:
        try:
            message = decode_serf(data)
        except DecodeError as problem:
            self._events.append(Undecodable(str(problem), None))
            return
        match message:
            case JoinIntent():
                if self._join_intent(message, now):
                    self._spread(message)
            case LeaveIntent():
                if self._leave_intent(message, now):
                    self._spread(message)
            case UserEvent():
                self._user_event(message, data)
            case Query():
                asked = self.queries.query(message, data)
                if asked is not None:
                    self._events.append(asked)
            case QueryResponse():
                self._events.append(message)
            case Relayed() if self.swim.members.at(message.destination) is not None:
                # To members only: nobody may use us to reach others.
                self.swim.send_user(message.data, message.destination)
            case _:
                pass  # to be relayed to a stranger

    def _user_event(self, event: UserEvent, data: bytes) -> None:
        if self.queries.event(event, data):
            self._events.append(event)

    # --- outputs ----------------------------------------------------------------------------------

    def datagrams_to_send(self) -> list[tuple[bytes, Address]]:
        """Every datagram to be sent, once."""
        return self.swim.datagrams_to_send()

    def streams_wanted(self) -> list[StreamWanted]:
        """Every stream to be opened, once."""
        return self.swim.streams_wanted()

    def events(self) -> list[SerfEvent]:
        """Everything that happened, once."""
        taken, self._events = self._events, []
        return taken


def _as_serf_member(member: Member, status: MemberStatus) -> SerfMember:
    return SerfMember(
        member.name,
        member.address,
        member.port,
        decode_tags(member.meta),
        status,
        member.versions or Versions(),
    )
