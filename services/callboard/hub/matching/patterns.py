"""URL patterns: how draft 08 selects topics. Pure.

Source: WHATWG URL Pattern; draft-dunglas-mercure-08, "URL Pattern". The engine is Rust's regex:
linear in the topic, no look-around. Linear has a factor, though, and compiling has a price: a
pattern of 1 kB can cost a quarter of a second to compile (`\\w` a thousand times) or 90 ms a topic
(300 groups). Both are bounded here, before the engine sees the pattern.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from urlpattern import URLPattern

from callboard.hub.matching.refusal import Refused
from callboard.hub.matching.urls import HUB_URL

GROUPS_MAX = 16
"""Names, wildcards and groups in one pattern."""
REGEXP_CHARS_MAX = 256
"""Of all regular expressions in one pattern together."""
COST_MAX = 3_000
"""About microseconds that its regular expressions take to compile: six times `\\w`."""

_TOKEN = re.compile(
    r"\\[pP](?:\{[^}]*\}|.)|\\.|\[\^?\]?(?:\\[pP]\{[^}]*\}|\\.|[^\]\\])*+\]|.", re.DOTALL
)
_COUNT = re.compile(r"\{\s*([0-9]*)\s*(?:,\s*([0-9]*)\s*)?\}")
_WORDS = re.compile(r"\\[wWpPbB]")
_RANGES = re.compile(r"\\[dDsS]|\[\^")
_LITERAL = re.compile(r"[^*:(){}\\?+]*")
_HOST = re.compile(r"[a-z0-9.-]*")
_PORT = re.compile(r"[0-9]*")


@dataclass(frozen=True, slots=True)
class Compiled:
    """A pattern, and the text that all its topics begin with."""

    pattern: URLPattern
    space: str
    """What `prefix` is a prefix of: `url` (origin and path) or `path`."""
    prefix: str


def compile(text: str, base: str = HUB_URL) -> Compiled:
    """Compile a pattern; a relative one has the hub's URL, `base`, as its base.

    Raises Refused (400) for a malformed one, and for one that would cost too much.
    """
    _check_cost(text)
    try:
        pattern = _engine(text, base)
    except (TypeError, ValueError) as problem:
        raise Refused(400, f"no URL pattern: {problem}") from None
    path = _literal_start(pattern.pathname)
    host, port, protocol = pattern.hostname, pattern.port, pattern.protocol
    if _HOST.fullmatch(host) and _PORT.fullmatch(port) and _HOST.fullmatch(protocol):
        return Compiled(pattern, "url", f"{protocol}://{host}:{port}{path}")
    return Compiled(pattern, "path", path)


def _engine(text: str, base: str) -> URLPattern:
    try:
        # with a base, a path without a leading slash (urn:*) would be taken for a relative one
        return URLPattern(text)
    except ValueError:
        return URLPattern(text, base)


def _literal_start(path: str) -> str:
    """The text that every path begins with. A slash before a group belongs to the group, which
    may be missing as a whole (`/builds/:id?`)."""
    found = _LITERAL.match(path)
    start = found[0] if found else ""
    return start if start == path else start.removesuffix("/")


def _check_cost(text: str) -> None:
    groups, regexps = _groups(text)
    if groups > GROUPS_MAX:
        raise Refused(400, f"a URL pattern has at most {GROUPS_MAX} names, wildcards and groups")
    if sum(map(len, regexps)) > REGEXP_CHARS_MAX:
        raise Refused(
            400, f"a URL pattern has at most {REGEXP_CHARS_MAX} characters of regular expressions"
        )
    if sum(map(_cost, regexps)) > COST_MAX:
        raise Refused(400, "a URL pattern's regular expressions are too large")


def _groups(text: str) -> tuple[int, list[str]]:
    """How many groups a pattern has (or a few too many), and the regular expressions in it."""
    count, regexps, at = 0, [], 0
    while at < len(text):
        character = text[at]
        if character == "(":
            end = _closing(text, at)
            regexps.append(text[at + 1 : end])
            count, at = count + 1, end
        elif character == "*" or (character == ":" and text[at + 1 : at + 2].isidentifier()):
            count += 1
        at += 2 if character == "\\" else 1
    return count, regexps


def _closing(text: str, at: int) -> int:
    """Where the parenthesis that opens at `at` is closed. Raises Refused."""
    depth = 0
    while at < len(text):
        if text[at] == "\\":
            at += 1
        elif text[at] == "(":
            depth += 1
        elif text[at] == ")":
            depth -= 1
            if not depth:
                return at
        at += 1
    raise Refused(400, "no URL pattern: a parenthesis is not closed")


def _cost(regexp: str) -> int:
    """About what a regular expression costs to compile. Raises Refused for what it may not have."""
    cost = at = 0
    while found := _TOKEN.match(regexp, at):
        token, at = found[0], found.end()
        if token == "(" and not regexp.startswith("?:", at):
            raise Refused(400, "a URL pattern has no look-around, no flags and no nested groups")
        if "[" in token[1:].replace("\\[", ""):
            raise Refused(400, "a URL pattern has no class within a class")
        weight = 500 if _WORDS.search(token) else 50 if _RANGES.match(token) else 10
        while count := _COUNT.match(regexp, at):
            if token == ")":
                raise Refused(400, "a URL pattern counts characters and classes, no groups")
            weight *= max(int(count[1] or 0), int(count[2] or 0), 1)
            at = count.end()
        cost += weight
    return cost
