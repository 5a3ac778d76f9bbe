"""The failure detector: one member is probed each interval, by four ways before it is suspected.

A ping; when it is late, pings by a few others (indirect probes) and one over TCP; those others say
so when they too hear nothing (nack), which tells us whether it is us who cannot hear (SWIM section
3.1, Lifeguard section IV-A, memberlist's probeNode).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from callboard.swim.awareness import Awareness
from callboard.swim.config import Config
from callboard.swim.events import DatagramsLost, StreamPing, SwimEvent
from callboard.swim.members import Member, Members
from callboard.swim.messages import Ack, Address, IndirectPing, Message, Nack, Ping, Status, Suspect
from callboard.swim.outbox import Outbox
from callboard.swim.state import MembershipState

RELAYS_MAX = 1024
"""How many indirect pings are under way for others at once; more are not answered."""

EXPEDITED_MAX = 64

NACK_SINCE_PROTOCOL = 4
STREAM_PING_SINCE_PROTOCOL = 3


@dataclass(slots=True)
class Probe:
    """The probe under way."""

    target: Member
    sequence: int
    started: float
    late_at: float
    """When others are asked; infinity once they are."""
    ends_at: float
    nacks_expected: int = 0
    nacks: int = 0


@dataclass(frozen=True, slots=True)
class Relay:
    """An indirect ping that we do for another."""

    sequence: int
    """The asker's."""
    asker: Address
    nack: bool
    ends_at: float


class Prober:
    """Probes members round robin, and pings for others."""

    def __init__(
        self,
        config: Config,
        *,
        members: Members,
        state: MembershipState,
        awareness: Awareness,
        outbox: Outbox,
        emit: Callable[[SwimEvent], None],
        now: float,
        first_sequence: int,
    ) -> None:
        self._config = config
        self._members = members
        self._state = state
        self._awareness = awareness
        self._outbox = outbox
        self._emit = emit
        self._sequence = first_sequence
        self._probe: Probe | None = None
        self._next_at = now + config.probe_interval_s
        self._relays: OrderedDict[int, Relay] = OrderedDict()
        self._expedited: OrderedDict[str, None] = OrderedDict()

    # --- inputs -----------------------------------------------------------------------------------

    def expedite(self, name: str) -> None:
        """Probe this member next: there is a reason to doubt it."""
        if len(self._expedited) < EXPEDITED_MAX:
            self._expedited[name] = None

    def ack(self, message: Ack, now: float) -> None:
        """An answer came: to our probe, or to a ping that we did for another."""
        probe = self._probe
        if probe is not None and message.sequence == probe.sequence:
            self._succeed(probe, now)
            return
        relay = self._relays.pop(message.sequence, None)
        if relay is not None:
            member = self._members.at(relay.asker)
            self._outbox.send([Ack(relay.sequence)], relay.asker, member)

    def nack(self, message: Nack) -> None:
        """One whom we asked heard nothing from our target, but we do hear from the asked."""
        if self._probe is not None and message.sequence == self._probe.sequence:
            self._probe.nacks += 1

    def stream_ping_answered(self, sequence: int, now: float) -> None:
        """The target answered over TCP."""
        probe = self._probe
        if probe is not None and sequence == probe.sequence:
            self._emit(DatagramsLost(probe.target.name))
            self._succeed(probe, now)

    def ping_for(self, message: IndirectPing, source: Address, now: float) -> None:
        """Ping a target for another."""
        if len(self._relays) >= RELAYS_MAX:
            return
        sequence = self._next_sequence()
        asker = message.source or source
        ends_at = now + self._config.probe_timeout_s
        self._relays[sequence] = Relay(message.sequence, asker, message.nack, ends_at)
        target = self._members.get(message.node)
        self._outbox.send([self._ping(sequence, message.node)], message.target, target)

    # --- time -------------------------------------------------------------------------------------

    def deadline(self) -> float:
        """When handle_timer has something to do."""
        probe = self._probe
        mine = self._next_at if probe is None else min(probe.late_at, probe.ends_at)
        # All relays have the same time-out: the first is due first.
        relay = next(iter(self._relays.values()), None)
        return mine if relay is None else min(mine, relay.ends_at)

    def handle_timer(self, now: float) -> None:
        """Do what is due."""
        self._expire_relays(now)
        probe = self._probe
        if probe is not None and probe.ends_at <= now:
            self._fail(probe, now)
        elif probe is not None and probe.late_at <= now:
            self._ask_others(probe)
        if self._probe is None and self._next_at <= now:
            self._start(now)

    def resume(self, now: float) -> None:
        """We were not running: the answers we missed mean nothing."""
        self._probe = None
        self._next_at = now + self._config.probe_interval_s
        self._relays.clear()

    # --- the life of a probe ----------------------------------------------------------------------

    def _start(self, now: float) -> None:
        self._next_at = now + self._config.probe_interval_s
        if self._state.leaving:
            return
        self._state.forget_the_dead(now)
        target = self._next_target()
        if target is None:
            return
        config = self._config
        sequence = self._next_sequence()
        ends_at = now + self._awareness.scale(config.probe_interval_s)
        self._probe = Probe(target, sequence, now, now + config.probe_timeout_s, ends_at)
        messages: list[Message] = [self._ping(sequence, target.name)]
        if target.status == Status.SUSPECT:
            # Let it know that it is suspected, so that it can refute at once.
            messages.append(Suspect(target.incarnation, target.name, config.name))
        self._outbox.send(messages, target.endpoint, target)

    def _next_target(self) -> Member | None:
        while self._expedited:
            name, _ = self._expedited.popitem(last=False)
            member = self._members.get(name)
            if member is not None and self._may_probe(member):
                return member
        return self._members.next_to_probe(self._may_probe)

    def _may_probe(self, member: Member) -> bool:
        return member is not self._state.me and member.is_up

    def _ask_others(self, probe: Probe) -> None:
        probe.late_at = float("inf")
        target = probe.target
        others = self._members.sample(
            self._config.indirect_checks,
            lambda m: self._may_probe(m) and m is not target and m.status == Status.ALIVE,
        )
        me = self._state.me
        for other in others:
            nack = other.understands(NACK_SINCE_PROTOCOL)
            probe.nacks_expected += nack
            request = IndirectPing(
                probe.sequence, target.endpoint, target.name, nack, me.endpoint, me.name
            )
            self._outbox.send([request], other.endpoint, other)
        if target.understands(STREAM_PING_SINCE_PROTOCOL):
            timeout_s = max(probe.ends_at - probe.started - self._config.probe_timeout_s, 0.0)
            self._outbox.want(StreamPing(target.endpoint, target.name, probe.sequence, timeout_s))

    def _succeed(self, probe: Probe, now: float) -> None:
        self._probe = None
        self._awareness.apply(-1)
        self._next_at = max(probe.started + self._config.probe_interval_s, now)

    def _fail(self, probe: Probe, now: float) -> None:
        self._probe = None
        self._next_at = now
        missing = probe.nacks_expected - probe.nacks
        self._awareness.apply(max(missing, 0) if probe.nacks_expected else 1)
        if probe.target.is_up:
            self._state.suspect(
                Suspect(probe.target.incarnation, probe.target.name, self._config.name), now
            )

    # --- private ----------------------------------------------------------------------------------

    def _ping(self, sequence: int, node: str) -> Ping:
        me = self._state.me
        return Ping(sequence, node, me.endpoint, me.name)

    def _next_sequence(self) -> int:
        self._sequence = (self._sequence + 1) & 0xFFFFFFFF
        return self._sequence

    def _expire_relays(self, now: float) -> None:
        while self._relays:
            sequence, relay = next(iter(self._relays.items()))
            if relay.ends_at > now:
                return
            del self._relays[sequence]
            if relay.nack:
                member = self._members.at(relay.asker)
                self._outbox.send([Nack(relay.sequence)], relay.asker, member)
