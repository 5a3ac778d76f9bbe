"""Expressions that name topics: one text, everything, a URI template, a URL pattern. Pure.

Compiled ones are kept by text, so that a thousand readers that ask the same share one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

from callboard.hub.catalog.naming import BEGINNINGS, canonical, canonical_template
from callboard.hub.matching import patterns, templates
from callboard.hub.matching.patterns import Compiled
from callboard.hub.matching.refusal import Refused
from callboard.hub.matching.templates import Automaton
from callboard.hub.matching.urls import HUB_URL
from callboard.hub.ports import Matcher

COMPILED_MAX = 1024
"""Patterns and templates kept (a URL pattern takes 70 kB)."""
KNOWN_MAX = 128
"""Topics whose result a pattern remembers; history is read one update at a time."""


@dataclass(frozen=True, slots=True)
class Exact:
    """One topic, byte for byte."""

    text: str
    kind: str = field(default="exact", init=False)

    def matches(self, topic: str) -> bool:
        return topic == self.text


@dataclass(frozen=True, slots=True)
class Everything:
    """`*`: every topic."""

    text: str = field(default="*", init=False)
    kind: str = field(default="all", init=False)

    def matches(self, topic: str) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class Template:
    """The topics that a URI template expands to, and the one that is its text."""

    text: str
    automaton: Automaton = field(compare=False, repr=False)
    kind: str = field(default="template", init=False)

    @property
    def bucket(self) -> tuple[str, str]:
        """What every matched topic begins with; as in `Pattern`."""
        return "topic", self.automaton.prefix

    def matches(self, topic: str) -> bool:
        return topic == self.text or self.automaton.matches(topic)


@dataclass(frozen=True, slots=True)
class Pattern:
    """The topics that a URL pattern matches."""

    text: str
    base: str
    """The hub's URL, that relative patterns and topics are relative to."""
    compiled: Compiled = field(compare=False, repr=False)
    kind: str = field(default="urlpattern", init=False)
    _known: dict[str, bool] = field(default_factory=dict, compare=False, repr=False, init=False)

    @property
    def bucket(self) -> tuple[str, str]:
        """What every matched topic begins with, and what of it (`topic`, `url`, `path`)."""
        return self.compiled.space, self.compiled.prefix

    def matches(self, topic: str) -> bool:
        known = self._known.get(topic)
        if known is None:
            known = self._test(topic)
            if len(self._known) >= KNOWN_MAX:
                self._known.clear()
            self._known[topic] = known
        return known

    def _test(self, topic: str) -> bool:
        try:
            return self.compiled.pattern.test(topic, self.base)
        except (TypeError, ValueError):  # no URL reference: no pattern matches it
            return False


_EVERYTHING = Everything()


def everything() -> Matcher:
    """`*`."""
    return _EVERYTHING


def exact(text: str) -> Matcher:
    """`match=` of draft 08: the topic that is this text; of the catalog's, the one that it names
    (`/catalog/checks/n/service:web` is written `service%3Aweb` there). Raises Refused (400) for an
    empty one."""
    if not text:
        raise Refused(400, "an empty text names no topic")
    return _EVERYTHING if text == "*" else Exact(canonical(text))


def legacy(text: str) -> Matcher:
    """`topic=` of drafts up to 07: `*`, a topic, or a URI template. Raises Refused (400).

    A text with braces that is no template is the topic that it is.
    """
    if "{" not in text:
        return exact(text)
    return _template(text)


def urlpattern(text: str, base: str = HUB_URL) -> Matcher:
    """`match_urlpattern=` of draft 08: a URL pattern, absolute or relative to the hub's URL, which
    is `base`. Raises Refused (400)."""
    return _EVERYTHING if text == "*" else _pattern(text, base)


def names_catalog(matcher: Matcher) -> bool:
    """Whether a matcher is about the catalog's topics, and so not about the hub's own: those two
    never meet, since nobody publishes to the catalog's. A pattern is, if it begins as they do;
    topics of the same URL that are written with scheme and host are then not meant."""
    return matcher.text.startswith(BEGINNINGS)


@lru_cache(maxsize=COMPILED_MAX)
def _template(text: str) -> Matcher:
    automaton = templates.compile(text)
    if automaton is None:
        return exact(text)
    written = canonical_template(text)
    return Template(text, (written != text and templates.compile(written)) or automaton)


@lru_cache(maxsize=COMPILED_MAX)
def _pattern(text: str, base: str) -> Matcher:
    return Pattern(text, base, patterns.compile(text, base))
