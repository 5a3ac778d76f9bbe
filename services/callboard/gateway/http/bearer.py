"""Bearer tokens (RFC 6750): one shared secret for all who watch, one for all who publish. Pure."""

from __future__ import annotations

import hmac
from collections.abc import Mapping

from callboard.serve import Answer
from callboard.serve.resources import text

REALM = "callboard"


class Bearer:
    """Judges requests by their Authorization."""

    def __init__(self, token: str) -> None:
        """Raises ValueError for a token that no header can carry."""
        if not token or not token.isascii() or not token.isprintable() or " " in token:
            raise ValueError("a token is printable ASCII without blanks")
        self._token = token.encode()

    def refusal(self, headers: Mapping[str, str]) -> Answer | None:
        """Why a request is refused; None if its token is right."""
        given = headers.get("authorization", "")
        scheme, _, token = given.partition(" ")
        if not given or scheme.lower() != "bearer":
            return _unauthorized("a token is needed: Authorization: Bearer …", "")
        if hmac.compare_digest(token.strip().encode("utf-8", "replace"), self._token):
            return None
        return _unauthorized("the token is not right", ', error="invalid_token"')


def _unauthorized(line: str, error: str) -> Answer:
    challenge = ("WWW-Authenticate", f'Bearer realm="{REALM}"{error}')
    return text(401, line, challenge)
