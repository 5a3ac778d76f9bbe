"""Who is alive: the rules by which alive, suspect and dead messages change what we think.

SWIM section 4.2 and memberlist's state.go: incarnations order what is said of a member, only the
member itself raises its own, suspicion precedes death, and whoever hears ill of itself refutes.
Messages come in, broadcasts and events go out; no timer and no wire lives here.
"""

from __future__ import annotations

from collections.abc import Callable

from callboard.swim.awareness import Awareness
from callboard.swim.broadcasts import Broadcast
from callboard.swim.config import META_BYTES_MAX, Config
from callboard.swim.events import (
    Gone,
    Joined,
    NameConflict,
    Refuted,
    Suspected,
    SwimEvent,
    Undecodable,
    Updated,
)
from callboard.swim.members import Member, Members
from callboard.swim.messages import (
    INCARNATION_MAX,
    Alive,
    Dead,
    Incarnation,
    Message,
    NodeState,
    Status,
    Suspect,
    Versions,
)
from callboard.swim.suspicion import Suspicion, suspicion_timeout_s

OUR_VERSIONS = Versions()


def speaks_with_us(versions: Versions | None) -> bool:
    """Whether a member and we understand what the other speaks (memberlist's verifyProtocol)."""
    if versions is None:
        return True
    ours = OUR_VERSIONS
    return (
        versions.protocol_min <= ours.protocol_current <= versions.protocol_max
        and ours.protocol_min <= versions.protocol_current <= ours.protocol_max
    )


class MembershipState:
    """What we think of every member, ourselves included."""

    def __init__(
        self,
        config: Config,
        *,
        members: Members,
        awareness: Awareness,
        broadcast: Callable[[str, Message], Broadcast],
        emit: Callable[[SwimEvent], None],
        now: float,
    ) -> None:
        """`broadcast(name, message)` queues a message about a member; `emit` hands out events."""
        self._config = config
        self._members = members
        self._awareness = awareness
        self._broadcast = broadcast
        self._emit = emit
        self._suspicions: dict[str, Suspicion] = {}
        self.leaving = False
        self.contested = False
        """The cluster we joined has our name at another address, until it shows us at ours."""
        self.me = Member(
            config.name,
            config.address,
            config.port,
            config.meta,
            1,
            Status.ALIVE,
            OUR_VERSIONS,
            now,
        )
        members.add(self.me)

    # --- what members say -------------------------------------------------------------------------

    def alive(self, message: Alive, now: float, *, joining: bool = False) -> None:
        """Someone is said to be alive; `joining`: by the cluster we are about to join."""
        if message.node == self.me.name:
            self._alive_ourselves(message, joining=joining)
            return
        if not speaks_with_us(message.versions):
            self._emit(Undecodable(f"{message.node} speaks another protocol version", None))
            return
        known = self._members.get(message.node)
        moved = known is not None and known.endpoint != (message.address, message.port)
        if known is None:
            known = Member(
                message.node,
                message.address,
                message.port,
                message.meta,
                -1,
                Status.DEAD,
                message.versions,
                now,
            )
            self._members.add(known)
        elif moved and not self._may_move(known, message, now):
            self._emit(
                NameConflict(
                    known.name,
                    known.endpoint,
                    (message.address, message.port),
                    about_us=False,
                    we_are_later=False,
                )
            )
            return
        replaces = moved and not known.is_up
        if message.incarnation <= known.incarnation and not replaces:
            return
        self._take_alive(known, message, now, moved=moved)

    def _may_move(self, known: Member, message: Alive, now: float) -> bool:
        """Whether a name may now be at another address."""
        if known.status == Status.LEFT:
            return True
        if known.status == Status.DEAD:
            return now - known.changed_at >= self._config.dead_reclaim_s
        return self._config.same_identity(known.meta, message.meta)

    def _take_alive(self, member: Member, message: Alive, now: float, *, moved: bool) -> None:
        self._suspicions.pop(member.name, None)
        self._broadcast(member.name, message)
        changed = moved or member.meta != message.meta
        was_up = member.is_up
        member.incarnation = message.incarnation
        member.address, member.port = message.address, message.port
        member.meta = message.meta
        member.versions = message.versions or member.versions
        if member.status != Status.ALIVE:
            member.status, member.changed_at = Status.ALIVE, now
        if not was_up:
            self._emit(Joined(member))
        elif changed:
            self._emit(Updated(member))

    def _alive_ourselves(self, message: Alive, *, joining: bool) -> None:
        me = self.me
        if self.leaving or message.incarnation < me.incarnation:
            return
        elsewhere = (message.address, message.port) != me.endpoint
        if not elsewhere:
            self.contested = False
        same_node = self._config.same_identity(message.meta, me.meta)
        if elsewhere and not (joining and same_node):
            self.contested = self.contested or joining
            self._emit(
                NameConflict(
                    me.name,
                    me.endpoint,
                    (message.address, message.port),
                    about_us=True,
                    we_are_later=joining,
                )
            )
            if joining:
                return
        same = message.meta == me.meta and message.versions == me.versions and not elsewhere
        if message.incarnation == me.incarnation and same:
            return
        self._refute(message.incarnation)

    def suspect(self, message: Suspect, now: float) -> None:
        """Someone did not answer `message.source`."""
        member = self._members.get(message.node)
        if member is None or message.incarnation < member.incarnation:
            return
        suspicion = self._suspicions.get(member.name)
        if suspicion is not None:
            if suspicion.confirm(message.source):
                self._broadcast(member.name, message)
            return
        if member.status != Status.ALIVE:
            return
        if member is self.me:
            self._refute(message.incarnation)
            return
        self._broadcast(member.name, message)
        member.incarnation = message.incarnation
        member.status, member.changed_at = Status.SUSPECT, now
        self._suspicions[member.name] = self._new_suspicion(message.source, now)
        self._emit(Suspected(member.name, message.source))

    def _new_suspicion(self, accuser: str, now: float) -> Suspicion:
        config = self._config
        # Only those who are up can confirm. (Memberlist counts the dead too, and so waits six
        # times as long for the last peer of a small cluster.)
        count = sum(member.is_up for member in self._members)
        expected = config.suspicion_mult - 2
        # With too few others there is nobody to confirm: memberlist then takes the least time.
        if count - 2 < expected:
            expected = 0
        least_s = suspicion_timeout_s(config.suspicion_mult, count, config.probe_interval_s)
        most_s = config.suspicion_max_timeout_mult * least_s
        return Suspicion(now, expected, least_s, most_s, {accuser})

    def dead(self, message: Dead, now: float) -> None:
        """Someone is declared dead, or says itself that it leaves."""
        member = self._members.get(message.node)
        if member is None or message.incarnation < member.incarnation:
            return
        self._suspicions.pop(member.name, None)
        if not member.is_up:
            return
        if member is self.me and not self.leaving:
            self._refute(message.incarnation)
            return
        self._broadcast(member.name, message)
        member.incarnation = message.incarnation
        left = message.node == message.source
        member.status, member.changed_at = (Status.LEFT if left else Status.DEAD), now
        if member is not self.me:
            self._emit(Gone(member))

    def merge(self, nodes: tuple[NodeState, ...], now: float, *, joining: bool) -> None:
        """Take in the other side's rows of a push/pull exchange."""
        for row in nodes:
            if row.status == Status.ALIVE:
                self.alive(
                    Alive(
                        row.incarnation,
                        row.name,
                        row.address,
                        row.port,
                        row.meta,
                        row.versions,
                    ),
                    now,
                    joining=joining,
                )
            elif row.status == Status.LEFT:
                self.dead(Dead(row.incarnation, row.name, row.name), now)
            else:
                # Another's verdict is not ours: suspect first, so that the member may refute.
                self.suspect(Suspect(row.incarnation, row.name, self.me.name), now)

    # --- what we say ourselves --------------------------------------------------------------------

    def _refute(self, accused: Incarnation) -> None:
        self._raise_incarnation(accused)
        self._awareness.apply(1)
        self._broadcast(self.me.name, self.me.as_alive())
        self._emit(Refuted(self.me.incarnation))

    def _raise_incarnation(self, above: Incarnation) -> None:
        self.me.incarnation = min(max(self.me.incarnation, above) + 1, INCARNATION_MAX)

    def set_meta(self, meta: bytes) -> None:
        """Announce a new meta of ours. Raises ValueError when it is too long."""
        if len(meta) > META_BYTES_MAX:
            raise ValueError(f"meta has {len(meta)} bytes, the most is {META_BYTES_MAX}")
        self.me.meta = meta
        self._raise_incarnation(self.me.incarnation)
        self._broadcast(self.me.name, self.me.as_alive())

    def leave(self, now: float) -> Broadcast:
        """Declare that we leave; the broadcast is `finished` once it was sent often enough."""
        self.leaving = True
        self.me.status, self.me.changed_at = Status.LEFT, now
        message = Dead(self.me.incarnation, self.me.name, self.me.name)
        return self._broadcast(self.me.name, message)

    # --- time -------------------------------------------------------------------------------------

    def deadline(self) -> float:
        """When the first suspect is declared dead; infinity without one."""
        return min((one.deadline for one in self._suspicions.values()), default=float("inf"))

    def expire_suspicions(self, now: float) -> None:
        """Declare dead whoever has not refuted in time."""
        due = [name for name, one in self._suspicions.items() if one.deadline <= now]
        for name in due:
            del self._suspicions[name]
            member = self._members.get(name)
            if member is not None and member.status == Status.SUSPECT:
                self.dead(Dead(member.incarnation, name, self.me.name), now)

    def forget_the_dead(self, now: float) -> None:
        """Drop members that have been gone for longer than they get gossip."""
        oldest = now - self._config.gossip_to_the_dead_s
        self._members.forget(lambda m: not m.is_up and m.changed_at < oldest and m is not self.me)

    def shift(self, gap_s: float) -> None:
        """We were not running for `gap_s`: nobody is to die of that."""
        for suspicion in self._suspicions.values():
            suspicion.shift(gap_s)
