"""Many Serf cores joined in memory, in virtual time: gossip without sockets and without waiting.

The network loses, delays, splits and pauses as told; everything is a function of the seed.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from callboard.swim.codec import Codec
from callboard.swim.config import Config, SerfConfig, lan
from callboard.swim.events import PushPullWith, StreamPing, StreamWanted
from callboard.swim.messages import Ack, Address, Ping, PushPull
from callboard.swim.serf import Serf, SerfEvent
from callboard.swim.serf_members import MemberEvent, MemberEventKind

PORT = 8301


@dataclass
class Seen:
    """One event as one member saw it."""

    at: float
    observer: str
    event: SerfEvent


@dataclass
class Node:
    """One agent of the simulation."""

    serf: Serf
    running: bool = True
    armed_at: float = float("inf")


@dataclass
class GossipCluster:
    """The network, its members, and its clock."""

    seed: int = 1
    profile: Callable[[str, str, int], Config] = lan
    serf_config: SerfConfig = field(default_factory=SerfConfig)
    latency_s: float = 0.002
    loss: float = 0.0
    now: float = 100.0
    codec: Codec = field(default_factory=Codec)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.nodes: dict[str, Node] = {}
        self.seen: list[Seen] = []
        self.datagrams = 0
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._islands: list[set[str]] = []

    # --- set up ---------------------------------------------------------------------------------

    def add(self, name: str, *, address: str = "", tags: dict[str, str] | None = None) -> Serf:
        """A new member that knows nobody yet."""
        address = address or f"10.0.{len(self.nodes) // 200}.{len(self.nodes) % 200 + 1}"
        serf = Serf(
            self.profile(name, address, PORT),
            self.serf_config,
            tags or {"role": "callboard"},
            self.codec,
            now=self.now,
            rng=random.Random(self.rng.random()),
        )
        self.nodes[name] = Node(serf)
        self._pump(name)
        return serf

    def form(self, count: int) -> list[str]:
        """`count` members n0, n1 … that have all joined n0, and heard of each other."""
        names = [f"n{index}" for index in range(count)]
        for name in names:
            self.add(name)
        for name in names[1:]:
            self.join(name, names[0])
        self.run(6.0)
        assert all(len(self.nodes[name].serf.members()) == count for name in names)
        return names

    def join(self, name: str, peer: str) -> bool:
        """One member joins by another, at once."""
        return self._push_pull(name, self.nodes[peer].serf.swim.me.endpoint, joining=True)

    # --- faults ---------------------------------------------------------------------------------

    def kill(self, name: str) -> None:
        """The process is gone."""
        self.nodes[name].running = False

    def split(self, *islands: Iterable[str]) -> None:
        """Only members of one island hear each other."""
        self._islands = [set(island) for island in islands]

    def heal(self) -> None:
        """Everyone hears everyone again."""
        self._islands = []

    def pause(self, name: str, gap_s: float) -> None:
        """Stop one member; it wakes after `gap_s` as a driver wakes it."""
        node = self.nodes[name]
        node.running = False

        def wake() -> None:
            node.running = True
            node.armed_at = float("inf")
            node.serf.resume(self.now, self.now - node.serf.deadline())
            self._pump(name)

        self.at(self.now + gap_s, wake)

    # --- what happened --------------------------------------------------------------------------

    def events(self, kind: MemberEventKind, name: str = "") -> list[Seen]:
        """The member events of a kind, about one member or all."""
        return [
            seen
            for seen in self.seen
            if isinstance(seen.event, MemberEvent)
            and seen.event.kind == kind
            and (not name or seen.event.member.name == name)
        ]

    def statuses(self, observer: str) -> dict[str, str]:
        """Everyone's status as one member sees it."""
        return {member.name: str(member.status) for member in self.nodes[observer].serf.members()}

    # --- time -----------------------------------------------------------------------------------

    def at(self, time: float, action: Callable[[], None]) -> None:
        """Do something at a time."""
        self._count += 1
        heapq.heappush(self._queue, (time, self._count, action))

    def run(self, seconds: float) -> None:
        """Let virtual time pass."""
        end = self.now + seconds
        while self._queue and self._queue[0][0] <= end:
            self.now, _, action = heapq.heappop(self._queue)
            action()
        self.now = end

    def pump(self, name: str) -> None:
        """After a test used a core directly: take what it has to say."""
        self._pump(name)

    # --- private --------------------------------------------------------------------------------

    def _pump(self, name: str) -> None:
        node = self.nodes[name]
        serf = node.serf
        self.seen += [Seen(self.now, name, event) for event in serf.events()]
        for data, address in serf.datagrams_to_send():
            self._send(name, data, address)
        for wanted in serf.streams_wanted():
            self._open(name, wanted)
        deadline = max(serf.deadline(), self.now)
        if deadline < node.armed_at:
            node.armed_at = deadline
            self.at(deadline, lambda: self._timer(name, deadline))

    def _timer(self, name: str, armed_at: float) -> None:
        node = self.nodes[name]
        if not node.running or node.armed_at != armed_at:
            return
        node.armed_at = float("inf")
        node.serf.handle_timer(self.now)
        self._pump(name)

    def _send(self, name: str, data: bytes, address: Address) -> None:
        self.datagrams += 1
        if self.rng.random() < self.loss:
            return
        source = self.nodes[name].serf.swim.me.endpoint

        def arrive() -> None:
            target = self._reach(name, address)
            if target is not None:
                self.nodes[target].serf.receive_datagram(data, source, self.now)
                self._pump(target)

        self.at(self.now + self.latency_s * (0.5 + self.rng.random()), arrive)

    def _reach(self, name: str, address: Address) -> str | None:
        """Who is at that address, if `name` can reach it now."""
        for target, node in self.nodes.items():
            if node.serf.swim.me.endpoint != address or not node.running:
                continue
            if not self._islands or any({name, target} <= island for island in self._islands):
                return target
        return None

    def _open(self, name: str, wanted: StreamWanted) -> None:
        def arrive() -> None:
            if not self.nodes[name].running:
                return
            if isinstance(wanted, PushPullWith):
                self._push_pull(name, wanted.address, joining=False)
            else:
                self._stream_ping(name, wanted)

        self.at(self.now + self.latency_s, arrive)

    def _stream_ping(self, name: str, wanted: StreamPing) -> None:
        target = self._reach(name, wanted.address)
        if target is None:
            return
        answer = self.nodes[target].serf.answer_stream(Ping(wanted.sequence, wanted.name), self.now)
        if isinstance(answer, Ack):
            self.nodes[name].serf.stream_ping_answered(answer.sequence, self.now)
            self._pump(name)

    def _push_pull(self, name: str, address: Address, *, joining: bool) -> bool:
        target = self._reach(name, address)
        if target is None:
            return False
        serf = self.nodes[name].serf
        answer = self.nodes[target].serf.answer_stream(serf.push_pull(join=joining), self.now)
        assert isinstance(answer, PushPull)
        serf.merge(answer, self.now, joining=joining)
        if joining:
            serf.announce_join(self.now)
        self._pump(target)
        self._pump(name)
        return True
