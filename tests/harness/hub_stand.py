"""A hub's surroundings in memory, for tests of its readers: history, catalog, index, connections.

Each is the obvious model of its protocol (`callboard.hub.ports`): a list, looked through from the
beginning. Whatever readers do with the real ones can be held against it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from callboard.events.parser import Event, Parser
from callboard.hub.cursor import CatalogPlace, Cursor, Place
from callboard.hub.event import CatalogEvent, Publication, Update
from callboard.hub.ports import Gap, Matcher, Resume, Selector, Taken
from callboard.serve.exchange import Sink
from callboard.serve.wire import LAST_CHUNK

EPOCH = "e1"
CATALOG_EPOCH = "c1"


@dataclass(frozen=True)
class Topics:
    """A `Selector` of topics by their text, private ones if granted."""

    names: frozenset[str]
    private: bool = False
    matchers: tuple[Matcher, ...] = ()

    @property
    def hub(self) -> bool:
        return any(not name.startswith("/catalog/") for name in self.names)

    @property
    def catalog(self) -> bool:
        return any(name.startswith("/catalog/") for name in self.names)

    def wants(self, topics: tuple[str, ...], private: bool) -> bool:
        return bool(self.names & set(topics)) and (self.private or not private)

    def wants_catalog(self, topic: str) -> bool:
        return topic in self.names


def topics(*names: str, private: bool = False) -> Topics:
    """A selector."""
    return Topics(frozenset(names), private)


class NaiveIndex:
    """Asks every selector."""

    def __init__(self) -> None:
        self.selectors: dict[Selector, None] = {}

    def add(self, selector: Selector) -> None:
        assert selector not in self.selectors
        self.selectors[selector] = None

    def remove(self, selector: Selector) -> None:
        del self.selectors[selector]

    def find(self, topics: tuple[str, ...], private: bool) -> tuple[Selector, ...]:
        return tuple(each for each in self.selectors if each.wants(topics, private))

    def find_catalog(self, topic: str) -> tuple[Selector, ...]:
        return tuple(each for each in self.selectors if each.wants_catalog(topic))


class MemoryHistory:
    """A `History` that keeps all; `recent` knows the last `ring` updates only."""

    def __init__(self, ring: int = 1_000_000) -> None:
        self.ring = ring
        self.updates: list[Update] = []
        self.epoch = EPOCH
        self.gone = 0
        """Retention has taken what is up to here."""
        self.thinned = 0
        """And up to here some of it; the rest is kept."""
        self.reads = 0
        self._listeners: list[Callable[[Sequence[Update]], None]] = []

    @property
    def head(self) -> int:
        return len(self.updates)

    @property
    def oldest(self) -> int:
        return self.gone + 1

    def submit(self, publication: Publication, taken: Taken) -> None:
        update = Update(self.head + 1, EPOCH, 1_000 + self.head, publication)
        self.updates.append(update)
        for listener in self._listeners:
            listener([update])
        taken(update)

    def publish(self, topic: str, data: bytes = b"x", *, private: bool = False) -> Update:
        """Submit, in short."""
        self.submit(Publication((topic,), data, private=private), lambda _: None)
        return self.updates[-1]

    def listen(self, visible: Callable[[Sequence[Update]], None]) -> None:
        self._listeners.append(visible)

    def recent(self, after: int, bytes_max: int) -> Sequence[Update] | None:
        if after < max(self.gone, self.head - self.ring):
            return None
        return self._page(after, bytes_max)

    async def read(self, after: int, bytes_max: int) -> Sequence[Update]:
        self.reads += 1
        await asyncio.sleep(0)
        return self._page(max(after, self.gone), bytes_max)

    def _page(self, after: int, bytes_max: int) -> Sequence[Update]:
        found: list[Update] = []
        size = 0
        for update in self.updates[after:]:
            if found and size + update.size > bytes_max:
                break
            found.append(update)
            size += update.size
        return found

    def trimmed(self, selector: Selector) -> int:
        return max(self.gone, self.thinned)

    def gap(self, after: int, upto: int) -> Gap:
        first, then, last = (str(Cursor(self.place(each))) for each in (after, upto, self.head))
        return Gap(first, then, last, upto - after)

    async def locate(self, cursor: Cursor, selector: Selector | None = None) -> Resume:
        await asyncio.sleep(0)
        if cursor.earliest:
            return Resume(self.gone)
        place = cursor.place
        if cursor.catalog is not None and place is None:
            return Resume(self.head)
        if place is not None and place.epoch == EPOCH and place.offset <= self.head:
            lost = place.offset < self.gone
            return Resume(place.offset, self.gap(place.offset, self.gone) if lost else None)
        first, newest = (str(Cursor(self.place(each))) for each in (self.gone, self.head))
        return Resume(self.gone, Gap(str(cursor), first, newest, None))

    async def since(self, time_ms: int) -> int:
        return sum(update.time_ms < time_ms for update in self.updates)

    async def last(self, count: int, selector: Selector) -> int:
        wanted = [u.offset for u in self.updates if selector.wants(u.topics, u.private)]
        return wanted[-count] - 1 if 0 < count <= len(wanted) else (0 if count else self.head)

    def place(self, offset: int) -> Place:
        return Place(EPOCH, offset)

    async def purge(self, topic: str) -> int:
        raise NotImplementedError


class MemoryCatalog:
    """`CatalogTopics` of one history; all changes are kept, unless `forget` is called."""

    def __init__(self, index: int = 10) -> None:
        self.ready = True
        self.epoch = CATALOG_EPOCH
        self.index = index
        self.first = index
        self.values: dict[str, bytes] = {}
        self.events: list[CatalogEvent] = []
        self._listeners: list[Callable[[Sequence[CatalogEvent]], None]] = []
        self._resets: list[Callable[[], None]] = []

    @property
    def place(self) -> CatalogPlace:
        return CatalogPlace(self.epoch, self.index)

    @property
    def oldest(self) -> CatalogPlace:
        return CatalogPlace(self.epoch, self.first)

    def age_s(self) -> float:
        return 0.5

    def state(self, selector: Selector) -> Iterator[CatalogEvent | None]:
        yield None
        yield from [
            CatalogEvent(topic, self.epoch, self.index, 0, last=False, data=value)
            for topic, value in sorted(self.values.items())
            if selector.wants_catalog(topic)
        ]

    def since(self, place: CatalogPlace, selector: Selector) -> Sequence[CatalogEvent] | None:
        if place.epoch != self.epoch or place.index < self.first:
            return None
        standing = (place.index, place.part or 10**9)
        return [
            event
            for event in self.events
            if (event.index, event.part) > standing and selector.wants_catalog(event.topic)
        ]

    def beside(self, selector: Selector) -> Sequence[CatalogEvent]:
        return ()

    def listen(self, changed: Callable[[Sequence[CatalogEvent]], None]) -> None:
        self._listeners.append(changed)

    def listen_reset(self, reset: Callable[[], None]) -> None:
        self._resets.append(reset)

    def change(self, **values: bytes) -> None:
        """One index of the log changes services: name=value."""
        self.index += 1
        names = sorted(f"/catalog/services/{name}" for name in values)
        made = []
        for part, topic in enumerate(names, 1):
            data = values[topic.rpartition("/")[2]]
            self.values[topic] = data
            last = part == len(names)
            event = CatalogEvent(topic, self.epoch, self.index, part, last=last, data=data)
            made.append(event)
        self.events += made
        for listener in self._listeners:
            listener(made)

    def forget(self, epoch: str | None = None) -> None:
        """The changes so far are not known any more (as after a snapshot)."""
        self.epoch = epoch or self.epoch
        self.index += 1
        self.first = self.index
        self.events = []
        for reset in self._resets:
            reset()


class Pipe:
    """A `Detached` connection: what was written, as the client sees it, and how it is full."""

    def __init__(self, *, chunked: bool = False, room: int = 1 << 60) -> None:
        self.chunked = chunked
        self.room = room
        """Bytes it takes; what is beyond them waits."""
        self.sent = bytearray()
        self.sink: Sink | None = None
        self.closed = self.aborted = False
        self.full = False

    def open(self, sink: Sink) -> Pipe:
        """Give it to a reader."""
        self.sink = sink
        sink.start(self)
        return self

    def write(self, data: bytes) -> None:
        assert not self.closed, "written to after the end"
        self.sent += data
        if len(self.sent) > self.room and not self.full:
            self.full = True
            assert self.sink is not None
            self.sink.behind()

    def take(self, count: int) -> None:
        """The client takes so many bytes more."""
        self.room += count
        if self.full and len(self.sent) <= self.room and not self.closed:
            self.full = False
            assert self.sink is not None
            self.sink.drained()

    def waiting_bytes(self) -> int:
        return max(0, len(self.sent) - self.room)

    def acknowledged_bytes(self) -> int | None:
        return None

    def close(self, last: bytes = b"") -> None:
        self.sent += last + (LAST_CHUNK if self.chunked else b"")
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True

    def lose(self) -> None:
        """The client goes."""
        self.closed = True
        assert self.sink is not None
        self.sink.gone()

    @property
    def body(self) -> bytes:
        """The body without its framing."""
        return unchunked(bytes(self.sent)) if self.chunked else bytes(self.sent)

    def events(self) -> list[Event]:
        """What a client has parsed so far."""
        return Parser().feed(self.body)

    def messages(self) -> list[str]:
        """The data of events that are not the hub's own."""
        return [each.data for each in self.events() if not each.type.startswith("hub.")]

    def cursor(self) -> str:
        """The last event id that a client has."""
        parser = Parser()
        parser.feed(self.body)
        return parser.last_event_id


def unchunked(data: bytes) -> bytes:
    """The body of whole chunks (RFC 9112, 7.1)."""
    body, at = bytearray(), 0
    while at < len(data):
        end = data.index(b"\r\n", at)
        length = int(data[at:end], 16)
        body += data[end + 2 : end + 2 + length]
        assert data[end + 2 + length : end + 4 + length] == b"\r\n"
        at = end + 4 + length
    return bytes(body)
