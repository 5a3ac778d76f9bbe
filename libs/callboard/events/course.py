"""The course of a subscription over its connections: what to ask, what to make of what comes, how
long to wait. The sync and the async client both follow it. No socket, no clock, no randomness.

    connection:  turn() ─► sent() ─► opened() ─► received()… ─► lost() ─► wait ─► the next turn()

A hub greets (`hub.hello`) and gives signs of life (`hub.beat`) when asked to. No byte within
HELLO_S means that something in between holds the stream back: the same cursor is then asked for by
long polls, and a stream is tried again later. What is no hub does not greet: its stream is read as
a browser's EventSource would (WHATWG HTML, 9.2).
"""

from __future__ import annotations

import json
import logging
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from callboard.events.errors import WAIT_MAX_S, NotAStream, Refused, Unreachable
from callboard.events.lines import LineParser
from callboard.events.ordering import Seen
from callboard.events.parser import Event, Parser
from callboard.events.targets import Target

log = logging.getLogger(__name__)

CONNECT_S = 10.0
HELLO_S = 3.0
BEATS_MISSED = 2.5
POLL_S = 25.0
"""How long a hub may hold a long poll."""
POLL_EXTRA_S = 10.0
POLL_SHORT_S = 1.0
"""A poll that brings nothing takes longer; else it is not repeated at once."""
QUIET_S = 300.0
"""A stream without heartbeats is not waited for longer; what resumes it loses nothing."""
STREAM_AGAIN_S = 60.0
STREAM_AGAIN_MAX_S = 600.0
SINCE_EXTRA_S = 1.0
"""So much further back than the first request is asked for, where that brought no cursor: no two
requests take as long to come to a hub. Rather an event from just before it than one missed."""
RETRY_S = 3.0
"""Until a server says otherwise."""
BACKOFF_MAX_S = 30.0
RENEW_S = 1.0
"""Between two tokens at least, however soon the hub says good-bye."""

MEDIA_TYPES = {False: "text/event-stream", True: "application/x-ndjson"}
"""By whether JSON lines are asked for."""


@dataclass(frozen=True, slots=True)
class Gap(Event):
    """Events that the hub no longer has, told where they are missing. As an event its type is
    `hub.gap`, its data the hub's JSON."""

    requested: str = ""
    """The cursor that was asked for."""
    oldest: str = ""
    """Where the hub's history begins."""
    newest: str = ""
    lost: int | None = None
    """How many events (of any topic) are missing; None: not known."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a subscriber asks of a stream."""

    last_event_id: str = ""
    """Where to resume; with it the next two count no more."""
    since: str = ""
    """How far back to begin: 10m, 1h30m, 2d, a date and time of RFC 3339."""
    last: int | None = None
    """How many events to begin with."""
    beat_s: float = 10.0
    """Between signs of life; 0: none, and no greeting. At least 1."""
    lines: bool = False
    """Ask for JSON lines, which tell topics and times."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One connection's request."""

    url: str
    headers: Mapping[str, str]


class _Stage(Enum):
    CONNECTING = 1
    ASKED = 2
    """And nothing came."""
    FLOWING = 3


class Course:
    """One subscription."""

    def __init__(
        self,
        target: Target,
        wishes: Wishes,
        rng: random.Random,
        *,
        renews: bool = False,
        patient: bool = True,
    ) -> None:
        """`renews`: there is a new token for every connection; `patient`: a server that was never
        reached is waited for. Raises ValueError."""
        if wishes.beat_s and not (math.isfinite(wishes.beat_s) and wishes.beat_s >= 1):
            raise ValueError("beat_s is 0, or at least 1")
        if wishes.last is not None and wishes.last < 0:
            raise ValueError("last is a number of events")
        self._target = target
        self._wishes = wishes
        self._rng = rng
        self._renews = renews
        self._patient = patient
        self._seen = Seen(wishes.last_event_id)
        self._parser: Parser | LineParser = Parser(wishes.last_event_id)
        self._stage = _Stage.CONNECTING
        self._asked_at = 0.0
        self._first_asked_at: float | None = None
        self._progress = False
        self._greeted = False
        self._greets = wishes.beat_s > 0
        self._begun = False
        self._at_once = False
        self._refused_token = False
        self._token: str | None = None
        self._renewed = True
        self._token_at = -math.inf  # the first one may have been old already
        self._renew_at: float | None = None
        self._brought = 0
        self._retry_s = RETRY_S
        self._retry_after_s: float | None = None
        self._again_at = 0.0
        self._again_s = STREAM_AGAIN_S
        self.last_event_id = wishes.last_event_id
        """Where the next connection resumes."""
        self.polling = False
        """Whether long polls stand in for a stream."""
        self._reached = False
        self.failures = 0
        """How many connections failed, one after the other, without anything to show for it."""
        self.ending = ""
        """How the last connection ended."""
        self.finished = False
        """The server said that there will be nothing more (204)."""

    # ------------------------------------------------------------------ a connection

    def turn(self, now: float, token: str = "") -> Turn:
        """Begin a connection; `now` is monotonic."""
        if self.polling and now >= self._again_at:
            self.polling = False
        self._stage = _Stage.CONNECTING
        self._progress = self._greeted = False
        self._at_once = False
        self._renew_at = None
        self._retry_after_s = None
        self._brought = 0
        self.ending = "the stream ended"
        # one that did not change is as old as it was: no reason to hurry once more
        self._renewed = token != self._token
        if self._renewed and self._token is not None:
            self._token_at = now
        self._token = token
        lines = self._wishes.lines
        self._parser = LineParser(self.last_event_id) if lines else Parser(self.last_event_id)
        self._seen.connection()
        headers = {
            "Accept": MEDIA_TYPES[lines],
            "Accept-Encoding": "identity",
            "Cache-Control": "no-store",
            "User-Agent": "callboard",
        }
        query = []
        if token:
            headers["Authorization"] = f"Bearer {token}"
        if self.last_event_id and _fits_header(self.last_event_id):
            headers["Last-Event-ID"] = self.last_event_id
        elif self.last_event_id:
            query.append(("lastEventID", self.last_event_id))
        elif not self._begun:
            if self._wishes.since:
                query.append(("since", self._wishes.since))
            if self._wishes.last is not None:
                query.append(("last", str(self._wishes.last)))
            if not query and self._greets and self._first_asked_at is not None:
                # what was published while the hub could not be heard was asked for already
                since_ms = math.ceil((now - self._first_asked_at + SINCE_EXTRA_S) * 1000)
                query.append(("since", f"{since_ms}ms"))
        if self.polling:
            query.append(("poll", f"{POLL_S:g}"))
        elif self._wishes.beat_s > 0:
            query.append(("beat", f"{self._wishes.beat_s:g}"))
        return Turn(self._target.url_with(query), headers)

    def sent(self, now: float) -> None:
        """The request is on its way."""
        self._stage = _Stage.ASKED
        self._asked_at = now
        if self._first_asked_at is None:
            self._first_asked_at = now

    def patience_s(self, now: float) -> float:
        """How long to wait for whatever comes next: connection, head, bytes. No longer than until
        the token is to be renewed."""
        if self._renew_at is not None:
            return max(0.0, min(self._silence_s(now), self._renew_at - now))
        return self._silence_s(now)

    def _silence_s(self, now: float) -> float:
        if self._stage is _Stage.CONNECTING:
            return CONNECT_S
        if self.polling:
            return POLL_S + POLL_EXTRA_S
        if not self._greets:
            return QUIET_S
        if self._greeted:
            return BEATS_MISSED * self._wishes.beat_s
        return max(0.0, self._asked_at + HELLO_S - now)

    def opened(self, status: int, headers: Mapping[str, str], text: str = "") -> bool:
        """The head came (names in lower case); whether a body is to be read. `text` is the
        beginning of the body of anything but 200. Raises Refused, NotAStream."""
        if status == 200:
            self._check_media_type(headers)
            self._reached, self._refused_token = True, False
            if not self.last_event_id:
                # a hub's head tells where the stream begins; without it a quiet one that is cut
                # would go on from the time of the next connection
                known = ("mercure-last-event-id", "last-event-id")
                self.last_event_id = next(filter(None, map(headers.get, known)), "")
            if self.polling:
                self._progress = True
            return True
        if status == 204:
            self._reached = True
            self._progress, self.finished = self.polling, not self.polling
            return False
        refused = Refused(status, headers, text)
        self.ending = str(refused)
        if status == 401 and self._renews and not self._refused_token:
            self._refused_token = self._at_once = True
        elif status in (408, 425, 429) or status >= 500:
            self._retry_after_s = refused.retry_after_s
        else:
            raise refused
        return False

    def received(self, chunk: bytes, now: float) -> list[Event]:
        """Take bytes of the body; the events that are news, and gaps. Raises EventTooLong,
        BadLine."""
        self._stage = _Stage.FLOWING
        self._begun = True
        news = []
        for event in self._parser.feed(chunk):
            if event.type.startswith("hub."):
                news += self._hub_event(event, now)
                continue
            if not self._greeted and not self.polling:
                self._greets = False  # a hub says hello before anything else
            self._progress = True
            if not event.id_given or self._seen.is_news(event.id):
                news.append(event)
        self.last_event_id = self._parser.last_event_id
        self._brought += len(news)
        if self._parser.retry_ms is not None:
            self._retry_in(self._parser.retry_ms)
        return news

    def hurries(self, now: float) -> bool:
        """Whether the connection is to be closed, for one with a new token: `hub.bye` was
        understood."""
        return self._renew_at is not None and now >= self._renew_at

    def lost(self, now: float, reason: str = "", *, timed_out: bool = False) -> float:
        """The connection is over, or never came (`reason`: why, where the server did not say);
        seconds to wait before the next one. Raises Unreachable for who is not patient."""
        self.ending = reason or self.ending
        place = self._target.url.partition("?")[0]  # no query, where a token may stand
        if timed_out and self._waited_for_hello():
            if self._stage is _Stage.FLOWING:
                self._greets = False  # bytes come at once, only no greeting: this is no hub
            else:
                self.polling, self._again_at = True, now + self._again_s
                self._again_s = min(2 * self._again_s, STREAM_AGAIN_MAX_S)
            return 0.0
        if self._greeted:
            self._again_s = STREAM_AGAIN_S
        if self._at_once:
            return 0.0
        if self.hurries(now):
            return max(0.0, self._token_at + RENEW_S - now)
        if not self._reached and not self._patient:
            raise Unreachable(f"{place}: {self.ending}")
        if self._progress:
            self.failures = 0
            if self.polling and (self._brought or now - self._asked_at >= POLL_SHORT_S):
                return 0.0
            return self._retry_s * self._rng.uniform(0.75, 1.25)
        self.failures += 1
        if self.failures == 1:
            log.warning("lost the stream of events", extra={"url": place, "reason": self.ending})
        if self._retry_after_s is not None:
            return self._retry_after_s * self._rng.uniform(1.0, 1.1)
        grown_s = self._retry_s * float(1 << min(self.failures - 1, 10))
        wait_s = max(self._retry_s, min(grown_s, BACKOFF_MAX_S))
        return wait_s * self._rng.uniform(0.75, 1.0 if wait_s >= BACKOFF_MAX_S else 1.25)

    # ------------------------------------------------------------------ inside

    def _waited_for_hello(self) -> bool:
        asked = self._stage is not _Stage.CONNECTING
        return asked and self._greets and not self._greeted and not self.polling

    def _check_media_type(self, headers: Mapping[str, str]) -> None:
        wanted = MEDIA_TYPES[self._wishes.lines]
        given = headers.get("content-type", "").partition(";")[0].strip().lower()
        if given != wanted:
            raise NotAStream(f"the answer is {given or 'of no type'}, not {wanted}: no hub is here")

    def _hub_event(self, event: Event, now: float) -> list[Event]:
        """What the hub says of the stream itself; gaps alone are shown."""
        fields = json_fields(event.data)
        retry_ms = fields.get("retry")
        if isinstance(retry_ms, int) and retry_ms > 0:
            self._retry_in(retry_ms)  # JSON lines have no `retry:`
        if event.type == "hub.gap":
            self._progress = True
            self._seen.gap()
            return [_gap(event, fields)]
        if event.type in ("hub.hello", "hub.beat", "hub.state"):
            self._greeted = self._greeted or not self.polling
            self._progress = True
        elif event.type == "hub.limit":
            self._progress = False
            self.ending = f"the hub limits: {event.data}"
        elif event.type == "hub.bye":
            self.ending = f"the hub said good-bye: {event.data}"
            # one that comes at once says that the token is dead already: that is waited out. For
            # any other reason the stream ends by itself, in order
            lives = self._greeted or self.polling
            if fields.get("reason") == "token" and lives and self._renews and self._renewed:
                self._renew_later(now, fields.get("ends_in"))
        return []

    def _renew_later(self, now: float, ends_in: object) -> None:
        """The token ends in so many seconds. One that was had for as long as it has left is
        renewed at once; else its whole life is shorter than the hub's notice, as the next one's
        will be: half of what is left is used first, on the stream that goes on meanwhile."""
        left_s = 0.0
        if isinstance(ends_in, int | float) and ends_in > 0:
            left_s = float(min(ends_in, WAIT_MAX_S))
        wait_s = 0.0
        if now - self._token_at < max(left_s, RENEW_S):
            wait_s = min(max(RENEW_S, left_s * self._rng.uniform(0.4, 0.6)), left_s)
        renew_at = now + wait_s
        self._renew_at = renew_at if self._renew_at is None else min(self._renew_at, renew_at)

    def _retry_in(self, retry_ms: int) -> None:
        self._retry_s = min(retry_ms, WAIT_MAX_S * 1000) / 1000


def _fits_header(id: str) -> bool:
    return id.isprintable() and id == id.strip()


def json_fields(text: str | bytes) -> dict[str, object]:
    """The fields of a JSON object; none, if it is no such thing."""
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}


def _gap(event: Event, fields: Mapping[str, object]) -> Gap:
    lost = fields.get("lost")
    return Gap(
        data=event.data,
        type=event.type,
        id=event.id,
        retry_ms=event.retry_ms,
        id_given=event.id_given,
        time_ms=event.time_ms,
        requested=str(fields.get("requested", "")),
        oldest=str(fields.get("oldest", "")),
        newest=str(fields.get("newest", "")),
        lost=lost if isinstance(lost, int) else None,
    )
