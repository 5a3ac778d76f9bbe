"""One stream: where it stands, what it is sent, when it has had its time.

LIVE: level with the delivery, which writes to it. LAGGING: its connection is full, or it began
below the newest event: it keeps nothing but its cursor, and catches up from memory or disk as the
connection takes bytes. ENDED: gone, cut, or closed in order.

A reader that stands still costs its write buffer; it loses nothing while the history holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from typing import TYPE_CHECKING

from callboard.events.encoder import block, comment
from callboard.hub.catalog.naming import BESIDE
from callboard.hub.cursor import CatalogPlace, Cursor
from callboard.hub.event import CatalogEvent, Format, Update, named
from callboard.hub.ports import CatalogTopics, Gap, Subscription
from callboard.hub.subscribers.beside import digests, still_known
from callboard.serve.wire import chunk

if TYPE_CHECKING:
    from callboard.hub.subscribers.groups import Group
    from callboard.hub.subscribers.readers import Readers
    from callboard.serve.exchange import Detached
    from callboard.serve.timerwheel import Timer

PUMP_BYTES = 64 * 1024
"""What a reader that catches up is given in one turn."""


class State(Enum):
    """See the module."""

    LAGGING = "lagging"
    LIVE = "live"
    ENDED = "ended"


class Reader:
    """A `Sink` of the server."""

    __slots__ = (
        "beside",
        "beside_of",
        "bucket",
        "catalog",
        "connection",
        "ends_at",
        "fetching",
        "gap",
        "group",
        "live_since",
        "moved_at",
        "offset",
        "paused",
        "polls",
        "posted",
        "progress",
        "readers",
        "retry_ms",
        "state",
        "subscription",
        "timers",
        "told_trimmed",
        "values",
        "values_of",
        "write",
    )

    connection: Detached
    group: Group
    write: Callable[[bytes], None]

    def __init__(
        self,
        readers: Readers,
        subscription: Subscription,
        offset: int,
        catalog: CatalogPlace | None,
        gap: Gap | None,
    ) -> None:
        """What is above `offset` is sent, and what follows `catalog` (None: the state first)."""
        self.readers = readers
        self.subscription = subscription
        self.offset = offset
        self.catalog = catalog
        self.gap = gap
        """To be told first."""
        self.told_trimmed = readers.history.trimmed(subscription.selector)
        """Up to where it knows of what is gone: where it begins, that much was told or not asked
        for."""
        self.state = State.LAGGING
        self.paused = False
        self.posted = False
        """A turn of `pump` is due."""
        self.fetching = False
        self.values: Iterator[CatalogEvent | None] | None = None
        """The state of the catalog, as far as it is not sent yet."""
        self.values_of = 0
        """The number of the catalog's reset that they come after."""
        self.beside: dict[str, bytes] | None = None
        """What was told of the topics beside the catalog's log since it was live last."""
        self.beside_of = -1
        """How often live readers had been told of them when this one knew as much."""
        self.polls = False
        """Behind a long poll: `beside` is then kept, since its cursor tells of it."""
        self.timers: list[Timer] = []
        self.live_since = 0
        """The pass in which it became live."""
        self.bucket = 0
        self.ends_at = 0.0
        self.moved_at = 0.0
        self.progress = 0
        self.retry_ms = 0
        self.write = _nowhere

    # ------------------------------------------------------------------ the server's calls

    def start(self, connection: Detached) -> None:
        """The head is written: greet, then catch up."""
        self.connection = connection
        self.write = connection.write
        self.readers.started(self)
        self._greet()
        self.pump()

    def behind(self) -> None:
        """The connection is full."""
        self.paused = True
        self.fall_behind()
        self.readers.stalls(self)

    def drained(self) -> None:
        """The connection takes bytes again."""
        self.paused = False
        self.readers.moves(self)
        self.post()

    def gone(self) -> None:
        """The connection is lost."""
        if self.state is not State.ENDED:
            self.end("gone")

    def stopping(self) -> None:
        """The server drains."""
        self.say_good_bye("stop", 0.0)

    def poll(self, told: str) -> None:
        """Be a long poll's: its client was told of leader and members what `told`, a part of its
        cursor, says."""
        self.polls = True
        if self.readers.catalog is not None:
            events = self.readers.catalog.beside(self.subscription.selector)
            self.beside = still_known(told, events)

    # ------------------------------------------------------------------ states

    def fall_behind(self) -> None:
        """Catch up on one's own from now on; all that live readers have for certain is had."""
        if self.state is not State.LIVE:
            return
        self.state = State.LAGGING
        self.group.live.pop(self, None)
        delivery = self.readers.delivery
        self.offset = max(self.offset, delivery.floor)
        floor = delivery.floor_catalog
        if floor is not None and self.catalog is not None and floor.epoch == self.catalog.epoch:
            self.catalog = max(self.catalog, floor, key=_standing)
        if not self.paused:
            self.post()

    def post(self) -> None:
        """Let `pump` run soon."""
        if not self.posted and self.state is State.LAGGING and not self.fetching:
            self.posted = True
            self.readers.turns.post(self.pump)

    def end(self, reason: str) -> None:
        """No more of this reader; whoever calls has seen to the connection."""
        self.state = State.ENDED
        self.write = _nowhere
        self.values = None
        self.readers.ended(self, reason)

    def cut(self, reason: str) -> None:
        """Cut the connection: its client sees an unfinished answer, and comes back."""
        self.end(reason)
        self.connection.abort()

    def say_good_bye(self, reason: str, ends_in_s: float) -> None:
        """Announce the end (`hub.bye`), and end in order if it is now."""
        if self.state is State.ENDED:
            return
        fields: dict[str, object] = {"reason": reason, "ends_in": round(ends_in_s, 1)}
        last = named(self.subscription.format, "hub.bye", fields)
        if ends_in_s > 0:
            self._send(last)
            return
        connection = self.connection
        self.end(reason)
        connection.close(self.framed(last))

    # ------------------------------------------------------------------ catching up

    def pump(self) -> None:
        """Send what follows the cursors, until the connection is full or this turn's share is
        given; live once nothing is left."""
        self.posted = False
        if self.state is not State.LAGGING or self.paused or self.fetching:
            return
        selector = self.group.selector
        if selector.hub and not self._catch_up_with_history():
            return
        if selector.catalog and not self._catch_up_with_catalog():
            return
        if self.state is not State.LAGGING or self.paused:
            return
        if self.readers.delivery.level(self):
            self.state = State.LIVE
            self.live_since = self.readers.delivery.number
            self.group.live[self] = None
            if not self.polls:
                self.beside = None
        else:
            self.readers.waits(self)

    def _catch_up_with_history(self) -> bool:
        """Whether nothing is left up to where the delivery stands."""
        taken = self.readers.delivery.taken
        if self.offset >= taken:
            return True
        updates = self.readers.history.recent(self.offset, PUMP_BYTES)
        if updates is None:
            self.fetching = True
            self.readers.fetch(self)
            return False
        self.tell_trimmed()  # memory has holes, too, where retention took something
        self.take(updates)
        self.post()
        return False

    def take(self, updates: Sequence[Update]) -> None:
        """Send those of the updates after the cursor that are wanted."""
        taken = self.readers.delivery.taken
        wants, format = self.group.selector.wants, self.subscription.format
        parts = []
        for update in updates:
            if update.offset > taken:
                self.offset = max(self.offset, taken)  # between them there is nothing any more
                break
            self.offset = update.offset
            if wants(update.topics, update.private):
                if self.group.composite:
                    parts.append(update.encoded_as(format, self.cursor() or ""))
                else:
                    parts.append(update.encoded(format))
        if parts:
            self.readers.delivery.delivered += len(parts)
            self._send(b"".join(parts))

    def tell_trimmed(self) -> None:
        """`hub.gap`, if retention has taken what this reader may have wanted."""
        history = self.readers.history
        upto = history.trimmed(self.group.selector)
        if upto > max(self.offset, self.told_trimmed):
            self.told_trimmed = upto
            self.tell_gap(history.gap(self.offset, upto))

    def tell_gap(self, gap: Gap) -> None:
        """`hub.gap`, with the cursor after it."""
        self.readers.gaps += 1
        fields = {
            "requested": gap.requested,
            "oldest": gap.oldest,
            "newest": gap.newest,
            "lost": gap.lost,
        }
        self._send(named(self.subscription.format, "hub.gap", fields, id=self.cursor()))

    def _catch_up_with_catalog(self) -> bool:
        """Whether nothing is left up to where the delivery stands."""
        catalog, taken = self.readers.catalog, self.readers.delivery.taken_catalog
        if catalog is None or not catalog.ready or taken is None:
            return True
        if self.values is not None:
            return self._send_values(self.values, catalog)
        beside_told = self.readers.delivery.beside_told
        if self.catalog == taken and self.beside_of == beside_told:
            return True
        events = catalog.since(self.catalog, self.group.selector) if self.catalog else None
        if events is None:
            if self.catalog is not None:
                self._tell_catalog_gap(self.catalog, catalog.oldest, catalog.place)
            self.catalog = None
            self.values_of = self.readers.delivery.resets
            self.values = iter(catalog.state(self.group.selector))
            self.post()
            return False
        if self.polls:  # whatever it has not been told of, however long others know it
            events = [*events, *catalog.beside(self.group.selector)]
        if not self._send_changes(events, taken):
            return False
        self.beside_of = beside_told
        return True

    def _tell_catalog_gap(
        self, requested: CatalogPlace, oldest: CatalogPlace, newest: CatalogPlace
    ) -> None:
        first, then, last = (str(Cursor(catalog=place)) for place in (requested, oldest, newest))
        self.catalog = None
        self.tell_gap(Gap(first, then, last, None))

    def _send_values(self, values: Iterator[CatalogEvent | None], catalog: CatalogTopics) -> bool:
        """A share of the state, without a cursor: one that is cut begins with the state again."""
        size, parts = 0, []
        for event in values:
            if event is None:  # enough for one turn of the loop
                size = PUMP_BYTES
            else:
                if event.topic in BESIDE:
                    self._is_news(event)
                parts.append(event.encoded_as(self.subscription.format, None))
                size += len(parts[-1])
            if size >= PUMP_BYTES:
                self._send(b"".join(parts))
                self.post()
                return False
        self.values = None
        if self.values_of == self.readers.delivery.resets:
            self.catalog = catalog.place
            parts.append(self._mark())
        self._send(b"".join(parts))  # (replaced meanwhile: the state begins again)
        self.post()
        return False

    def _send_changes(self, events: Sequence[CatalogEvent], taken: CatalogPlace) -> bool:
        delivery, size, parts = self.readers.delivery, 0, []
        for event in events:
            if event.index > taken.index:
                continue  # (leader and members, at the end, may be of an earlier one)
            id = delivery.catalog_id(event, self.group, self.offset)
            if not event.part and not self._is_news(event):
                continue
            if event.part:
                self.catalog = CatalogPlace(
                    event.epoch, event.index, 0 if event.last else event.part
                )
            parts.append(event.encoded_as(self.subscription.format, id))
            size += len(parts[-1])
            if size >= PUMP_BYTES and event.part:
                # from where it is then, leader and members may be no news any more
                parts += [
                    it.encoded_as(self.subscription.format, None)
                    for it in events
                    if not it.part and it.index <= taken.index and self._is_news(it)
                ]
                self._send(b"".join(parts))
                self.post()
                return False
        self.catalog = taken if self.catalog is None else max(self.catalog, taken, key=_standing)
        if parts:
            self._send(b"".join(parts))
        return True

    def _is_news(self, event: CatalogEvent) -> bool:
        """Of a topic beside the log: whether this reader was told something else last."""
        if self.beside is None:
            self.beside = {}
        known = self.beside.get(event.topic)
        self.beside[event.topic] = event.data
        return known != event.data

    # ------------------------------------------------------------------ what is said beside events

    def _greet(self) -> None:
        """The reconnection time and the cursor, so that even a stream that ends before its first
        event is resumed where it began."""
        format, id = self.subscription.format, self.cursor()
        fields: dict[str, object] = {"cursor": id, **self.readers.greeting(self)}
        if not self.subscription.greets:
            if format is Format.SSE:
                self._send(block(None, id=id, retry_ms=self.retry_ms))
        elif format is Format.SSE:
            head = block(None, retry_ms=self.retry_ms)
            self._send(head + named(format, "hub.hello", fields, id=id))
        else:
            self._send(named(format, "hub.hello", fields, id=id))
        if self.gap is not None:
            gap, self.gap = self.gap, None
            self.tell_gap(gap)

    def _mark(self) -> bytes:
        """The state is whole: from here on its cursor holds. A bare id is kept by who parses
        server-sent events, though it dispatches nothing (WHATWG HTML, 9.2.6); lines have no such
        thing."""
        format, id = self.subscription.format, self.cursor()
        if self.subscription.greets or format is not Format.SSE:
            return named(format, "hub.state", {"cursor": id}, id=id)
        return block(None, id=id)

    def keep_alive(self) -> None:
        """Let proxies see that the stream lives, and move the cursor of a quiet one."""
        if self.state is State.ENDED or self.paused:
            return
        if self.subscription.format is not Format.SSE:
            self._send(b"\n")
        else:
            cursor = self.cursor()
            self._send(comment() if cursor is None else block(None, id=cursor))

    def beat(self) -> None:
        """`hub.beat`: what a script can see of whether its stream lives."""
        if self.state is State.ENDED or self.paused:
            return
        cursor = self.cursor()
        fields: dict[str, object] = {"cursor": cursor, **self.readers.standing()}
        event = named(self.subscription.format, "hub.beat", fields, id=cursor)
        self._send(event)

    def cursor(self) -> str | None:
        """Where this reader stands for certain; None if it has the catalog alone, and not yet."""
        selector, delivery = self.group.selector, self.readers.delivery
        offset, catalog = self.offset, self.catalog
        if self.state is State.LIVE:
            offset = max(offset, delivery.floor)
            if catalog is not None and delivery.floor_catalog is not None:
                catalog = max(catalog, delivery.floor_catalog, key=_standing)
        if self.values is not None:
            catalog = None
        if catalog is None and not selector.hub:
            return None
        place = self.readers.history.place(offset) if selector.hub else None
        return str(Cursor(place, catalog, beside=self._told_beside() if self.polls else ""))

    def _told_beside(self) -> str:
        """What its client was told of leader and members. (Of a pass in the making it may know
        already: then it is told again.)"""
        told = dict(self.beside or {})
        if self.state is State.LIVE:
            floor = self.readers.delivery.beside_floor
            wants = self.group.selector.wants_catalog
            told |= {topic: data for topic, data in floor.items() if wants(topic)}
        return digests(told)

    def framed(self, data: bytes) -> bytes:
        """With the framing that the head announced."""
        return chunk(data) if self.connection.chunked else data

    def _send(self, data: bytes) -> None:
        if data and self.state is not State.ENDED:
            self.write(self.framed(data))


def _nowhere(_: bytes) -> None:
    """Where an ended reader writes."""


def _standing(place: CatalogPlace) -> tuple[int, float]:
    return place.index, place.part or float("inf")
