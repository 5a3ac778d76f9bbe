"""Pages of other sites: who may read answers (CORS), who may write by the visitor's browser alone
(without a token, or with a cookie's). Pure.

Source: WHATWG Fetch, 3.2 (CORS protocol); draft-dunglas-mercure-08, Subscription and Security
Considerations. An origin is named in an answer only if it is on the list; `*` on the list lets
every page read, and none of them with cookies, nor write.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

Headers = list[tuple[str, str]]

METHODS = "GET, HEAD, POST, QUERY, DELETE"
REQUEST_HEADERS = "Authorization, Cache-Control, Content-Type, Idempotency-Key, Last-Event-ID"
EXPOSED = (
    "Link, Last-Event-ID, Mercure-Last-Event-ID, ETag, Retry-After, WWW-Authenticate, Accept-Query"
)
MAX_AGE_S = 7200
"""How long a browser keeps what a preflight said (Chromium's most)."""
VARY = ("Vary", "Origin")


class Origins:
    """The pages that are allowed."""

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        """`allowed`: origins (`https://example.com`), or `*`."""
        listed = {_plain(origin) for origin in allowed}
        self._every = "*" in listed
        self._listed = frozenset(listed - {"*"})

    def lists(self, origin: str) -> bool:
        """Whether an origin is on the list by name."""
        return _plain(origin) in self._listed

    def headers(self, headers: Mapping[str, str]) -> Headers:
        """What an answer to a request with these headers says of who may read it."""
        origin = headers.get("origin")
        if origin is None:
            return [VARY]
        if self.lists(origin):
            return [
                VARY,
                ("Access-Control-Allow-Origin", origin),
                ("Access-Control-Allow-Credentials", "true"),
                ("Access-Control-Expose-Headers", EXPOSED),
            ]
        if self._every:
            return [
                VARY,
                ("Access-Control-Allow-Origin", "*"),
                ("Access-Control-Expose-Headers", EXPOSED),
            ]
        return [VARY]

    def preflight(self, headers: Mapping[str, str]) -> Headers:
        """What else the answer to OPTIONS says."""
        if "origin" not in headers or not (self._every or self.lists(headers["origin"])):
            return []
        return [
            ("Access-Control-Allow-Methods", METHODS),
            ("Access-Control-Allow-Headers", REQUEST_HEADERS),
            ("Access-Control-Max-Age", str(MAX_AGE_S)),
        ]

    def may_write(self, headers: Mapping[str, str], own_origin: str) -> bool:
        """Whether a write that shows no token may be done: it comes from no page, from our own
        (`own_origin`: scheme, name and port), or from one on the list."""
        origin = headers.get("origin")
        if origin is None:
            return headers.get("sec-fetch-site", "none") in ("none", "same-origin")
        return self._knows(origin, own_origin)

    def may_write_by_cookie(self, headers: Mapping[str, str], own_origin: str) -> bool:
        """Whether a write that shows a cookie may be done: Origin or Referer must be there, and of
        our own page or of one on the list."""
        origin = headers.get("origin") or _origin(headers.get("referer", ""))
        return bool(origin) and self._knows(origin, own_origin)

    def _knows(self, origin: str, own_origin: str) -> bool:
        return _plain(origin) == own_origin or self.lists(origin)


def _plain(origin: str) -> str:
    return origin.lower().rstrip("/")


def _origin(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else ""
