"""What a subscriber asks for: matchers, where to begin, how to be told. Pure.

Source: draft-dunglas-mercure-07, Subscription (`topic`); -08, Subscription and Reconnection
(`match`, `match_exact`, `match_urlpattern`, `last_event_id`). `since`, `last`, `beat`, `poll` and
`format` are this hub's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from callboard.hub import cursor as cursors
from callboard.hub.cursor import Cursor
from callboard.hub.event import Format
from callboard.hub.matching import queries
from callboard.hub.matching.urls import HUB_URL
from callboard.hub.mercure.forms import Fields, single
from callboard.hub.mercure.moments import BadMoment, parse_since
from callboard.hub.mercure.refusals import bad_request
from callboard.hub.ports import Matcher

BEAT_S = (1.0, 300.0)
POLL_S = (0.0, 100.0)
"""Proxies wait no longer for an answer to begin; ours does 120 s."""
LAST_MAX = 100_000

_CURSOR_NAMES = ("last_event_id", "lastEventID", "Last-Event-ID")
_FORMATS = {"sse": Format.SSE, "ndjson": Format.NDJSON}


class Generation(Enum):
    """Of the protocol, and so of a request."""

    LEGACY = "07"
    """Drafts up to 07: every hub and client called 0.x."""
    CURRENT = "08"


@dataclass(frozen=True, slots=True)
class Asked:
    """A stream that is asked for, before it is authorised."""

    generation: Generation
    matchers: tuple[Matcher, ...]
    """Each once, in their order."""
    cursor: Cursor | None = None
    last_event_id: str | None = None
    """As it came; None: the request has none, "" an empty one."""
    since_ms: int | None = None
    last: int | None = None
    beat_s: float = 0.0
    poll_s: float | None = None
    """A long poll: wait so long for the first update. None: a stream."""
    format: Format = Format.SSE


def read(query: Fields, headers: Mapping[str, str], now_ms: int, base: str = HUB_URL) -> Asked:
    """What a request to the hub's URL asks for; `now_ms` is wall time, `base` that URL. Raises
    Refused."""
    pairs = ((name, value) for name, values in query.items() for value in values)
    asked = queries.asked(pairs, base)
    generation = Generation.CURRENT if asked.draft >= 8 else Generation.LEGACY
    return _asked(generation, asked.matchers, query, headers, now_ms)


def read_topic(topic: str, query: Fields, headers: Mapping[str, str], now_ms: int) -> Asked:
    """What a request to /t/ asks for: the updates of one topic."""
    matcher = queries.matcher("exact", topic)
    return _asked(Generation.CURRENT, (matcher,), query, headers, now_ms)


def _asked(
    generation: Generation,
    matchers: tuple[Matcher, ...],
    query: Fields,
    headers: Mapping[str, str],
    now_ms: int,
) -> Asked:
    last_event_id = _last_event_id(query, headers)
    since, last = single(query, "since"), single(query, "last")
    try:
        since_ms = parse_since(since, now_ms) if since is not None else None
    except BadMoment as problem:
        raise bad_request(str(problem)) from problem
    if last is not None and not (last.isascii() and last.isdigit() and 0 < len(last) <= 6):
        raise bad_request("last is a number of updates")
    if last is not None and int(last) > LAST_MAX:
        raise bad_request(f"last is at most {LAST_MAX}")
    return Asked(
        generation,
        matchers,
        cursors.parse(last_event_id) if last_event_id else None,
        last_event_id,
        since_ms,
        int(last) if last is not None else None,
        _seconds(query, "beat", BEAT_S) or 0.0,
        _seconds(query, "poll", POLL_S),
        _format(query, headers),
    )


def _last_event_id(query: Fields, headers: Mapping[str, str]) -> str | None:
    """The header takes precedence (draft 08, Reconnection)."""
    header = headers.get("last-event-id")
    if header is not None:
        try:
            return header.encode("latin-1").decode()  # browsers send an id's UTF-8 as it is
        except UnicodeError:
            return header
    for name in _CURSOR_NAMES:
        if name in query:
            return query[name][0]
    return None


def _seconds(query: Fields, name: str, bounds: tuple[float, float]) -> float | None:
    text = single(query, name)
    if text is None:
        return None
    least, most = bounds
    try:
        seconds = float(text.removesuffix("s")) if text.isascii() else most + 1
    except ValueError:
        raise bad_request(f"{name} is a number of seconds") from None
    if not least <= seconds <= most:
        raise bad_request(f"{name} is from {least:g} to {most:g} seconds")
    return seconds


def _format(query: Fields, headers: Mapping[str, str]) -> Format:
    name = single(query, "format")
    if name is not None:
        if name not in _FORMATS:
            raise bad_request("format is sse or ndjson")
        return _FORMATS[name]
    accept = headers.get("accept", "").lower()
    if Format.NDJSON.value in accept and Format.SSE.value not in accept:
        return Format.NDJSON
    return Format.SSE
