"""What a stream asks for and may see. Pure.

Private updates, by both drafts: the stream's matchers name one of the update's topics, and the
token grants one of them, which need not be the same one.
"""

from __future__ import annotations

from collections.abc import Iterable

from callboard.hub.matching.grants import TopicSet
from callboard.hub.matching.matchers import names_catalog
from callboard.hub.ports import Grants, Matcher, Selector


class TopicSelector:
    """`Selector`: equal matchers, in any order, and equal grants make equal selectors."""

    __slots__ = ("_catalog", "_grants", "_hash", "_hub", "_matchers")

    def __init__(self, matchers: Iterable[Matcher], grants: Grants | None) -> None:
        self._matchers = tuple(dict.fromkeys(matchers))
        self._grants = grants
        self._hub = TopicSet(one for one in self._matchers if not names_catalog(one))
        self._catalog = TopicSet(one for one in self._matchers if names_catalog(one))
        self._hash = hash((frozenset(self._matchers), grants))

    @property
    def matchers(self) -> tuple[Matcher, ...]:
        """In the order that they were asked for."""
        return self._matchers

    @property
    def hub(self) -> bool:
        """Whether one of them can name a topic of the hub's history."""
        return bool(self._hub.matchers)

    @property
    def catalog(self) -> bool:
        """Whether one of them names topics of the catalog."""
        return bool(self._catalog.matchers)

    def wants(self, topics: tuple[str, ...], private: bool) -> bool:
        """Whether an update goes to the stream."""
        return self._hub.has_any(topics) and (not private or self._may_read(topics))

    def _may_read(self, topics: tuple[str, ...]) -> bool:
        grants = self._grants
        return grants is not None and any(map(grants.allow, topics))

    def wants_catalog(self, topic: str) -> bool:
        """Whether a catalog topic's values go to the stream."""
        return self._catalog.has(topic)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, TopicSelector)
            and self._hub.matchers == other._hub.matchers
            and self._catalog.matchers == other._catalog.matchers
            and self._grants == other._grants
        )

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"TopicSelector({[one.text for one in self._matchers]!r}, {self._grants!r})"


def selector(matchers: Iterable[Matcher], grants: Grants | None = None) -> Selector:
    """The selector of a stream; `grants` are the token's for reading private updates."""
    return TopicSelector(matchers, grants)
