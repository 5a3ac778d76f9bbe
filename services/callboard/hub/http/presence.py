"""Who listens: the subscriptions API, and the events that tell of a stream's beginning and end.

Only where it is asked for (`-subscriptions`): each stream then costs two updates a matcher.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from callboard.chassis.logs import RateLimited
from callboard.hub.cursor import EARLIEST, Cursor
from callboard.hub.event import Update
from callboard.hub.http.authorising import Authorising
from callboard.hub.http.frame import tagged
from callboard.hub.http.ports import Door
from callboard.hub.mercure.addresses import SUBSCRIPTIONS_PATH, address_of
from callboard.hub.mercure.parameters import Asked, Generation
from callboard.hub.mercure.subscriptions import (
    Active,
    ActiveSubscriptions,
    collection,
    encode,
    place_of,
    with_last_event_id,
)
from callboard.hub.ports import History, HistoryError, Matcher, Subscription
from callboard.hub.subscribers.readers import Readers
from callboard.serve import Answer, Request
from callboard.serve.resources import JSON, text

log = logging.getLogger(__name__)
LD_JSON = "application/ld+json"


@dataclass(frozen=True, slots=True)
class Announcement:
    """What is told of a stream: it travels with its `Subscription`."""

    generation: Generation
    matchers: tuple[Matcher, ...]
    subscriber: str
    payload_of: Callable[[Matcher], object]


class Presence:
    """The subscriptions of all streams, and their events."""

    def __init__(self, history: History, readers: Readers, *, enabled: bool) -> None:
        self.enabled = enabled
        self.active = ActiveSubscriptions()
        self._history = history
        self._limited = RateLimited(log)
        if enabled:
            readers.on_begin = self._begins
            readers.on_end = self._ends

    def announcement(
        self, asked: Asked, subscriber: str, payload_of: Callable[[Matcher], object]
    ) -> Announcement | None:
        """What a stream carries with it; None where nothing is told."""
        if not self.enabled:
            return None
        return Announcement(asked.generation, asked.matchers, subscriber, payload_of)

    def _begins(self, subscription: Subscription) -> None:
        told = subscription.announcement
        if not isinstance(told, Announcement):
            return
        for active in self.active.open(
            told.generation, told.matchers, told.subscriber, told.payload_of
        ):
            self._announce(active, active=True)

    def _ends(self, subscription: Subscription) -> None:
        for active in self.active.close(subscription.id):
            self._announce(active, active=False)

    def _announce(self, subscription: Active, *, active: bool) -> None:
        try:
            self._history.submit(subscription.event(active=active), self._taken)
        except HistoryError as problem:
            self._taken(problem)

    def _taken(self, outcome: Update | HistoryError) -> None:
        if isinstance(outcome, HistoryError):
            self._limited.warning("lost", "subscription event lost", {"reason": str(outcome)})


class SubscriptionEndpoints:
    """The subscriptions API."""

    def __init__(
        self, presence: Presence, history: History, authorising: Authorising, door: Door
    ) -> None:
        self._presence = presence
        self._history = history
        self._authorising = authorising
        self._door = door

    def read(self, request: Request) -> Answer:
        """Active subscriptions: all, those of a matcher, or one. A token that may subscribe to
        this path is needed."""
        if not self._presence.enabled:
            return text(404, "this hub does not tell who listens: see -subscriptions")
        place = place_of(request.raw_path.removeprefix(SUBSCRIPTIONS_PATH.encode()))
        if place is None:
            return text(404, "no such collection of subscriptions")
        rights = self._authorising.listener(request, place.topic)
        newest = self._newest()
        if place.subscriber is not None:
            active = self._presence.active.find(place.topic)
            if active is None:
                return text(404, "no such subscription")
            generation = active.generation
            document = with_last_event_id(active.document(active=True), generation, newest)
        else:
            generation = place.generation or self._authorising.generation(rights)
            found = self._presence.active.of(generation, place.kind, place.text)
            document = collection(place.topic, generation, found, newest)
        return self._answer(request, generation, encode(document), newest)

    def _answer(self, request: Request, generation: Generation, body: bytes, newest: str) -> Answer:
        hub = address_of(request.headers, self._door.scheme).hub
        current = generation is Generation.CURRENT
        kind = JSON if current else LD_JSON
        link = f'<{hub}>; rel="mercure"; last-event-id="{newest}"'
        if current:
            link += f'; type="mercure"; content-type="{JSON}"'
        headers = [("Link", link), ("Cache-Control", "private, must-revalidate")]
        return tagged(request, Answer(200, body, headers, kind))

    def _newest(self) -> str:
        head = self._history.head
        return str(Cursor(self._history.place(head))) if head else EARLIEST
