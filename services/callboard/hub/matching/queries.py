"""What a subscriber asks for, from the parameters of its URL. Pure.

`topic=` is the protocol up to draft 07, `match=`, `match_exact=` and `match_urlpattern=` are draft
08; one request speaks one of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from callboard.hub.matching import matchers
from callboard.hub.matching.naming import checked_text
from callboard.hub.matching.refusal import Refused
from callboard.hub.matching.urls import HUB_URL
from callboard.hub.ports import Matcher

MATCHERS_MAX = 50
"""In one request: they are compiled while others wait."""
REGEXPS_MAX = 10
"""Of them, URL patterns with regular expressions, which are the dear ones."""
PATTERN_BYTES_MAX = 1024
MATCHER_TYPES = ("exact", "urlpattern")
"""Of draft 08 (`match_type`, `match_<type>`)."""

_TYPES = {"match": "exact"} | {f"match_{type}": type for type in MATCHER_TYPES}


@dataclass(frozen=True, slots=True)
class Asked:
    """The matchers of one request."""

    matchers: tuple[Matcher, ...]
    draft: int
    """7 (or an earlier one) or 8."""


def speaks_draft_08(names: Iterable[str]) -> bool:
    """Whether a request with these parameters is one of draft 08, which reserves all names that
    begin with `match`."""
    return any(name[:5].lower() == "match" for name in names)


def asked(query: Iterable[tuple[str, str]], base: str = HUB_URL) -> Asked:
    """The matchers among the (name, value) pairs of a query, percent-decoded. `base` is the hub's
    URL.

    Raises Refused (400): an unknown name in the `match` namespace, a bad value, too many, none, or
    those of both drafts.
    """
    pairs = [pair for pair in query if pair[0] == "topic" or speaks_draft_08(pair[:1])]
    if not pairs:
        raise Refused(400, "which topics? give match=, match_urlpattern= or topic=")
    if len(pairs) > MATCHERS_MAX:
        raise Refused(400, f"a request has at most {MATCHERS_MAX} matchers")
    if sum("(" in text for name, text in pairs if name == "match_urlpattern") > REGEXPS_MAX:
        raise Refused(400, f"a request has at most {REGEXPS_MAX} patterns with regular expressions")
    new = [name != "topic" for name, _ in pairs]
    if any(new) != all(new):
        raise Refused(400, "topic= and match= belong to different drafts: use one of them")
    found = tuple(_matcher(name, text, base) for name, text in pairs)
    return Asked(tuple(dict.fromkeys(found)), 8 if new[0] else 7)


def matcher(type: str, text: str, base: str = HUB_URL) -> Matcher:
    """A matcher by the name of its type, as draft 08 has them; `base` is the hub's URL. Raises
    Refused (400)."""
    if type not in MATCHER_TYPES:
        raise Refused(400, f"unknown matcher type {type!r}: {' or '.join(MATCHER_TYPES)}")
    checked_text(text, PATTERN_BYTES_MAX, "a matcher", too_long=400)
    return matchers.exact(text) if type == "exact" else matchers.urlpattern(text, base)


def legacy_matcher(text: str) -> Matcher:
    """A topic selector of drafts up to 07. Raises Refused (400)."""
    checked_text(text, PATTERN_BYTES_MAX, "a topic", too_long=400)
    return matchers.legacy(text)


def _matcher(name: str, text: str, base: str) -> Matcher:
    if name == "topic":
        return legacy_matcher(text)
    if name not in _TYPES:
        raise Refused(400, f"unknown parameter {name[:64]!r}: names in match are reserved")
    return matcher(_TYPES[name], text, base)
