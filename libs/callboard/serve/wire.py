"""HTTP/1.1 as bytes: heads of answers, dates, decoded targets. Pure.

Header names go out as Go writes them (`X-Consul-Index`), whatever the framework in between made
of them. Parsing of requests is llhttp's; here is only what llhttp leaves to its caller.
"""

from __future__ import annotations

import http
import re
from collections.abc import Iterable, Sequence
from email.utils import formatdate
from functools import lru_cache
from urllib.parse import unquote_to_bytes

_PHRASES = {status.value: status.phrase for status in http.HTTPStatus}
_STATUS_LINES = {
    status: f"HTTP/1.1 {status} {_PHRASES.get(status, 'Status')}\r\n" for status in range(100, 600)
}
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_BREAK = re.compile(r"[\r\n\0]")
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"


class BadTarget(ValueError):
    """A request target that no server can serve: bad escapes, or not UTF-8."""


class DateLine:
    """The Date header, made once a second."""

    def __init__(self) -> None:
        self._second = 0
        self._line = ""

    def at(self, wall_s: float) -> str:
        """`Date: …` with its line end, for a wall clock in seconds."""
        second = int(wall_s)
        if second != self._second:
            self._second = second
            self._line = f"Date: {formatdate(second, usegmt=True)}\r\n"
        return self._line


def head(
    status: int, content_type: str | None, headers: Sequence[tuple[str, str]], tail: str
) -> bytes:
    """The head of an answer; `tail` are finished lines (date, framing), each with its line end.

    A value with a line break in it (a check's output in a header) must not become a header of its
    own: breaks are replaced by spaces.
    """
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers])
    if lines.count("\n") != len(headers) or lines.count("\r") != len(headers) or "\0" in lines:
        lines = "".join([f"{name}: {_BREAK.sub(' ', value)}\r\n" for name, value in headers])
    if content_type is not None:
        lines = f"Content-Type: {content_type}\r\n{lines}"
    return f"{_STATUS_LINES[status]}{lines}{tail}\r\n".encode("utf-8", "replace")


@lru_cache(maxsize=1024)
def canonical(name: str) -> str:
    """A header name as Go's http.CanonicalHeaderKey writes it: `x-consul-index` becomes
    `X-Consul-Index`."""
    return "-".join(part[:1].upper() + part[1:].lower() for part in name.split("-"))


@lru_cache(maxsize=1024)
def header_key(name: bytes) -> str:
    """A header name as handlers look it up: text in lower case."""
    return name.decode("latin-1").lower()


def chunk(data: bytes) -> bytes:
    """One chunk of the chunked transfer coding (RFC 9112, 7.1); empty data is no chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def split_target(target: bytes) -> tuple[bytes, bytes, str | None]:
    """(raw path, raw query, authority) of a request target in origin or absolute form.

    Raises BadTarget. `authority` is None for the origin form (RFC 9112, 3.2).
    """
    authority = None
    if not target.startswith(b"/"):
        scheme, separator, rest = target.partition(b"://")
        if not separator or scheme.lower() not in (b"http", b"https"):
            if target == b"*":
                return b"*", b"", None
            raise BadTarget("invalid request target")
        host, slash, path = rest.partition(b"/")
        if not slash and b"?" in host:
            host, _, query = host.partition(b"?")
            path = b"?" + query
        authority = host.rpartition(b"@")[2].decode("latin-1")
        target = b"/" + path
    path, _, query = target.partition(b"?")
    return path, query, authority


def decode_path(raw: bytes) -> str:
    """Percent-decode a path once, strictly (RFC 3986, 2.1). Raises BadTarget."""
    if b"%" in raw:
        _check_escapes(raw)
        raw = unquote_to_bytes(raw)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as problem:
        raise BadTarget("request path is not UTF-8") from problem


def _check_escapes(raw: bytes) -> None:
    if _BAD_ESCAPE.search(raw):
        raise BadTarget("invalid URL escape")


def decode_query(raw: bytes) -> dict[str, list[str]]:
    """Decode a query string as Go's url.ParseQuery does: a pair with a bad escape is dropped."""
    query: dict[str, list[str]] = {}
    if not raw:
        return query
    plain = b"%" not in raw and b"+" not in raw
    for pair in raw.split(b"&"):
        if not pair or b";" in pair:
            continue
        name, _, value = pair.partition(b"=")
        if plain:
            key, text = name.decode("utf-8", "replace"), value.decode("utf-8", "replace")
        else:
            try:
                key, text = _unescape(name), _unescape(value)
            except BadTarget:
                continue
        query.setdefault(key, []).append(text)
    return query


def _unescape(raw: bytes) -> str:
    raw = raw.replace(b"+", b" ")
    if b"%" in raw:
        _check_escapes(raw)
        raw = unquote_to_bytes(raw)
    return raw.decode("utf-8", "replace")


def header_values(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Headers as a mapping: names in lower case, repeated ones joined by ", "."""
    joined: dict[str, str] = {}
    for name, value in headers:
        key = name.decode("latin-1").lower()
        text = value.decode("latin-1").strip(" \t")
        joined[key] = f"{joined[key]}, {text}" if key in joined else text
    return joined


def tokens(value: str) -> list[str]:
    """The elements of a list header in lower case (`Connection: Upgrade, HTTP2-Settings`)."""
    return [part.strip().lower() for part in value.split(",") if part.strip()]
