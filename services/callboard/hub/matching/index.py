"""Who asked for a topic: an index over selectors, and so over all streams. Pure.

Exact topics are a dict. Patterns and templates lie in buckets by the text that all their topics
begin with, so that a topic never seen before costs the patterns of its own bucket. What was found
is kept, and forgotten when what it was found in changes.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator, Sequence

from callboard.hub.matching.matchers import Pattern, Template, names_catalog
from callboard.hub.matching.urls import HUB_URL, locate
from callboard.hub.ports import Matcher, Selector

FOUND_MAX = 4096
"""Results kept."""
REFERENCES_MAX = 1 << 20
"""Selectors in all results together: with 5,000 readers of everything a result has 5,000."""


class Index:
    """Selectors in use, each counted as often as it was added."""

    def __init__(self, base: str = HUB_URL) -> None:
        """`base` is the hub's URL, as that of all matchers."""
        self._uses: dict[Selector, int] = {}
        self._hub = _Table(base)
        self._catalog = _Table(base)
        self._found: dict[tuple[tuple[str, ...], bool], tuple[Selector, ...]] = {}
        self._references = 0

    def __len__(self) -> int:
        """How many different selectors there are."""
        return len(self._uses)

    def add(self, selector: Selector) -> None:
        """One more stream with this selector."""
        uses = self._uses.get(selector, 0)
        self._uses[selector] = uses + 1
        if not uses:
            for matcher in selector.matchers:
                self._table(matcher).add(matcher, selector)
            self._forget()

    def remove(self, selector: Selector) -> None:
        """One stream less. Raises KeyError if there is none."""
        uses = self._uses[selector] - 1
        if uses:
            self._uses[selector] = uses
            return
        del self._uses[selector]
        for matcher in selector.matchers:
            self._table(matcher).remove(matcher, selector)
        self._forget()

    def find(self, topics: tuple[str, ...], private: bool) -> Sequence[Selector]:
        """The selectors that want an update, each once."""
        key = (topics, private)
        found = self._found.get(key)
        if found is None:
            found = tuple(self._hub.find(topics))
            if private:
                found = tuple(one for one in found if one.wants(topics, private))
            self._keep(key, found)
        return found

    def find_catalog(self, topic: str) -> Sequence[Selector]:
        """The selectors that want a catalog topic."""
        return tuple(self._catalog.find((topic,)))

    def _table(self, matcher: Matcher) -> _Table:
        return self._catalog if names_catalog(matcher) else self._hub

    def _keep(self, key: tuple[tuple[str, ...], bool], found: tuple[Selector, ...]) -> None:
        self._references += len(found)
        while self._found and (len(self._found) >= FOUND_MAX or self._references > REFERENCES_MAX):
            oldest = next(iter(self._found))
            self._references -= len(self._found.pop(oldest))
        self._found[key] = found

    def _forget(self) -> None:
        self._found.clear()
        self._references = 0


class _Table:
    """Matchers, and the selectors that have them."""

    def __init__(self, base: str) -> None:
        self._base = base
        self._exact: dict[str, dict[Selector, None]] = {}
        self._everything: dict[Selector, None] = {}
        self._patterns: dict[Matcher, dict[Selector, None]] = {}
        self._buckets = {space: _Buckets() for space in ("topic", "url", "path")}
        self._known: dict[str, tuple[Matcher, ...]] = {}

    def add(self, matcher: Matcher, selector: Selector) -> None:
        if isinstance(matcher, Template | Pattern):
            if matcher not in self._patterns:
                self._patterns[matcher] = {}
                space, prefix = matcher.bucket
                self._buckets[space].add(prefix, matcher)
                self._known.clear()
            self._patterns[matcher][selector] = None
        elif matcher.kind == "all":
            self._everything[selector] = None
        else:
            self._exact.setdefault(matcher.text, {})[selector] = None

    def remove(self, matcher: Matcher, selector: Selector) -> None:
        if isinstance(matcher, Template | Pattern):
            having = self._patterns[matcher]
            del having[selector]
            if not having:
                del self._patterns[matcher]
                space, prefix = matcher.bucket
                self._buckets[space].remove(prefix, matcher)
                self._known.clear()
        elif matcher.kind == "all":
            del self._everything[selector]
        else:
            having = self._exact[matcher.text]
            del having[selector]
            if not having:
                del self._exact[matcher.text]

    def find(self, topics: tuple[str, ...]) -> dict[Selector, None]:
        found = dict(self._everything)
        for topic in topics:
            found |= self._exact.get(topic, {})
            if self._patterns:
                for matcher in self._matching(topic):
                    found |= self._patterns[matcher]
        return found

    def _matching(self, topic: str) -> tuple[Matcher, ...]:
        known = self._known.get(topic)
        if known is None:
            known = tuple(one for one in self._candidates(topic) if one.matches(topic))
            if len(self._known) >= FOUND_MAX:
                self._known.pop(next(iter(self._known)))
            self._known[topic] = known
        return known

    def _candidates(self, topic: str) -> Iterator[Matcher]:
        yield from self._buckets["topic"].candidates(topic)
        if self._buckets["url"] or self._buckets["path"]:
            place = locate(topic, self._base)
            if place is not None:
                yield from self._buckets["url"].candidates(place.origin + place.path)
                yield from self._buckets["path"].candidates(place.path)


class _Buckets:
    """Matchers by the text that what they match begins with."""

    def __init__(self) -> None:
        self._by_prefix: dict[str, dict[Matcher, None]] = {}
        self._having: dict[int, int] = {}
        self._lengths: list[int] = []

    def __bool__(self) -> bool:
        return bool(self._by_prefix)

    def add(self, prefix: str, matcher: Matcher) -> None:
        if prefix not in self._by_prefix:
            self._by_prefix[prefix] = {}
            having = self._having.get(len(prefix), 0)
            self._having[len(prefix)] = having + 1
            if not having:
                insort(self._lengths, len(prefix))
        self._by_prefix[prefix][matcher] = None

    def remove(self, prefix: str, matcher: Matcher) -> None:
        bucket = self._by_prefix[prefix]
        del bucket[matcher]
        if not bucket:
            del self._by_prefix[prefix]
            self._having[len(prefix)] -= 1
            if not self._having[len(prefix)]:
                del self._having[len(prefix)]
                self._lengths.remove(len(prefix))

    def candidates(self, text: str) -> Iterator[Matcher]:
        """The matchers whose text this one begins with."""
        for length in self._lengths:
            if length > len(text):
                return
            yield from self._by_prefix.get(text[:length], ())
