"""Subscribing: streams and long polls of the hub's URL and of /t/.

A browser's EventSource gives up for good on any status but 200. So one that is over a limit, or
that shows a token which is dead, gets a stream of one event that says so, and its end: it comes
back, and its page has heard why. All others get the status.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from urllib.parse import quote
from uuid import UUID

from callboard.chassis.eventsource import is_browser
from callboard.hub.cursor import EARLIEST
from callboard.hub.event import Format, named
from callboard.hub.http.authorising import Authorising, DeadToken
from callboard.hub.http.frame import Frame
from callboard.hub.http.ports import Door
from callboard.hub.http.presence import Presence
from callboard.hub.http.publish import topic_of
from callboard.hub.matching.refusal import Refused
from callboard.hub.matching.selectors import selector
from callboard.hub.mercure import forms, parameters
from callboard.hub.mercure.addresses import Address, address_of
from callboard.hub.mercure.parameters import Asked, Generation
from callboard.hub.mercure.refusals import bad_request, too_many
from callboard.hub.ports import Subscription
from callboard.hub.subscribers.readers import Readers
from callboard.hub.subscribers.readers import Refused as TooMany
from callboard.serve import Answer, Detach, Request, Settled

FULL_RETRY_S = 5.0
"""When it is worth asking again, after a limit."""
FULL_RETRY_MS = (5_000, 20_000)
"""The same of browsers: they come back by themselves, and not all at once."""
DEAD_RETRY_MS = (5_000, 15_000)
"""A page that does nothing about its dead token comes back so often."""
STREAM_HEADERS = (("Cache-Control", "no-store"), ("X-Accel-Buffering", "no"))
ACCEPT_QUERY = ("Accept-Query", forms.MEDIA_TYPE)


Header = tuple[str, str]


class SubscribeEndpoints:
    """See the module."""

    def __init__(
        self,
        readers: Readers,
        authorising: Authorising,
        presence: Presence,
        *,
        door: Door,
        frame: Frame,
        now: Callable[[], float],
        rng: random.Random,
    ) -> None:
        """`now` is wall time in seconds."""
        self._readers = readers
        self._authorising = authorising
        self._presence = presence
        self._door = door
        self._frame = frame
        self._now = now
        self._rng = rng

    async def subscribe(self, request: Request) -> Settled:
        """Receive the updates of topics: match, match_urlpattern or (drafts up to 07) topic, each
        as often as wanted. Resumes after Last-Event-ID; since, last, beat, poll, format."""
        return await self._open(request, self._read(request), ())

    async def query(self, request: Request) -> Settled:
        """The same, with parameters in the body, too (RFC 10008)."""
        kind = request.headers.get("content-type", "")
        if not kind:
            raise bad_request("QUERY needs a Content-Type")
        if not forms.is_form(kind):
            raise Refused(415, f"parameters are {forms.MEDIA_TYPE}", (ACCEPT_QUERY,))
        try:
            for name, values in forms.decode(request.body).items():
                request.query.setdefault(name, []).extend(values)
        except forms.BadForm as problem:
            raise bad_request(f"not a form: {problem}") from problem
        return await self.subscribe(request)

    async def subscribe_here(self, request: Request) -> Settled:
        """Receive the updates of the topic that the path names; begins with `hub.hello`."""
        topic = topic_of(request)
        asked = parameters.read_topic(topic, request.query, request.headers, self._now_ms())
        link = f'<{quote(topic, safe="/:@!$&*+,=~.-_")}>; rel="self"'
        return await self._open(request, asked, (link,), greets=True)

    def _read(self, request: Request) -> Asked:
        base = self._authorising.hub_url
        return parameters.read(request.query, request.headers, self._now_ms(), base)

    async def _open(
        self, request: Request, asked: Asked, links: Iterable[str], *, greets: bool = False
    ) -> Settled:
        address = address_of(request.headers, self._door.scheme)
        try:
            rights = self._authorising.subscriber(request)
        except DeadToken:
            if is_browser(request.headers):
                return self._come_back(asked.format, "hub.bye", "token", *DEAD_RETRY_MS)
            raise
        subscriber = UUID(int=self._rng.getrandbits(128), version=4).urn
        polls = asked.poll_s is not None
        announcement = self._presence.announcement(
            asked, subscriber, self._authorising.payload_of(rights)
        )
        subscription = Subscription(
            selector(asked.matchers, rights.subscribe),
            asked.format,
            asked.cursor,
            asked.since_ms,
            asked.last,
            greets or asked.beat_s > 0 or polls,
            asked.beat_s,
            rights,
            self._frame.client(request),
            subscriber,
            None if polls else announcement,
        )
        head = _head(asked, address, links)
        sees_head_alone = request.method == "HEAD" and not polls
        if sees_head_alone and asked.last_event_id is None:
            return head
        try:
            opened = await self._readers.open(subscription)
        except TooMany as problem:
            if is_browser(request.headers):
                return self._come_back(asked.format, "hub.limit", str(problem), *FULL_RETRY_MS)
            raise too_many(str(problem), FULL_RETRY_S) from problem
        if asked.last_event_id is not None:
            head.headers.append(_cursor_out(asked, opened.last_event_id))
        if sees_head_alone:
            return head  # (a reader that never had a connection is nothing to be ended)
        if asked.poll_s is not None:
            return self._readers.poll(opened, asked.poll_s, head.headers)
        return Detach(head, opened.sink)

    def _come_back(
        self, format: Format, type: str, reason: str, least_ms: int, most_ms: int
    ) -> Answer:
        """A whole stream: when to come back, why, the end."""
        retry_ms = self._rng.randint(least_ms, most_ms)
        event = named(format, type, {"reason": reason, "retry": retry_ms})
        first = b"retry: %d\n\n" % retry_ms if format is Format.SSE else b""
        return Answer(200, first + event, list(STREAM_HEADERS), format.value)

    def _now_ms(self) -> int:
        return int(self._now() * 1000)


def _head(asked: Asked, address: Address, links: Iterable[str]) -> Answer:
    link = ", ".join((f'<{address.hub}>; rel="mercure"', *links))
    headers = [*STREAM_HEADERS, ("Link", link), ACCEPT_QUERY]
    return Answer(200, b"", headers, asked.format.value)


def _cursor_out(asked: Asked, last_event_id: str) -> Header:
    """What was asked for, in its own words, if the stream begins there; `earliest` if it does not,
    or if what was asked for is no id (draft 08, Reconnection)."""
    known = asked.last_event_id if asked.cursor is not None else None
    legacy = asked.generation is Generation.LEGACY
    name = "Last-Event-ID" if legacy else "Mercure-Last-Event-ID"
    return name, EARLIEST if last_event_id == EARLIEST else known or EARLIEST
