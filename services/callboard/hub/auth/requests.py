"""Where a request carries its token, and what is said when it may not.

One token counts (drafts 07 and 08, Presenting the Access Token): the Authorization field's, else
that of `?authorization=` (drafts up to 07 only), else a cookie's; the others are ignored. A token
that is shown and is bad is refused, whatever else the request has: nobody becomes anonymous by it.
Refusals are those of RFC 6750, 3, and point to the metadata of RFC 9728.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from callboard.hub.auth.keys import Keys
from callboard.hub.auth.origins import Origins
from callboard.hub.auth.tokens import PUBLISH, SUBSCRIBE, BadToken, Trust, Verifier
from callboard.hub.matching.queries import speaks_draft_08
from callboard.hub.matching.refusal import Refused
from callboard.hub.mercure.addresses import Address, address_of
from callboard.hub.ports import Rights

log = logging.getLogger(__name__)

COOKIE = "__Secure-mercure_access_token"
"""Draft 08's; it wins over the older one."""
LEGACY_COOKIE = "mercureAuthorization"
QUERY = "authorization"
"""Drafts up to 07."""
NOT_IN_QUERY = "access_token"
"""RFC 6750, 2.3: not taken (RFC 9700, 4.3.2), and not ignored."""

_BEARER = re.compile(r"bearer +([A-Za-z0-9\-._~+/]+=*) *", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Shown:
    """The parts of a request that say who asks."""

    headers: Mapping[str, str]
    """Names in lower case; repeated fields joined by commas."""
    query: Mapping[str, Sequence[str]]
    scheme: str = "http"
    """Of the listener that it came to."""

    @property
    def address(self) -> Address:
        """Where the hub is for who asks."""
        return address_of(self.headers, self.scheme)


class Authority:
    """Judges who asks."""

    def __init__(
        self, keys: Keys, trust: Trust | None = None, origins: Origins | None = None
    ) -> None:
        """`origins`: the pages of other sites that may publish with a cookie."""
        self._trust = trust or Trust()
        self._publishers = Verifier(keys.publisher, PUBLISH, self._trust)
        self._subscribers = Verifier(keys.subscriber, SUBSCRIBE, self._trust)
        self.origins = origins or Origins()

    @property
    def resource(self) -> str:
        """The hub's resource identifier."""
        return self._trust.resource

    def subscriber(self, shown: Shown, now: float) -> Rights:
        """What a reader may do: `Rights()` if it shows no token. `now` is wall time. Raises
        Refused: 400, 401."""
        found = _token(shown)
        return Rights() if found is None else _verified(self._subscribers, found[0], shown, now)

    def publisher(self, shown: Shown, now: float) -> Rights:
        """What a publisher may do. Raises Refused: 400, 401, and 403 for a page of another site
        that uses its visitor's cookie."""
        found = _token(shown)
        if found is None:
            raise token_needed(shown)
        token, is_cookie = found
        if is_cookie and not self.origins.may_write_by_cookie(shown.headers, shown.address.origin):
            raise Refused(403, "a page of another site may not publish with a cookie")
        return _verified(self._publishers, token, shown, now)

    def require_publish(
        self, rights: Rights, topics: tuple[str, ...], shown: Shown, *, private: bool
    ) -> None:
        """Raises Refused (403) unless all topics of an update may be published to."""
        if rights.publish is None or not rights.publish.covers(topics, private):
            raise insufficient(shown)

    def require_subscribe(self, rights: Rights, topic: str, shown: Shown) -> None:
        """Raises Refused (401, 403) unless private updates of a topic may be read."""
        if not rights.token_hash:
            raise token_needed(shown)
        if rights.subscribe is None or not rights.subscribe.allow(topic):
            raise insufficient(shown)


def shows_token(shown: Shown) -> bool:
    """Whether a request carries a token, good or bad. Raises Refused (400) for a malformed one."""
    return _token(shown) is not None


def token_needed(shown: Shown) -> Refused:
    """401 without an error code: no token was shown (RFC 6750, 3.1)."""
    return Refused(401, "a token is needed", _challenge(shown, ""))


def insufficient(shown: Shown) -> Refused:
    """403: the token is good, but not for this."""
    return Refused(403, "the token is not good for this", _challenge(shown, "insufficient_scope"))


def _token(shown: Shown) -> tuple[str, bool] | None:
    """(token, whether it is a cookie's); None if there is none. Raises Refused (400)."""
    in_query = shown.query.get(QUERY, ())
    if NOT_IN_QUERY in shown.query or (in_query and speaks_draft_08(shown.query)):
        raise _malformed(shown, "a token in the URL is not taken: it would end up in logs")
    field = shown.headers.get("authorization")
    if field is not None:
        bearer = _BEARER.fullmatch(field)
        if bearer is None:
            raise _malformed(shown, "Authorization is one Bearer and a token")
        return bearer[1], False
    if in_query:
        if len(in_query) > 1 or not in_query[0]:
            raise _malformed(shown, "authorization= is one token")
        return in_query[0], False
    cookies = _cookies(shown.headers.get("cookie", ""))
    for name in (COOKIE, LEGACY_COOKIE):
        if name in cookies:
            return cookies[name], True
    return None


def _cookies(field: str) -> dict[str, str]:
    """Cookies by name, the first of each, without empty ones; a repeated field was joined by a
    comma, which no cookie has in it (RFC 6265, 4.1.1)."""
    found: dict[str, str] = {}
    for part in re.split("[;,]", field):
        name, equals, value = part.strip().partition("=")
        if equals and value:
            found.setdefault(name, value.strip('"'))
    return found


def _verified(verifier: Verifier, token: str, shown: Shown, now: float) -> Rights:
    try:
        return verifier.verify(token, now)
    except BadToken as problem:
        log.info("token refused", extra={"reason": str(problem)[:200]})
        challenge = _challenge(shown, "invalid_token")
        raise Refused(401, "the token is not valid", challenge) from None


def _malformed(shown: Shown, text: str) -> Refused:
    return Refused(400, text, _challenge(shown, "invalid_request"))


def _challenge(shown: Shown, error: str) -> tuple[tuple[str, str], ...]:
    named = f'error="{error}", ' if error else ""
    metadata = shown.address.metadata
    return (("WWW-Authenticate", f'Bearer {named}resource_metadata="{metadata}"'),)
