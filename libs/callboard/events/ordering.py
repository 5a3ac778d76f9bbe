"""Which events of a resumed stream were seen before. Pure.

A hub's ids are places in its histories, and say so by `#`, which no publisher's id begins with:
`#EPOCH.OFFSET`, `#~EPOCH.INDEX[.PART]`, or both (part: of an index of which not all was seen).
Within an epoch they only grow, so an event at or before the place that was seen is a repeat.
Any other id has no order. A hub that looks one up may begin before where we stood, if two
events have it: what follows then is a run of events that were all seen, at the beginning of the
connection. So an id without order is a repeat there, as long as the run lasts, and nowhere else.
"""

from __future__ import annotations

import re
from collections import OrderedDict

REMEMBERED = 4096
"""Ids without an order that are remembered."""

_NUMBER = r"([0-9]{1,19})"
_PLACES = re.compile(
    rf"#(?:([a-z0-9]{{1,32}})\.{_NUMBER})?(?:~([a-z0-9]{{1,32}})\.{_NUMBER}(?:\.{_NUMBER})?)?"
)

Place = tuple[str, tuple[int, float]]
"""Epoch, and what grows within it."""


class Seen:
    """What a subscription has had, over all its connections."""

    def __init__(self, last_event_id: str = "") -> None:
        """`last_event_id` is where an earlier subscription stood."""
        self._history: Place | None = None
        self._catalog: Place | None = None
        self._others: OrderedDict[str, None] = OrderedDict()
        self._in_run = False
        self.is_news(last_event_id)

    def connection(self) -> None:
        """A connection begins: it may repeat what an earlier one brought."""
        self._in_run = True

    def is_news(self, id: str) -> bool:
        """Take the id that an event came with; whether the event was not seen before."""
        found = _PLACES.fullmatch(id)
        if found is None or id == "#":
            return self._other_is_news(id)
        epoch, offset, catalog_epoch, index, part = found.groups()
        history = (epoch, (int(offset), 0.0)) if epoch else None
        catalog: Place | None = None
        if catalog_epoch:
            catalog = catalog_epoch, (int(index), float(part) if part else float("inf"))
        history_news = _is_after(history, self._history)
        catalog_news = _is_after(catalog, self._catalog)
        if history_news:
            self._history = history
        if catalog_news:
            self._catalog = catalog
        return history_news or catalog_news

    def gap(self) -> None:
        """The hub told a gap. Values of the catalog come again from here, by older ids perhaps."""
        self._catalog = None

    def _other_is_news(self, id: str) -> bool:
        if not id:
            return True
        known = id in self._others
        if known and self._in_run:
            return False
        self._in_run = False
        self._others[id] = None
        self._others.move_to_end(id)
        if len(self._others) > REMEMBERED:
            self._others.popitem(last=False)
        return True


def _is_after(place: Place | None, seen: Place | None) -> bool:
    if place is None:
        return False
    return seen is None or place[0] != seen[0] or place[1] > seen[1]
