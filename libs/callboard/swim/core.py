"""Swim: one member's whole protocol, as a function of bytes, time and randomness.

Driven by three things: datagrams and streams that arrive, a timer, and what the program asks.
The driver calls an input, then takes `datagrams_to_send()`, `streams_wanted()` and `events()`, and
arms one timer at `deadline()`. No socket, clock or task lives here. References: SWIM (Das, Gupta,
Motivala 2002), Lifeguard (arXiv 1707.00788), memberlist.
"""

from __future__ import annotations

import math
import random

from callboard.swim.awareness import Awareness
from callboard.swim.broadcasts import Broadcast
from callboard.swim.codec import Codec
from callboard.swim.config import Config
from callboard.swim.events import (
    NameConflict,
    PushPullWith,
    StreamWanted,
    SwimEvent,
    Undecodable,
    UserMessage,
)
from callboard.swim.members import Member, Members
from callboard.swim.messages import (
    Ack,
    Address,
    Alive,
    Dead,
    IndirectPing,
    Message,
    Nack,
    Ping,
    PushPull,
    Status,
    Suspect,
    User,
)
from callboard.swim.outbox import Outbox
from callboard.swim.packing import DecodeError
from callboard.swim.probe import Prober
from callboard.swim.state import MembershipState

PUSH_PULL_SCALE_MEMBERS = 32
"""Above this many members the push/pull interval grows (memberlist's pushPullScaleThreshold)."""

CONTESTED_RETRY_S = 2.0
"""How soon the state is exchanged again while our name is taken: its holder may be dying."""


def push_pull_scale(interval_s: float, members: int) -> float:
    """The push/pull interval: grows by one for each doubling above 32 members."""
    if members <= PUSH_PULL_SCALE_MEMBERS:
        return interval_s
    return interval_s * (math.ceil(math.log2(members) - math.log2(PUSH_PULL_SCALE_MEMBERS)) + 1)


class Swim:
    """One member of a cluster."""

    def __init__(self, config: Config, codec: Codec, *, now: float, rng: random.Random) -> None:
        self.config = config
        self.members = Members(rng)
        self.awareness = Awareness(config.awareness_max)
        self._outbox = Outbox(config, self.members, codec)
        self._codec = codec
        self._events: list[SwimEvent] = []
        self._state = MembershipState(
            config,
            members=self.members,
            awareness=self.awareness,
            broadcast=self._outbox.broadcast,
            emit=self._emit,
            now=now,
        )
        self._prober = Prober(
            config,
            members=self.members,
            state=self._state,
            awareness=self.awareness,
            outbox=self._outbox,
            emit=self._emit,
            now=now,
            first_sequence=rng.getrandbits(31),
        )
        self._gossiped_at = now
        self._push_pull_at = now + config.push_pull_interval_s * (0.5 + rng.random())

    @property
    def me(self) -> Member:
        """Ourselves."""
        return self._state.me

    # --- inputs: the network ----------------------------------------------------------------------

    def receive_datagram(self, data: bytes, source: Address, now: float) -> None:
        """Take a datagram; what is not a message of ours becomes an Undecodable event."""
        try:
            messages = self._codec.open_datagram(data)
        except DecodeError as problem:
            self._emit(Undecodable(str(problem), source))
            return
        for message in messages:
            self._receive(message, source, now)

    def _receive(self, message: Message, source: Address, now: float) -> None:
        match message:
            case Ping():
                self._answer_ping(message, source)
            case IndirectPing():
                self._prober.ping_for(message, source, now)
            case Ack():
                self._prober.ack(message, now)
            case Nack():
                self._prober.nack(message)
            case Alive():
                self._state.alive(message, now)
            case Suspect():
                self._state.suspect(message, now)
            case Dead():
                self._state.dead(message, now)
            case User():
                self._emit(UserMessage(message.data))
            case _:
                self._emit(Undecodable(f"{type(message).__name__} in a datagram", source))

    def _answer_ping(self, message: Ping, source: Address) -> None:
        # Whoever had our address before us is not here: silence lets its death be found.
        if message.node and message.node != self.me.name:
            return
        asker = self.members.get(message.source_node)
        self._outbox.send([Ack(message.sequence)], message.source or source, asker)

    def answer_stream_ping(self, message: Ping) -> Ack | None:
        """The answer to a ping over TCP; None when another was meant."""
        if message.node and message.node != self.me.name:
            return None
        return Ack(message.sequence)

    def stream_ping_answered(self, sequence: int, now: float) -> None:
        """A StreamPing that was wanted got its answer."""
        self._prober.stream_ping_answered(sequence, now)

    def push_pull(self, user_state: bytes, *, join: bool) -> PushPull:
        """Our whole state, for a push/pull exchange."""
        nodes = tuple(member.as_node_state() for member in self.members)
        return PushPull(nodes, user_state, join)

    def merge(self, remote: PushPull, now: float, *, joining: bool = False) -> None:
        """Take in the other side's state; `joining`: it is the cluster we join."""
        self._state.merge(remote.nodes, now, joining=joining or self._state.contested)
        if self._state.contested:
            self._push_pull_at = min(self._push_pull_at, now + CONTESTED_RETRY_S)

    # --- inputs: the program ----------------------------------------------------------------------

    def set_meta(self, meta: bytes) -> None:
        """Announce a new meta of ours. Raises ValueError when it is too long."""
        self._state.set_meta(meta)

    def leave(self, now: float) -> Broadcast:
        """Say that we leave; wait until the broadcast is finished, or for a bound."""
        return self._state.leave(now)

    def broadcast_user(self, name: str, data: bytes) -> Broadcast:
        """Spread a message of the layer above. Raises ValueError when it is too long."""
        return self._outbox.broadcast_user(name, data)

    def want_push_pull(self, address: Address, name: str) -> None:
        """Ask for a push/pull exchange with someone, dead or alive."""
        self._outbox.want(PushPullWith(address, name))

    def send_user(self, data: bytes, address: Address) -> None:
        """Send one message of the layer above to one address."""
        self._outbox.send([User(data)], address, self.members.at(address))

    # --- time -------------------------------------------------------------------------------------

    def deadline(self) -> float:
        """When handle_timer is due next (monotonic seconds)."""
        at = min(self._prober.deadline(), self._state.deadline(), self._push_pull_at)
        if self._outbox.has_broadcasts and len(self.members) > 1:
            at = min(at, self._gossiped_at + self.config.gossip_interval_s)
        return at

    def handle_timer(self, now: float) -> None:
        """Do everything that is due; early calls do nothing."""
        self._prober.handle_timer(now)
        self._state.expire_suspicions(now)
        if self._gossiped_at + self.config.gossip_interval_s <= now:
            self._gossip(now)
        if self._push_pull_at <= now:
            self._begin_push_pull(now)

    def resume(self, now: float, gap_s: float) -> None:
        """Woken from a pause of `gap_s`: nothing that fell due meanwhile may fire."""
        self._prober.resume(now)
        self._state.shift(gap_s)
        self._push_pull_at = max(self._push_pull_at, now + self.config.probe_interval_s)

    def _gossip(self, now: float) -> None:
        self._gossiped_at = now
        if not self._outbox.has_broadcasts:
            return
        for member in self.members.sample(
            self.config.gossip_nodes, lambda m: self._hears_gossip(m, now)
        ):
            if not self._outbox.gossip(member):
                return

    def _hears_gossip(self, member: Member, now: float) -> bool:
        if member is self.me or member.status == Status.LEFT:
            return False
        fresh = now - member.changed_at <= self.config.gossip_to_the_dead_s
        return member.is_up or fresh

    def _begin_push_pull(self, now: float) -> None:
        interval_s = push_pull_scale(self.config.push_pull_interval_s, len(self.members))
        self._push_pull_at = now + interval_s
        if self._state.leaving:
            return
        chosen = self.members.sample(1, lambda m: m is not self.me and m.status == Status.ALIVE)
        for member in chosen:
            self._outbox.want(PushPullWith(member.endpoint, member.name))

    # --- outputs ----------------------------------------------------------------------------------

    def datagrams_to_send(self) -> list[tuple[bytes, Address]]:
        """Every datagram to be sent, once."""
        return self._outbox.take_datagrams()

    def streams_wanted(self) -> list[StreamWanted]:
        """Every stream to be opened, once."""
        return self._outbox.take_streams()

    def events(self) -> list[SwimEvent]:
        """Everything that happened, once."""
        taken, self._events = self._events, []
        return taken

    def _emit(self, event: SwimEvent) -> None:
        if isinstance(event, NameConflict) and not event.about_us:
            self._prober.expedite(event.name)
        self._events.append(event)
