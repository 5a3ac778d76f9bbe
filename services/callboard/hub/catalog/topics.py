"""The catalog's topics: `CatalogTopics` of ports.py. Pure but for the clock that it is given.

An event's id is (epoch of the catalog, Raft index, part): the parts of an index are the topics
that it touched, in the order of their names, from 1. All of it follows from the log, so a reader
takes its place from one hub to another.

`/cluster/leader` and `/cluster/members` are no entries of the log: part 0, which moves no cursor.
They are sent when they change, with every state, and by `since` unless they had been as they are
for a while when this hub came to the reader's index.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from callboard.catalog.render import json
from callboard.hub.catalog import naming
from callboard.hub.catalog.ring import BYTES_MAX, EVENTS_MAX, Ring
from callboard.hub.catalog.stepwise import StepwiseCopy
from callboard.hub.catalog.touched import touched
from callboard.hub.catalog.values import Values, event_data
from callboard.hub.cursor import CatalogPlace
from callboard.hub.event import CatalogEvent
from callboard.hub.ports import Matcher, Selector

SETTLED_S = 10.0
"""After so long every hub that follows knows of a new leader or member."""

UNWANTED_PER_BREATH = 50
"""So many topics are passed over at a time."""

_EPOCH = re.compile(r"[a-z0-9]{1,32}")
_PLAIN = re.compile(r"[A-Za-z0-9/_~-]*")

Changed = Callable[[Sequence[CatalogEvent]], None]


@dataclass(slots=True)
class _Beside:
    """A value beside the log."""

    value: bytes
    event: CatalogEvent
    changed_s: float
    """Monotonic."""
    index: int
    """Whoever was at a higher index knows of it."""


class Topics:
    """The values now, and the latest changes."""

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        waits: Callable[[], None] = lambda: None,
        ring_bytes_max: int = BYTES_MAX,
        ring_events_max: int = EVENTS_MAX,
    ) -> None:
        """`clock` is monotonic, the feed's. `waits` is called when `steps` has something to do."""
        self.copy = StepwiseCopy(waits=waits, replaced=self._replaced, beaten=self._beaten)
        """What the feed fills."""
        self._clock = clock
        self._ring = Ring(0, bytes_max=ring_bytes_max, events_max=ring_events_max)
        self._values = Values()
        self._epoch = ""
        self._beside: dict[str, _Beside] = {}
        self._changed: list[Changed] = []
        self._reset: list[Callable[[], None]] = []
        self._generation = 0
        """Goes up when the values are replaced."""
        self.resets = 0

    # -- CatalogTopics ----------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether there is a catalog."""
        return self.copy.ready

    @property
    def place(self) -> CatalogPlace:
        """Where the values stand; of no meaning before there are any."""
        return CatalogPlace(self._epoch, self.copy.stands_at)

    @property
    def oldest(self) -> CatalogPlace:
        """The place after which changes are known."""
        return CatalogPlace(self._epoch, self._ring.oldest)

    @property
    def ring_events(self) -> int:
        """How many of the latest changes are kept."""
        return len(self._ring)

    @property
    def ring_bytes(self) -> int:
        """What they take, about."""
        return self._ring.size_bytes

    def age_s(self) -> float:
        """How old the copy is; infinite without one."""
        return self.copy.age_s(self._clock())

    def listen(self, changed: Changed) -> None:
        """Be told of the events of one index together, in order; of those beside the log alone."""
        self._changed.append(changed)

    def listen_reset(self, reset: Callable[[], None]) -> None:
        """Be told that the values were replaced, and when the first are there."""
        self._reset.append(reset)

    def since(self, place: CatalogPlace, selector: Selector) -> Sequence[CatalogEvent] | None:
        """The changes after a place; none if it is ahead of this hub."""
        if not self.ready or place.epoch != self._epoch:
            return None
        following = self._ring.after(place.index, place.part)
        if following is None:
            return None
        wanted: dict[str, bool] = {}
        found = []
        for event in following:
            topic = event.topic
            if topic not in wanted:
                wanted[topic] = selector.wants_catalog(topic)
            if wanted[topic]:
                found.append(event)
        return found + [
            beside.event
            for topic, beside in self._beside.items()
            if place.index <= beside.index and selector.wants_catalog(topic)
        ]

    def beside(self, selector: Selector) -> Sequence[CatalogEvent]:
        """Leader and members, as they are."""
        return [it.event for topic, it in self._beside.items() if selector.wants_catalog(topic)]

    def state(self, selector: Selector) -> Iterator[CatalogEvent | None]:
        """The value of each topic; None where others should have their turn.

        What changes meanwhile comes again, so that at the end all that was given is of `place` as
        it is then: `since` goes on from there. (Of an index whose events are being made a value may
        be given before its event, which follows.) Ends early when the values are replaced. All
        events are of part 0: half a state is no place to resume from.
        """
        generation = self._generation
        beside: dict[str, CatalogEvent] = {}
        upto = self.copy.stands_at
        topics: Iterator[str | None] = self._all(selector)
        first = True
        while True:
            for topic in topics:
                yield None if topic is None else self._current(topic, gone=not first)
                if generation != self._generation:
                    return
            missed = self._missed(upto, selector)
            upto = self.copy.stands_at
            fresh = [
                each.event
                for name, each in self._beside.items()
                if beside.get(name) is not each.event and selector.wants_catalog(name)
            ]
            beside |= {event.topic: event for event in fresh}
            if missed is not None and not missed and not fresh:
                return
            topics, first = (self._all(selector), True) if missed is None else (iter(missed), False)
            for event in fresh:
                yield event
                if generation != self._generation:
                    return

    # -- making events ----------------------------------------------------------------------

    def steps(self) -> Iterator[None]:
        """Make the events of what was received: a topic's at each step."""
        while (group := self.copy.step()) is not None:
            generation = self._generation
            index = group.index
            topics = touched(group.changes, self.copy.tables)
            events = []
            for part, (topic, places) in enumerate(topics.items(), 1):
                value = self._values.value(topic, self.copy.tables, places)
                data = event_data(topic, index, value)
                last = part == len(topics)
                events.append(CatalogEvent(topic, self._epoch, index, part, last=last, data=data))
                yield
                if generation != self._generation:
                    break
            else:
                self.copy.stepped()
                self._tell(events)

    def _tell(self, events: Sequence[CatalogEvent]) -> None:
        if events:
            self._ring.add(events)
            for changed in self._changed:
                changed(events)

    def _replaced(self, same_as_at: int | None) -> None:
        """Take note of a snapshot: what led to it is not known, but perhaps that it is nothing."""
        index = self.copy.applied_index
        if same_as_at is not None:
            self._ring.skip(same_as_at, index)
            return  # whoever is where we were has seen all that shows
        self._ring.restart(index)
        self._epoch = epoch_text(self.copy.epoch)
        self._values.clear()
        self._beside.clear()
        self._generation += 1
        self.resets += 1
        for reset in self._reset:
            reset()

    # -- beside the log ---------------------------------------------------------------------

    def _beaten(self, now: float) -> None:
        copy = self.copy
        leader = json({"Leader": copy.leader, "Term": copy.term})
        members = json(
            [
                {"Name": it.name, "Addr": it.address, "Status": it.status, "Server": it.server}
                for it in sorted(copy.members, key=lambda it: it.name)
            ]
        )
        for topic, value in zip(naming.BESIDE, (leader, members), strict=True):
            known = self._beside.get(topic)
            if known is None or known.value != value:
                index = copy.stands_at
                data = event_data(topic, index, [value])
                event = CatalogEvent(topic, self._epoch, index, 0, last=False, data=data)
                self._beside[topic] = _Beside(value, event, now, copy.applied_index)
                for changed in self._changed:
                    changed([event])
            elif now - known.changed_s < SETTLED_S:
                known.index = copy.applied_index

    # -- the walk through all topics --------------------------------------------------------

    def _current(self, topic: str, *, gone: bool) -> CatalogEvent | None:
        """A topic's value now; one that is not there is told only if `gone`."""
        value = self._values.value(topic, self.copy.tables)
        if value is None and not gone:
            return None
        index = self.copy.stands_at
        data = event_data(topic, index, value)
        return CatalogEvent(topic, self._epoch, index, 0, last=False, data=data)

    def _missed(self, index: int, selector: Selector) -> list[str] | None:
        """The topics that changed after an index; None if that is not known any more."""
        events = self._ring.after(index)
        if events is None:
            return None
        return sorted(filter(selector.wants_catalog, {event.topic for event in events}))

    def _all(self, selector: Selector) -> Iterator[str | None]:
        """The topics there are, kind by kind; None after many unwanted ones. May give some that
        are not there."""
        matchers = [each for each in selector.matchers if each.text.startswith(naming.BEGINNINGS)]
        if all(matcher.kind == "exact" for matcher in matchers):
            yield from sorted(filter(selector.wants_catalog, {each.text for each in matchers}))
            return
        passed = 0
        for topic in self._names({_plain_beginning(matcher) for matcher in matchers}):
            if selector.wants_catalog(topic):
                yield topic
                continue
            passed += 1
            if passed % UNWANTED_PER_BREATH == 0:
                yield None

    def _names(self, beginnings: set[str]) -> Iterator[str]:
        """The names of all topics of those kinds that can begin like one of `beginnings`."""

        def wanted(kind: str) -> bool:
            return any(kind.startswith(each) or each.startswith(kind) for each in beginnings)

        tables = self.copy.tables
        nodes = tables.nodes()
        if wanted(naming.CHECKS):
            for node in nodes:
                for check in tables.node_checks(node.name):
                    yield naming.check_topic(check.node, check.check_id)
        if wanted(naming.NODES):
            for node in nodes:
                yield naming.node_topic(node.name)
        if wanted(naming.SERVICES):
            for service in tables.service_names():
                yield naming.service_topic(service)


def _plain_beginning(matcher: Matcher) -> str:
    """What every topic that it matches begins with, or a part of that."""
    if matcher.kind == "exact":
        return matcher.text
    found = _PLAIN.match(matcher.text)
    return found[0] if found else ""


def epoch_text(epoch: str) -> str:
    """An epoch of the feed (a UUID) as cursors have it."""
    text = epoch.replace("-", "").lower()
    if _EPOCH.fullmatch(text):
        return text
    return hashlib.blake2b(epoch.encode(), digest_size=16).hexdigest()
