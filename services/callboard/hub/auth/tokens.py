"""What a token is good for. Both generations of Mercure are read, told apart by the token.

Drafts up to 07: any JWT with a claim `mercure: {publish, subscribe, payload}`, lists of topic
selectors. Draft 08: a JWT access token (RFC 9068: typ at+jwt, iss, aud and exp) whose
`authorization_details` (RFC 9396) of our type hold lists of topic matchers.

PyJWT verifies the signature; the claims are judged here, against a `now` that is an argument.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jwt

from callboard.hub.auth.keys import Key
from callboard.hub.matching import queries
from callboard.hub.matching.grants import TokenGrants
from callboard.hub.matching.refusal import Refused
from callboard.hub.matching.urls import HUB_URL
from callboard.hub.ports import Grants, Matcher, Rights

DETAIL_TYPE = "https://mercure.rocks/authorization-detail"
"""Of the entries in `authorization_details` that concern a hub."""
PUBLISH, SUBSCRIBE = "publish", "subscribe"
TOKEN_BYTES_MAX = 8 * 1024
MATCHERS_MAX = 200
"""In one token."""
NOT_BEFORE_LEEWAY_S = 5.0
"""Clocks of who issues tokens may be ahead; `exp` has no leeway."""
VERIFIED_MAX = 4096
"""Tokens remembered."""

_TIME_MAX = 1e12
_OWN_CHECKS: Any = {
    f"verify_{claim}": False for claim in ("exp", "nbf", "iat", "aud", "iss", "sub", "jti")
}


class BadToken(Exception):
    """A token that is good for nothing; the text is for the log, never for the bearer."""


@dataclass(frozen=True, slots=True)
class Trust:
    """What tokens of draft 08 are held against."""

    resource: str = HUB_URL
    """The hub's resource identifier: what `aud` must have in it, and what relative patterns are
    relative to."""
    issuers: frozenset[str] = frozenset()
    """Empty: whoever has the key, under any name."""


class Verifier:
    """Reads tokens that one key signed, for one of the two actions."""

    def __init__(self, key: Key, action: str, trust: Trust) -> None:
        """`action`: PUBLISH or SUBSCRIBE; a token's rights to the other one are ignored, since its
        key is not this one's to vouch for."""
        self._key = key
        self._action = action
        self._trust = trust
        self._verified: OrderedDict[bytes, tuple[Rights, float]] = OrderedDict()

    def verify(self, token: str, now: float) -> Rights:
        """What a token is good for; `now` is wall time. Raises BadToken."""
        if len(token) > TOKEN_BYTES_MAX:
            raise BadToken("longer than a token may be")
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        known = self._verified.get(digest)
        if known is None:
            known = self._read(token, digest)
        rights, not_before = known
        if rights.expires_at is not None and now >= rights.expires_at:
            self._verified.pop(digest, None)
            raise BadToken("expired")
        if now + NOT_BEFORE_LEEWAY_S < not_before:
            raise BadToken("not valid yet")
        self._verified[digest] = known
        self._verified.move_to_end(digest)
        if len(self._verified) > VERIFIED_MAX:
            self._verified.popitem(last=False)
        return rights

    def _read(self, token: str, digest: bytes) -> tuple[Rights, float]:
        """(rights, not before) of a token, by its signature and its form; the times are judged
        whenever it is shown."""
        try:
            whole = jwt.decode_complete(
                token, self._key.verifying, list(self._key.algorithms), options=_OWN_CHECKS
            )
        except (jwt.PyJWTError, ValueError, TypeError, KeyError, RecursionError) as problem:
            raise BadToken(f"not a token of this key: {problem}") from None
        header, claims = whole["header"], whole["payload"]
        if not isinstance(claims, dict) or "crit" in header:
            raise BadToken("its form is unknown")
        expires_at = _time(claims, "exp")
        not_before = _time(claims, "nbf") or 0.0
        subject = claims.get("sub", "")
        if not isinstance(subject, str):
            raise BadToken("sub is no text")
        draft = 8 if _is_access_token(header.get("typ")) else 7
        if draft == 8:
            self._check_access_token(claims, expires_at)
            grants, payloads = self._details(claims)
            payload = None
        else:
            grants, payload = self._legacy(claims)
            payloads = ()
        rights = Rights(
            publish=grants if self._action == PUBLISH else None,
            subscribe=grants if self._action == SUBSCRIBE else None,
            expires_at=expires_at,
            subject=subject,
            payload=payload,
            payloads=payloads,
            draft=draft,
            token_hash=digest,
        )
        return rights, not_before

    def _check_access_token(self, claims: dict[str, Any], expires_at: float | None) -> None:
        """Draft 08, Token Validation."""
        if expires_at is None:
            raise BadToken("no exp")
        issuer, audience = claims.get("iss"), claims.get("aud")
        if not isinstance(issuer, str) or not issuer:
            raise BadToken("no iss")
        if self._trust.issuers and issuer not in self._trust.issuers:
            raise BadToken(f"iss is {issuer!r}, who is not trusted")
        audiences = audience if isinstance(audience, list) else [audience]
        if self._trust.resource not in audiences:
            raise BadToken(f"aud is {audience!r}, not {self._trust.resource}")

    def _details(
        self, claims: dict[str, Any]
    ) -> tuple[TokenGrants | None, tuple[tuple[Grants, object], ...]]:
        """Draft 08, Authorization Details: one that is malformed makes the whole token bad."""
        details = claims.get("authorization_details", [])
        if not isinstance(details, list):
            raise BadToken("authorization_details is no list")
        granted: list[Matcher] = []
        payloads: list[tuple[Grants, object]] = []
        count = 0
        for detail in details:
            if not isinstance(detail, dict) or not isinstance(detail.get("type"), str):
                raise BadToken("an authorization detail has no type")
            if detail["type"] != DETAIL_TYPE:
                continue
            actions = detail.get("actions")
            if not _is_list_of(str, actions) or not actions:
                raise BadToken("an authorization detail has no actions")
            if not isinstance(detail.get("payload", {}), dict):
                raise BadToken("the payload of an authorization detail is no JSON object")
            count += len(detail["topics"]) if isinstance(detail.get("topics"), list) else 0
            matchers = self._topics(detail.get("topics"), count)
            if self._action in actions:
                granted += matchers
            if SUBSCRIBE in actions and "payload" in detail:
                payloads.append((TokenGrants(matchers), detail["payload"]))
        return (TokenGrants(granted) if granted else None), tuple(payloads)

    def _topics(self, topics: object, count: int) -> list[Matcher]:
        """Draft 08, Topic Matcher List."""
        if not isinstance(topics, list) or not topics or not _is_list_of(dict, topics):
            raise BadToken("an authorization detail has no topics")
        if count > MATCHERS_MAX:
            raise BadToken("too many topic matchers")
        return [self._topic(entry) for entry in topics]

    def _topic(self, entry: dict[str, Any]) -> Matcher:
        text, type = entry.get("match"), entry.get("match_type", "exact")
        if not isinstance(text, str) or not isinstance(type, str):
            raise BadToken("a topic matcher has no match")
        return _made(queries.matcher, type, text, self._trust.resource)

    def _legacy(self, claims: dict[str, Any]) -> tuple[TokenGrants | None, object]:
        """Drafts up to 07, Publishers and Subscribers."""
        mercure = claims.get("mercure")
        if not isinstance(mercure, dict):
            raise BadToken("neither typ at+jwt nor a claim mercure")
        selectors = mercure.get(self._action)
        payload = mercure.get("payload")
        if selectors is None:
            return None, payload
        if not isinstance(selectors, list) or not _is_list_of(str, selectors):
            raise BadToken(f"mercure.{self._action} is no list of texts")
        if len(selectors) > MATCHERS_MAX:
            raise BadToken("too many topic selectors")
        matchers = [_made(queries.legacy_matcher, one) for one in selectors]
        return TokenGrants(matchers, public=self._action == PUBLISH and not matchers), payload


def payload_of(rights: Rights, matcher: Matcher) -> object:
    """What a token says of a subscription (draft 08, Payloads; drafts up to 07: of all); None if
    it says nothing."""
    for grants, payload in rights.payloads:
        if grants.allow(matcher.text):
            return payload
    return rights.payload


def sign(key: Key, claims: dict[str, Any], *, access_token: bool) -> str:
    """A token. Raises ValueError if the key can only verify."""
    if key.signing is None:
        raise ValueError("a public key signs nothing: the private one is needed")
    headers = {"typ": "at+jwt"} if access_token else None
    return jwt.encode(claims, key.signing, key.algorithms[0], headers)


def _is_access_token(typ: object) -> bool:
    """RFC 9068, 4: `at+jwt`, with or without `application/`, in any case."""
    return isinstance(typ, str) and typ.lower().removeprefix("application/") == "at+jwt"


def _is_list_of(kind: type, value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, kind) for one in value)


def _time(claims: dict[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    # JSON's reader takes NaN and Infinity: compared with a time they would be "never"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadToken(f"{name} is no time")
    if not -_TIME_MAX < value < _TIME_MAX:
        raise BadToken(f"{name} is no time")
    return float(value)


def _made(make: Callable[..., Matcher], *texts: str) -> Matcher:
    try:
        return make(*texts)
    except Refused as refused:
        raise BadToken(refused.text) from None
