"""Which answer a request for an entry gets: conditions, ranges, encodings (RFC 9110). Pure.

One range only: a request for several gets the whole (RFC 9110, 14.2 allows it, and many small
ranges are an attack). A condition or range that cannot be read is as if it were not there, but for
If-Match, which then does not hold.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import mktime_tz, parsedate_tz
from functools import lru_cache
from typing import NamedTuple

from callboard.fileserver.entries import Entry, Variant

CONDITIONS = frozenset(
    b"if-match if-none-match if-modified-since if-unmodified-since range if-range".split()
)
"""Fields that make an answer anything but the plain 200."""

OK = 200
PARTIAL_CONTENT = 206
NOT_MODIFIED = 304
PRECONDITION_FAILED = 412
RANGE_NOT_SATISFIABLE = 416

VALUE_BYTES_MAX = 4096
"""A longer list of tags or encodings is not looked at."""

_RANGE = re.compile(rb"bytes=[ \t]*(\d{0,40})-(\d{0,40})[ \t]*", re.I)
_TAGS = re.compile(rb'[ \t,]*+(?:(?:W/)?+"[\x21\x23-\x7e\x80-\xff]*+"[ \t]*+(?:,[ \t,]*+|$))++')
_TAG = re.compile(rb'(W/)?("[^"]*")')
_CODING = re.compile(
    rb"[ \t]*([!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*(?:;[ \t]*[qQ]=([01](?:\.\d{0,3})?)[ \t]*)?"
)


class Decision(NamedTuple):
    """A status, and for 200 and 206 the bytes of the representation, `start` up to `stop`."""

    status: int
    start: int = 0
    stop: int = 0


def choose(entry: Entry, accept_encoding: bytes | None) -> Variant:
    """The representation for an Accept-Encoding (RFC 9110, 12.5.3).

    The plain one answers whoever accepts nothing that is there, even identity refused: section
    12.5.3 leaves that to the server, and a text is better than a 406.
    """
    if accept_encoding is None or not entry.coded:
        return entry.plain
    for coding in preferences(accept_encoding):
        if coding == b"identity":
            return entry.plain
        if coding in entry.coded:
            return entry.coded[coding]
    return entry.plain


@lru_cache(maxsize=256)
def preferences(accept_encoding: bytes) -> tuple[bytes, ...]:
    """`br`, `gzip` and `identity` as the client ranks them, those refused left out.

    At equal weight br is before gzip is before identity.
    """
    if len(accept_encoding) > VALUE_BYTES_MAX:
        return ()
    weights: dict[bytes, float] = {}
    for element in accept_encoding.split(b","):
        found = _CODING.fullmatch(element)
        if found is not None:
            name = found[1].lower()
            weight = float(found[2]) if found[2] else 1.0
            weights[b"gzip" if name == b"x-gzip" else name] = min(weight, 1.0)
    rest = weights.get(b"*", 0.0)
    ranked = [(weights.get(coding, rest), coding) for coding in (b"br", b"gzip")]
    # identity is accepted unless refused by name or by `*;q=0`, but ranks by what is said only
    identity = weights.get(b"identity", rest if b"*" in weights else 0.001)
    ranked.append((identity, b"identity"))
    return tuple(coding for weight, coding in sorted(ranked, key=_weight) if weight > 0)


def _weight(ranked: tuple[float, bytes]) -> float:
    return -ranked[0]


def decide(
    fields: Mapping[bytes, bytes],
    variant: Variant,
    modified_s: int,
    *,
    is_get: bool,
    now_s: float,
) -> Decision:
    """The answer to GET or HEAD, by RFC 9110 section 13.2.2 in its order."""
    if not _preconditions_hold(fields, variant.etag, modified_s):
        return Decision(PRECONDITION_FAILED)
    none_match = fields.get(b"if-none-match")
    if none_match is not None:
        if matches(none_match, variant.etag, weak=True):
            return Decision(NOT_MODIFIED)
    else:
        since = http_date(fields.get(b"if-modified-since"))
        if since is not None and modified_s <= since:
            return Decision(NOT_MODIFIED)
    wanted = fields.get(b"range")
    if wanted is not None and is_get:
        if_range = fields.get(b"if-range")
        if if_range is None or _same(if_range, variant.etag, modified_s, now_s):
            return by_range(wanted, variant.size)
    return Decision(OK, 0, variant.size)


def by_range(value: bytes, size: int) -> Decision:
    """What a Range field gets of `size` bytes (RFC 9110, 14.1.2)."""
    found = _RANGE.fullmatch(value)
    if found is None or found.groups() == (b"", b""):
        return Decision(OK, 0, size)
    first, last = found.groups()
    if not first:
        start, stop = max(0, size - int(last)), size
    else:
        start = int(first)
        stop = min(int(last) + 1, size) if last else size
        if last and int(last) < start:
            return Decision(OK, 0, size)
    if start >= size:
        return Decision(RANGE_NOT_SATISFIABLE)
    return Decision(PARTIAL_CONTENT, start, stop)


def matches(value: bytes, etag: bytes, *, weak: bool) -> bool:
    """Whether a list of entity tags, or `*`, has `etag` (RFC 9110, 8.8.3.2).

    `weak`: a weak tag matches too. What is no such list matches nothing.
    """
    if value == b"*":
        return True
    if len(value) > VALUE_BYTES_MAX or etag not in value or not _TAGS.fullmatch(value):
        return False
    return any(tag == etag and (weak or not mark) for mark, tag in _TAG.findall(value))


@lru_cache(maxsize=256)
def http_date(value: bytes | None) -> int | None:
    """Seconds since 1970 of an HTTP date (RFC 9110, 5.6.7); None for what is none."""
    if value is None or not 20 < len(value) < 40:
        return None
    try:
        parsed = parsedate_tz(value.decode("ascii"))
        return None if parsed is None else int(mktime_tz(parsed))
    except (ValueError, OverflowError, IndexError, TypeError):
        return None


def _preconditions_hold(fields: Mapping[bytes, bytes], etag: bytes, modified_s: int) -> bool:
    match = fields.get(b"if-match")
    if match is not None:
        return matches(match, etag, weak=False)
    since = http_date(fields.get(b"if-unmodified-since"))
    return since is None or modified_s <= since


def _same(if_range: bytes, etag: bytes, modified_s: int, now_s: float) -> bool:
    """Whether If-Range names this very content (RFC 9110, 13.1.5): a date only counts when the
    content has been so for a second, or a change within that second would not show."""
    if if_range[:1] == b'"':
        return if_range == etag
    return http_date(if_range) == modified_s and now_s - modified_s >= 1
