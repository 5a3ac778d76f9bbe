"""What can go wrong between a client and a hub.

EventsError
├── Unreachable   no answer: it is not known whether anything was done
├── Refused       the hub answered, with a status that is no success
└── NotAStream    what answered is no hub, or something in between that speaks for it

`EventTooLong` (a ValueError) is the parser's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

REFUSAL_BYTES = 4096
"""Of an answer that refuses: so much is read."""
TEXT_MAX = 300
"""Characters of an answer that an error repeats."""

CHALLENGE_MAX = 4096
"""Characters of a challenge that are looked at."""

WAIT_MAX_S = 600.0
"""However long a server asks us to wait."""

_PARAMETER = re.compile(r'([a-z_]{1,32})="((?:[^"\\]|\\.)*)"', re.IGNORECASE)


class EventsError(Exception):
    """Any failure of a call or a subscription."""


class Unreachable(EventsError):
    """Nobody answered."""


class NotAStream(EventsError):
    """The answer is of another media type than what was asked for."""


class Refused(EventsError):
    """The hub refused: `401 Unauthorized: invalid_token: the token has expired`."""

    def __init__(self, status: int, headers: Mapping[str, str], body: str) -> None:
        """`headers` have names in lower case. Source of the challenge: RFC 6750, section 3."""
        challenge = headers.get("www-authenticate", "")[:CHALLENGE_MAX]
        parameters = {name.lower(): value for name, value in _PARAMETER.findall(challenge)}
        self.status = status
        self.retry_after_s = retry_after_s(headers)
        self.error = parameters.get("error", "")
        """`invalid_token`, `insufficient_scope`, `invalid_request`; "" when it does not say."""
        self.description = parameters.get("error_description", "")
        try:
            phrase = f"{status} {HTTPStatus(status).phrase}"
        except ValueError:
            phrase = str(status)
        if status in range(300, 400) and headers.get("location"):
            body = f"moved to {headers['location']}"
        said = " ".join(body.split())[:TEXT_MAX]
        words = [self.error, self.description]
        if said and said not in words:
            words.append(said)
        super().__init__(": ".join([phrase, *filter(None, words)]))


def reason_of(problem: BaseException) -> str:
    """What a failure says; its name, if it says nothing."""
    return str(problem) or type(problem).__name__


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds that an answer asks to wait; None: it does not. A date is taken relative to the
    answer's own. Source: RFC 9110, 10.2.3."""
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), WAIT_MAX_S)
    then, now = _moment(text), _moment(headers.get("date", ""))
    if then is None or now is None:
        return None
    return min(max(0.0, (then - now).total_seconds()), WAIT_MAX_S)


def _moment(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return moment.replace(tzinfo=moment.tzinfo or UTC)
