"""A catalog's log, and hubs that are told of it frame by frame, cut wherever a test likes."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from itertools import groupby

import msgspec

from callboard.agent.state.store import StateStore
from callboard.catalog.changes import Change
from callboard.catalog.commands import Command, Deregister, KeyValueSet, Register, encode_command
from callboard.catalog.objects import Check, Node, ServiceInstance
from callboard.catalog.pinned import PinnedTables
from callboard.feed.copy import FeedSession
from callboard.feed.slices import record_frames
from callboard.feed.wire import (
    FORMAT,
    Delta,
    FrameReader,
    Heartbeat,
    Hello,
    Member,
    Members,
    SnapshotHash,
    WireChange,
    pack,
)
from callboard.hub.catalog.topics import Topics
from callboard.hub.cursor import CatalogPlace
from callboard.hub.event import CatalogEvent
from callboard.hub.matching.matchers import exact, legacy
from callboard.hub.matching.selectors import selector
from callboard.hub.ports import Selector

EPOCH = "5f0c0bd2-2b0e-4a3c-9d53-6c1c7f0a1d11"
ALL = ("/catalog/checks/{n}/{id}", "/catalog/nodes/{n}", "/catalog/services/{n}")
CLUSTER = ("/cluster/leader", "/cluster/members")


def wanting(*topics: str) -> Selector:
    """The selector of a stream that asks for these topics, or templates of them."""
    return selector([legacy(each) if "{" in each else exact(each) for each in topics])


EVERYTHING = wanting(*ALL, *CLUSTER)
THE_LOG = wanting(*ALL)


class Log:
    """A state store, what each index changed, and the catalog as it was at each."""

    def __init__(self) -> None:
        self.store = StateStore("dc1")
        self.changes: list[Change] = []
        self.pinned: dict[int, PinnedTables] = {0: self.store.tables.pin()}
        self.store.listen(self.changes.extend)

    @property
    def index(self) -> int:
        return self.store.applied_index

    def commit(self, command: Command) -> int:
        """Apply one command, whatever comes of it; its index."""
        self.store.apply(self.index + 1, encode_command(command))
        self.store.drain_woken()
        self.pinned[self.index] = self.store.tables.pin()
        return self.index

    def between(self, after: int, upto: int) -> list[Change]:
        """The changes of the indexes above `after`, up to `upto`."""
        return [change for change in self.changes if after < change.index <= upto]


def random_command(rng: random.Random, log: Log) -> Command:
    """One of what agents do: few names, so that they meet."""
    name = f"n{rng.randint(1, 3)}"
    node = Node(name=name, address=f"10.0.0.{rng.randint(1, 3)}")
    id = rng.choice("ab")
    match rng.randint(0, 8):
        case 0:
            return Register(node)
        case 1 | 2:
            name = rng.choice(["web", "Web", "db"])
            service = ServiceInstance(id=id, service=name, port=rng.randint(80, 82))
            check = Check(check_id=f"s/{id}", status="passing", service_id=id)
            return Register(node, service, (check,) * rng.randint(0, 1))
        case 3 | 4:
            status = rng.choice(["passing", "critical"])
            return Register(node, None, (Check(check_id="serfHealth", status=status),))
        case 5:
            return Deregister(name, service_id=id)
        case 6:
            return Deregister(name, check_id=f"s/{id}")
        case 7 if rng.random() < 0.3:
            return Deregister(name)
        case _:
            return KeyValueSet("k", b"v")


class Hub:
    """A hub's catalog, fed by hand."""

    def __init__(self, log: Log, *, epoch: str = EPOCH, **limits: int) -> None:
        self.log = log
        self.epoch = epoch
        self.now = 100.0
        self.topics = Topics(clock=lambda: self.now, **limits)  # type: ignore[arg-type]
        self.events: list[CatalogEvent] = []
        """What it told its listeners."""
        self.told: list[int] = []
        """How many events at a time."""
        self.resets = 0
        self._session = FeedSession(self.topics.copy)
        self._frames = FrameReader()
        self.topics.listen(self._changed)
        self.topics.listen_reset(self._reset)

    @property
    def index(self) -> int:
        return self.topics.place.index

    def receive(self, octets: bytes) -> None:
        """Take octets of the stream."""
        for received in self._frames.feed(octets):
            self._session.receive(received, self.now)

    def make(self) -> None:
        """Make all events that can be made."""
        for _ in self.topics.steps():
            pass

    def connect(self, *, resumed: bool) -> None:
        """A new stream begins."""
        self._session, self._frames = FeedSession(self.topics.copy), FrameReader()
        self.receive(pack(Hello(FORMAT, self.epoch, self.log.index, resumed, "dc1", "agent-1")))

    def snapshot(self, index: int) -> None:
        """A new stream brings the catalog as it was at an index."""
        self.connect(resumed=False)
        digest = SnapshotHash()
        for records in record_frames(self.log.pinned[index]):
            octets = pack(records)
            digest.add(records, octets)
            self.receive(octets)
        self.receive(pack(digest.end(index)))

    def tell(self, upto: int, *, frame: int = 1000, cut_off_after: int | None = None) -> None:
        """One batch of all changes from where the copy is, in frames of so many changes; the
        stream may be cut off after some frames."""
        changes = self.log.between(self.topics.copy.applied_index, upto)
        frames = [changes[at : at + frame] for at in range(0, len(changes), frame)]
        for number, each in enumerate(frames[:cut_off_after], 1):
            self.receive(pack(Delta(upto, number == len(frames), tuple(map(wire, each)))))

    def beat(
        self,
        index: int | None = None,
        *,
        leader: str = "10.0.0.1:8300",
        term: int = 1,
        members: Sequence[Member] = (Member("agent-1", "10.0.0.1", "alive", True),),
    ) -> None:
        """A heartbeat, which says that all up to `index` (what was received, unless given) was
        told; a second passes before it."""
        self.now += 1.0
        upto = self.topics.copy.applied_index if index is None else index
        self.receive(pack(Members(tuple(members))) + pack(Heartbeat(leader, term, upto, 0)))

    def _changed(self, events: Sequence[CatalogEvent]) -> None:
        self.events += events
        self.told.append(len(events))

    def _reset(self) -> None:
        self.resets += 1

    def state(self, wanted: Selector = EVERYTHING) -> dict[str, object]:
        """What a new reader holds once it was given the state."""
        reader = Reader(wanted)
        reader.take(event for event in self.topics.state(wanted) if event is not None)
        return reader.values


class Reader:
    """What one stream's reader knows."""

    def __init__(self, wanted: Selector) -> None:
        self.wanted = wanted
        self.values: dict[str, object] = {}
        self.seen: list[tuple[int, int]] = []
        """Places of the log's events, as they came."""

    def take(self, events: Iterable[CatalogEvent]) -> None:
        """Be sent those events that it wants."""
        for event in events:
            if not self.wanted.wants_catalog(event.topic):
                continue
            data = decoded(event)
            assert data["Topic"] == event.topic
            if event.part:
                self.seen.append((event.index, event.part))
            if data["Value"] is None:
                self.values.pop(event.topic, None)
            else:
                self.values[event.topic] = data["Value"]

    def place(self, hub: Hub) -> CatalogPlace:
        """Where it is after the last event."""
        index, part = self.seen[-1]
        return CatalogPlace(hub.topics.place.epoch, index, part)


def decoded(event: CatalogEvent) -> dict[str, object]:
    """An event's data."""
    data = msgspec.json.decode(event.data)
    assert isinstance(data, dict)
    return data


def identified(events: Iterable[CatalogEvent]) -> list[tuple[str, int, int, bool, str, bytes]]:
    """All that there is to events of the log."""
    return [
        (each.epoch, each.index, each.part, each.last, each.topic, each.data)
        for each in events
        if each.part
    ]


def wire(change: Change) -> WireChange:
    """A change as DELTA frames carry it."""
    fields = (change.index, change.operation, change.kind, change.node, change.id)
    if change.operation == "delete":
        return WireChange(*fields)
    return WireChange(*fields, value=msgspec.Raw(msgspec.msgpack.encode(change.value)))


def by_index(events: Iterable[CatalogEvent]) -> dict[int, list[CatalogEvent]]:
    """The log's events of each index."""
    logged = [event for event in events if event.part]
    return {index: list(group) for index, group in groupby(logged, key=lambda it: it.index)}
