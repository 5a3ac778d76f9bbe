"""From what became visible to the connections of live readers: once encoded, in slices.

Deliveries are made in passes. A pass takes what has become visible since the last one (what came
meanwhile waits in the history's memory, so nothing queues here), joins for each group what goes to
it, and writes that to each live reader of the group: one write a reader, however many events. The
loop turns between slices, so that 10,000 readers hold nobody up.

`taken` is where a pass in the making stands, `floor` where every live reader stands for certain.
A reader is live while it is level with `taken`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from callboard.hub.cursor import CatalogPlace, Cursor
from callboard.hub.event import CatalogEvent, Format, Update
from callboard.hub.ports import CatalogTopics, History, Matcher, Selector
from callboard.hub.subscribers.groups import Group, Groups
from callboard.hub.subscribers.reader import Reader, State
from callboard.serve.wire import chunk

log = logging.getLogger(__name__)

SLICE = 256
"""Writes in one turn of the loop. (The event loop sends them after our turn, each for some
microseconds: counting our own time would not do.)"""

PASS_BYTES = 128 * 1024
"""Of the history in one pass: what a reader that stands still may be given at once."""


class _Everything:
    """A selector of all catalog topics."""

    matchers: tuple[Matcher, ...] = ()
    hub = False
    catalog = True

    def wants(self, topics: tuple[str, ...], private: bool) -> bool:
        return False

    def wants_catalog(self, topic: str) -> bool:
        return True


EVERYTHING: Selector = _Everything()


@dataclass(slots=True)
class _Job:
    """What one group gets in a pass."""

    readers: list[Reader]
    data: bytes
    events: int
    at: int = 0


class Delivery:
    """See the module. All calls on the event loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        history: History,
        catalog: CatalogTopics | None,
        groups: Groups,
        passed: Callable[[], None],
    ) -> None:
        """`passed` is called after each pass: readers may have become level."""
        self._loop = loop
        self._history = history
        self._catalog = catalog
        self._groups = groups
        self._passed = passed
        self.taken = history.head
        self.floor = history.head
        self.taken_catalog: CatalogPlace | None = None
        self.floor_catalog: CatalogPlace | None = None
        self.delivered = 0
        """Events written to readers, each counted once a reader."""
        self.number = 0
        """Of the pass. Who becomes live within one has had what its jobs hold."""
        self._jobs: list[_Job] = []
        self._awake = False
        self._beside: dict[str, CatalogEvent] = {}
        """Of the catalog, but beside its log (leader, members): not told to live readers yet."""
        self.beside_told = 0
        """How many passes told of them."""
        self.beside_floor: dict[str, bytes] = {}
        """The data of what every live reader was told of them last, by topic."""
        self._beside_taken: dict[str, bytes] = {}
        """The same of the pass in the making."""
        self.resets = 0
        """How often the catalog's values were replaced."""
        history.listen(self._wake)
        if catalog is not None:
            catalog.listen(self._changed)
            catalog.listen_reset(self._reset)
            self._reset()

    # ------------------------------------------------------------------ passes

    def _wake(self, _: Sequence[object] = ()) -> None:
        if not self._awake:
            self._awake = True
            self._loop.call_soon(self._turn)

    def _changed(self, events: Sequence[CatalogEvent]) -> None:
        self._beside |= {event.topic: event for event in events if not event.part}
        self._wake()

    def _turn(self) -> None:
        self._awake = False
        try:
            if self._jobs or self._take():
                self._write()
        except Exception:
            log.exception("delivering failed: readers catch up one by one")
            self._jobs.clear()
            self._beside_taken = {}
            self._set_down()
        if self._jobs:
            self._wake()
            return
        self.floor, self.floor_catalog = self.taken, self.taken_catalog
        self.beside_floor = self._beside_taken
        if self._history.head > self.taken or self._catalog_moved():
            self._wake()
        self._passed()

    def _catalog_moved(self) -> bool:
        catalog = self._catalog
        if catalog is None or not catalog.ready:
            return False
        return bool(self._beside) or catalog.place != self.taken_catalog

    def _take(self) -> bool:
        """Make the jobs of the next pass; whether there are any."""
        self.number += 1
        frames: dict[Group, list[bytes]] = {}
        updates = self._history.recent(self.taken, PASS_BYTES)
        if updates is None:  # we are behind what memory holds
            self._set_down()
            updates = ()
        self._join_updates(updates, frames)
        self._join_catalog(frames)
        for group, parts in frames.items():
            data = b"".join(parts)
            readers = list(group.live)
            self._jobs.append(_Job(readers, chunk(data) if group.chunked else data, len(parts)))
        return bool(self._jobs)

    def _join_updates(self, updates: Sequence[Update], frames: dict[Group, list[bytes]]) -> None:
        catalog = self.taken_catalog
        for update in updates:
            composite: dict[Format, bytes] = {}
            for group in self._groups.of_update(update.topics, update.private):
                if not group.live:
                    continue
                if not group.composite:
                    data = update.encoded(group.format)
                elif (made := composite.get(group.format)) is not None:
                    data = made
                else:
                    id = str(Cursor(self._history.place(update.offset), catalog))
                    data = composite[group.format] = update.encoded_as(group.format, id)
                frames.setdefault(group, []).append(data)
        if updates:
            self.taken = updates[-1].offset

    def _join_catalog(self, frames: dict[Group, list[bytes]]) -> None:
        catalog = self._catalog
        if catalog is None or not catalog.ready:
            return
        place = catalog.place
        known = self.taken_catalog
        events = catalog.since(known, EVERYTHING) if known is not None else None
        if events is None:
            self._reset()
            return
        beside, self._beside = self._beside, {}
        if beside:
            self.beside_told += 1
            told = {topic: event.data for topic, event in beside.items()}
            self._beside_taken = self._beside_taken | told
        for event in (*(each for each in events if each.part), *beside.values()):
            for group in self._groups.of_catalog(event.topic):
                if group.live:
                    data = event.encoded_as(group.format, self.catalog_id(event, group, self.taken))
                    frames.setdefault(group, []).append(data)
        self.taken_catalog = place

    def catalog_id(self, event: CatalogEvent, group: Group, offset: int) -> str | None:
        """The cursor that a catalog event gives the readers of a group, at `offset` of the hub."""
        if not event.part:
            return None
        place = CatalogPlace(event.epoch, event.index, 0 if event.last else event.part)
        return str(Cursor(self._history.place(offset) if group.composite else None, place))

    def _write(self) -> None:
        left, live = SLICE, State.LIVE
        taken, taken_catalog, number = self.taken, self.taken_catalog, self.number
        while left > 0 and self._jobs:
            job = self._jobs[-1]
            readers, data = job.readers[job.at : job.at + left], job.data
            written = 0
            for reader in readers:
                if reader.state is live and reader.live_since != number:
                    reader.offset, reader.catalog = taken, taken_catalog
                    reader.write(data)
                    written += 1
            self.delivered += written * job.events
            job.at += len(readers)
            left -= max(1, len(readers))
            if job.at >= len(job.readers):
                self._jobs.pop()

    # ------------------------------------------------------------------ losing ground

    def _set_down(self) -> None:
        """All live readers catch up on their own."""
        for group in self._groups:
            for reader in list(group.live):
                reader.fall_behind()
        self.taken = self.floor = self._history.head

    def _reset(self) -> None:
        """The catalog's values were replaced: its readers begin with the state again."""
        catalog = self._catalog
        if catalog is None or not catalog.ready:
            return
        self.taken_catalog = catalog.place
        self.resets += 1
        self._beside = {}
        self._beside_taken = self.beside_floor = {}
        for group in self._groups:
            if group.selector.catalog:
                for reader in list(group.live):
                    reader.fall_behind()
        self.floor_catalog = self.taken_catalog
        self._wake()

    def level(self, reader: Reader) -> bool:
        """Whether a reader has all that was taken."""
        if reader.offset != self.taken and reader.group.selector.hub:
            return False
        wants = reader.group.selector.catalog and self.taken_catalog is not None
        return not wants or reader.catalog == self.taken_catalog
