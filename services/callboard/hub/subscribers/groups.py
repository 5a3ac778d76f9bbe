"""Readers that get the same bytes at the same time.

Ten thousand streams of one topic are one group: what goes to them is encoded, joined and framed
once. A reader is in its group while it is live; while it catches up it is on its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from callboard.hub.event import Format
from callboard.hub.ports import Selector

if TYPE_CHECKING:
    from callboard.hub.subscribers.reader import Reader


class Index(Protocol):
    """Finds the selectors that an update goes to (`callboard.hub.matching`)."""

    def add(self, selector: Selector) -> None: ...

    def remove(self, selector: Selector) -> None: ...

    def find(self, topics: tuple[str, ...], private: bool) -> Sequence[Selector]: ...

    def find_catalog(self, topic: str) -> Sequence[Selector]: ...


class Group:
    """Of one selector, format and framing."""

    __slots__ = ("chunked", "format", "live", "readers", "selector")

    def __init__(self, selector: Selector, format: Format, chunked: bool) -> None:
        self.selector = selector
        self.format = format
        self.chunked = chunked
        self.readers = 0
        """Live or not."""
        self.live: dict[Reader, None] = {}

    @property
    def composite(self) -> bool:
        """Whether its events carry a cursor of both histories."""
        return self.selector.hub and self.selector.catalog


class Groups:
    """All groups there are, and the index that finds them."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._by_selector: dict[Selector, list[Group]] = {}

    def __iter__(self) -> Iterator[Group]:
        for groups in self._by_selector.values():
            yield from groups

    def join(self, selector: Selector, format: Format, chunked: bool) -> Group:
        """The group of a new reader."""
        groups = self._by_selector.get(selector)
        if groups is None:
            groups = self._by_selector[selector] = []
            self._index.add(selector)
        for group in groups:
            if group.format is format and group.chunked == chunked:
                break
        else:
            group = Group(groups[0].selector if groups else selector, format, chunked)
            groups.append(group)
        group.readers += 1
        return group

    def leave(self, group: Group) -> None:
        """A reader has gone; with the last one the group goes."""
        group.readers -= 1
        if group.readers:
            return
        groups = self._by_selector[group.selector]
        groups.remove(group)
        if not groups:
            del self._by_selector[group.selector]
            self._index.remove(group.selector)

    def of_update(self, topics: tuple[str, ...], private: bool) -> Iterator[Group]:
        """The groups an update goes to."""
        for selector in self._index.find(topics, private):
            yield from self._by_selector.get(selector, ())

    def of_catalog(self, topic: str) -> Iterator[Group]:
        """The groups a catalog topic's change goes to."""
        for selector in self._index.find_catalog(topic):
            yield from self._by_selector.get(selector, ())
