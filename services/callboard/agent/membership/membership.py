"""Membership: the driver that runs a Serf core on sockets and the event loop's clock.

One timer, one UDP socket, one TCP listener, and a task for each stream that we open. After each
input the core's outputs are taken at once (`_pump`). A timer that fires much too late means that
this process stood still: then nothing that fell due may be believed, so the core's timers are
re-armed and the sockets are read first.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import random
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace

from callboard.agent.membership.errors import JoinError, StreamError, UnknownMember
from callboard.agent.membership.joiner import Joiner
from callboard.agent.membership.key_manager import KeyManager
from callboard.agent.membership.log_limit import LogLimit
from callboard.agent.membership.resolver import Resolver, outgoing_address
from callboard.agent.membership.settings import PORT, Settings
from callboard.agent.membership.snapshot import Peer, Snapshot, SnapshotWriter, read_snapshot
from callboard.agent.membership.transport import Transport
from callboard.swim.broadcasts import Broadcast
from callboard.swim.codec import Codec
from callboard.swim.events import (
    DatagramsLost,
    NameConflict,
    PushPullWith,
    Refuted,
    StreamPing,
    StreamWanted,
    Suspected,
    Undecodable,
)
from callboard.swim.key_queries import KeyQuery
from callboard.swim.messages import Ack, Address, Message, Ping, PushPull
from callboard.swim.serf import Serf, SerfEvent
from callboard.swim.serf_members import MemberEvent, MemberEventKind, MemberStatus, SerfMember
from callboard.swim.serf_messages import QueryResponse

log = logging.getLogger(__name__)

PAUSE_S = 0.5
"""A timer this late means that the process stood still."""

DRAIN_S = 0.05
"""After a pause no timer fires for this long, so that what waits in the sockets is read first."""

OUTGOING_STREAMS_MAX = 64
"""Streams that we open at once for the core; more are not opened."""

SNAPSHOT_DELAY_S = 1.0
"""Changes of this long are written together."""

CONFLICT_LOG_LINES_MAX = 2


class Membership:
    """Who is in the cluster. Create inside a running event loop, then start()."""

    def __init__(
        self,
        settings: Settings,
        *,
        resolver: Resolver | None = None,
        gave_up: Callable[[], None] = lambda: None,
    ) -> None:
        """`gave_up` is called when `retry_max` attempts to join brought nobody."""
        self._settings = settings
        self._gave_up = gave_up
        self._loop = asyncio.get_running_loop()
        self.keys = KeyManager(settings, lambda: self._serf, self._spawn, self._pump)
        self._codec = Codec(self.keys.keyring)
        self._resolver = resolver or Resolver()
        self._core: Serf | None = None
        self._transport: Transport | None = None
        self._joiner: Joiner | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._due = float("inf")
        """When the timer was to fire."""
        self._hold_until = 0.0
        self._listeners: list[Callable[[MemberEvent], None]] = []
        self._conflict_listeners: list[Callable[[NameConflict], None]] = []
        self._sent: list[tuple[Broadcast, asyncio.Future[None]]] = []
        self.garbage = 0
        """Datagrams and streams dropped because they were no gossip of this cluster."""
        self._garbage_log = LogLimit()
        self._conflict_log = LogLimit(CONFLICT_LOG_LINES_MAX)
        self._writer = SnapshotWriter(settings.snapshot_path) if settings.snapshot_path else None
        self._snapshot_timer: asyncio.TimerHandle | None = None
        self._own: frozenset[Address] = frozenset()
        self._stopping = False
        self._left = False

    # --- life -----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen, and begin to look for peers. Raises OSError, MembershipError, ValueError."""
        settings = self._settings
        bind_any = ipaddress.ip_address(settings.bind).is_unspecified
        advertise = settings.advertise or (outgoing_address() if bind_any else settings.bind)
        source = settings.source or ("" if bind_any else settings.bind)
        profile = settings.profile(settings.name, advertise, settings.advertise_port or PORT)
        transport = Transport(
            self._codec,
            receive=self._datagram_received,
            answer=self._stream_received,
            reject=self._garbage_received,
            stream_timeout_s=profile.stream_timeout_s,
            source=source,
        )
        port = await transport.start(settings.bind, settings.port)
        try:
            config = replace(profile, port=settings.advertise_port or port)
            self._core = Serf(
                config,
                settings.serf,
                settings.tags,
                self._codec,
                now=self._loop.time(),
                rng=random.SystemRandom(),
            )
        except ValueError:
            await transport.stop()
            raise
        self._transport = transport
        listening = ("127.0.0.1", "::1") if bind_any else (settings.bind,)
        self._own = frozenset({(advertise, config.port), *((host, port) for host in listening)})
        self._begin_joining(port)
        self._pump()
        log.info(
            "gossip is listening",
            extra={
                "addr": f"{settings.bind}:{port}",
                "advertise": f"{advertise}:{config.port}",
                "encrypted": bool(settings.keys),
            },
        )

    def _begin_joining(self, port: int) -> None:
        settings, core = self._settings, self._serf
        remembered: tuple[Address, ...] = ()
        if settings.snapshot_path is not None:
            snapshot = read_snapshot(settings.snapshot_path)
            core.witness_times(snapshot.time, snapshot.event_time, snapshot.query_time)
            if settings.rejoin_after_leave or not snapshot.left:
                remembered = tuple(
                    (peer.address, peer.port)
                    for peer in snapshot.peers
                    if peer.name != settings.name
                )
        self._joiner = Joiner(
            contact=self._join_one,
            is_known=self._is_live_member,
            has_live_peers=core.has_live_peers,
            own=lambda: self._own,
            resolver=self._resolver,
            resolve_timeout_s=settings.resolve_timeout_s,
            default_port=settings.port or port,
        )
        if settings.retry_join or remembered:
            self._spawn(self._keep_joined(self._joiner, remembered))

    async def _keep_joined(self, joiner: Joiner, remembered: tuple[Address, ...]) -> None:
        settings = self._settings
        attempts_max = settings.retry_max if settings.retry_join else 0
        try:
            await joiner.keep(
                settings.retry_join, remembered, settings.retry_interval_s, attempts_max
            )
        except JoinError:
            self._gave_up()

    async def leave(self) -> None:
        """Say goodbye, and give it time to spread: a bounded wait. Then call stop()."""
        core, serf = self._serf, self._settings.serf
        for task in list(self._tasks):
            task.cancel()  # nobody is joined any more
        self._left = True
        peers = core.has_live_peers()
        await self._spread(core.announce_leave(self._awake()), wait=peers)
        await self._spread(core.leave(self._awake()), wait=peers)
        if peers:
            await asyncio.sleep(serf.leave_propagate_s)
        self._save_snapshot()
        log.info("left the cluster", extra={"told_peers": peers})

    async def stop(self) -> None:
        """Close the sockets without a word (call leave() before, to say goodbye)."""
        self._stopping = True
        for timer in (self._timer, self._snapshot_timer):
            if timer is not None:
                timer.cancel()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._transport is not None:
            await self._transport.stop()
        if self._core is not None:
            self._save_snapshot()
        if self._writer is not None:
            self._writer.flush(timeout_s=1.0)

    # --- what the program asks --------------------------------------------------------------------

    async def join(self, addresses: Sequence[str]) -> int:
        """Join by these peers; the number contacted. Raises JoinError if none answered."""
        assert self._joiner is not None, "start() first"
        return await self._joiner.join(addresses)

    async def force_leave(self, name: str, *, prune: bool = False) -> None:
        """Make a failed member a left one; `prune`: forget it. Raises UnknownMember."""
        try:
            self._serf.force_leave(name, self._awake(), prune=prune)
        except KeyError:
            raise UnknownMember(f"No node found with name '{name}'") from None
        self._pump()

    def members(self) -> list[SerfMember]:
        """Everyone, ourselves included, by name; failed and left ones until they are reaped."""
        return self._serf.members()

    def member(self, name: str) -> SerfMember | None:
        """One member by name."""
        return self._serf.member(name)

    @property
    def local_member(self) -> SerfMember:
        """Ourselves."""
        member = self._serf.member(self._settings.name)
        assert member is not None
        return member

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Announce other tags. Raises ValueError when they are too long."""
        self._serf.set_tags(tags)
        self._pump()

    def listen(self, listener: Callable[[MemberEvent], None]) -> None:
        """Be told of every change, in order, on the event loop."""
        self._listeners.append(listener)

    def listen_conflicts(self, listener: Callable[[NameConflict], None]) -> None:
        """Be told when two live agents go by one name (again and again while they do)."""
        self._conflict_listeners.append(listener)

    def stats(self) -> dict[str, str]:
        """Figures as Consul's agent/self shows them under serf_lan."""
        core = self._serf
        statuses = [member.status for member in core.members()]
        return {
            "encrypted": str(bool(self._settings.keys)).lower(),
            "event_time": str(core.queries.event_clock.time),
            "failed": str(statuses.count(MemberStatus.FAILED)),
            "health_score": str(core.swim.awareness.score),
            "left": str(statuses.count(MemberStatus.LEFT)),
            "member_time": str(core.clock.time),
            "members": str(len(statuses)),
            "query_time": str(core.queries.query_clock.time),
        }

    @property
    def _serf(self) -> Serf:
        assert self._core is not None, "start() first"
        return self._core

    # --- the core's inputs ------------------------------------------------------------------------

    def _datagram_received(self, data: bytes, source: Address) -> None:
        if self._core is not None:
            self._core.receive_datagram(data, source, self._awake())
            self._pump()

    def _stream_received(self, message: Message, _source: Address) -> Message | None:
        if self._core is None:
            return None
        answer = self._core.answer_stream(message, self._awake())
        self._pump()
        return answer

    def _on_timer(self) -> None:
        self._timer = None
        now = self._awake()
        if now >= self._hold_until:
            self._serf.handle_timer(now)
        self._pump()

    def _awake(self) -> float:
        """The time, for an input of the core; tells the core first if we stood still."""
        now = self._loop.time()
        gap_s = now - self._due
        if gap_s > PAUSE_S:
            log.warning("woken from a pause, timers are re-armed", extra={"pause_s": gap_s})
            self._serf.resume(now, gap_s)
            self._hold_until = self._due = now + DRAIN_S
        return now

    # --- the core's outputs -----------------------------------------------------------------------

    def _pump(self) -> None:
        """Take everything that the core has to say."""
        core, transport = self._core, self._transport
        if core is None or transport is None or self._stopping:
            return
        for event in core.events():
            self._handle(event)
        for data, address in core.datagrams_to_send():
            transport.send(data, address)
        for wanted in core.streams_wanted():
            if len(self._tasks) < OUTGOING_STREAMS_MAX:
                self._spawn(self._open_stream(wanted))
        self._settle_sent()
        self._arm(core.deadline())

    def _arm(self, deadline: float) -> None:
        """Set the one timer; what is overdue is due now, so that a pause is measured once."""
        if self._timer is not None:
            if self._due == deadline:
                return
            self._timer.cancel()
        self._due = max(deadline, self._loop.time(), self._hold_until)
        self._timer = self._loop.call_at(self._due, self._on_timer)

    def _handle(self, event: SerfEvent) -> None:
        match event:
            case MemberEvent():
                self._member_changed(event)
            case NameConflict():
                self._name_conflict(event)
            case Undecodable(reason, source):
                self._garbage_received(reason, source or ("", 0))
            case KeyQuery():
                self.keys.was_asked(event)
            case QueryResponse():
                self.keys.answered(event)
            case Suspected(name, source):
                log.info("member is suspected", extra={"member": name, "by": source})
            case Refuted(incarnation):
                log.warning("told others that we are alive", extra={"incarnation": incarnation})
            case DatagramsLost(name):
                log.warning(
                    "member answers on tcp but not on udp: the network drops datagrams",
                    extra={"member": name},
                )
            case _:
                log.debug("event", extra={"event": str(event)})

    def _member_changed(self, event: MemberEvent) -> None:
        member = event.member
        log.info(
            "member %s",
            event.kind,
            extra={"member": member.name, "addr": f"{member.address}:{member.port}"},
        )
        for listener in self._listeners:
            try:
                listener(event)
            except Exception:
                log.exception("a listener of member events failed")
        gone = event.kind in (MemberEventKind.FAILED, MemberEventKind.LEAVE)
        if gone and self._joiner is not None and not self._serf.has_live_peers():
            self._joiner.wake()
        if self._writer is not None and self._snapshot_timer is None:
            self._snapshot_timer = self._loop.call_later(SNAPSHOT_DELAY_S, self._save_snapshot)

    def _name_conflict(self, conflict: NameConflict) -> None:
        held_back = self._conflict_log.allow(self._loop.time())
        if held_back is not None:
            log.error(
                "our own name is also used by another live agent"
                if conflict.about_us
                else "two live agents have one name",
                extra={
                    "member": conflict.name,
                    "addr": "{}:{}".format(*conflict.known),
                    "other": "{}:{}".format(*conflict.other),
                    "we_are_later": conflict.we_are_later,
                    "held_back": held_back,
                },
            )
        for listener in self._conflict_listeners:
            try:
                listener(conflict)
            except Exception:
                log.exception("a listener of name conflicts failed")

    def _garbage_received(self, reason: str, source: Address) -> None:
        self.garbage += 1
        held_back = self._garbage_log.allow(self._loop.time())
        if held_back is not None:
            log.warning(
                "dropped what is no gossip of this cluster",
                extra={"addr": source[0], "error": reason, "held_back": held_back},
            )

    async def _spread(self, broadcast: Broadcast, *, wait: bool) -> None:
        """Send a broadcast; with `wait`, until it was sent often enough or a bound is over."""
        done: asyncio.Future[None] = self._loop.create_future()
        self._sent.append((broadcast, done))
        self._pump()
        if not wait:
            return
        try:
            async with asyncio.timeout(self._settings.serf.broadcast_timeout_s):
                await done
        except TimeoutError:
            log.warning("a departure could not be told to all in time")

    def _settle_sent(self) -> None:
        for broadcast, done in self._sent:
            if broadcast.finished and not done.done():
                done.set_result(None)
        self._sent = [(item, done) for item, done in self._sent if not done.done()]

    # --- streams that we open ---------------------------------------------------------------------

    async def _open_stream(self, wanted: StreamWanted) -> None:
        try:
            match wanted:
                case StreamPing():
                    await self._ping(wanted)
                case PushPullWith(address, _):
                    await self._push_pull(address, joining=False)
        except StreamError as problem:
            log.debug("stream failed", extra={"member": wanted.name, "error": str(problem)})

    async def _ping(self, wanted: StreamPing) -> None:
        ping = Ping(wanted.sequence, wanted.name)
        answer = await self._streams.exchange(wanted.address, ping, wanted.timeout_s)
        if isinstance(answer, Ack) and answer.sequence == wanted.sequence:
            self._serf.stream_ping_answered(wanted.sequence, self._awake())
            self._pump()

    async def _push_pull(self, address: Address, *, joining: bool) -> None:
        state = self._serf.push_pull(join=joining)
        timeout_s = self._serf.swim.config.stream_timeout_s
        answer = await self._streams.exchange(address, state, timeout_s)
        if not isinstance(answer, PushPull):
            raise StreamError("the peer's answer is no state")
        now = self._awake()
        self._serf.merge(answer, now, joining=joining)
        if joining:
            self._serf.announce_join(now)
        self._pump()

    async def _join_one(self, address: Address) -> None:
        await self._push_pull(address, joining=True)

    @property
    def _streams(self) -> Transport:
        assert self._transport is not None, "start() first"
        return self._transport

    def _is_live_member(self, address: Address) -> bool:
        return any(
            member.endpoint == address and member.status == MemberStatus.ALIVE
            for member in self._serf.members()
        )

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("gossip's task failed", exc_info=task.exception())

    # --- memory over a restart --------------------------------------------------------------------

    def _save_snapshot(self) -> None:
        self._snapshot_timer = None
        if self._writer is None:
            return
        core = self._serf
        peers = tuple(
            Peer(member.name, member.address, member.port)
            for member in core.members()
            if member.status != MemberStatus.LEFT and member.name != self._settings.name
        )
        self._writer.save(
            Snapshot(
                time=core.clock.time,
                event_time=core.queries.event_clock.time,
                query_time=core.queries.query_clock.time,
                left=self._left,
                peers=peers,
            )
        )
