"""Active subscriptions: who listens to what, as documents and as events of both generations. Pure.

A subscription is one matcher of one stream. Its topic, under which its beginning and its end are
published as private updates, is also the path of its document:

    /.well-known/mercure/subscriptions/{topic}/{subscriber}                 drafts up to 07
    /.well-known/mercure/subscriptions/{match_type}/{match}/{subscriber}    draft 08

Topics carry no prefix of a proxy: they are the same whichever way a client came. Variables are
percent-encoded once (RFC 6570, 3.2.2). A topic of drafts up to 07 that is called like a match
type of 08 has no collection of its own.

Source: draft-dunglas-mercure-07 and -08, Active Subscriptions; version 1.0 for the form of 08's
documents (plain JSON, `subscription` in lower case, the event type `mercure`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from urllib.parse import quote, unquote_to_bytes

from callboard.hub.event import Publication
from callboard.hub.mercure.addresses import SUBSCRIPTIONS_PATH
from callboard.hub.mercure.parameters import Generation
from callboard.hub.ports import Matcher

EVENT_TYPE = "mercure"
"""Of the hub's own events in draft 08; no publisher may use it."""
CONTEXT = "https://mercure.rocks/"
DOCUMENTS_MAX = 10_000
"""In one collection; more are left out (draft 08 lets a hub truncate)."""
_MATCH_TYPES = ("exact", "urlpattern")


@dataclass(frozen=True, slots=True)
class Active:
    """One matcher of one open stream."""

    generation: Generation
    kind: str
    """Match type of draft 08."""
    text: str
    subscriber: str
    payload: object = None
    topic: str = field(init=False)

    def __post_init__(self) -> None:
        parts = [self.text, self.subscriber]
        if self.generation is Generation.CURRENT:
            parts.insert(0, self.kind)
        object.__setattr__(self, "topic", path_of(parts))

    def document(self, *, active: bool, nested: bool = False) -> dict[str, object]:
        """What is said of it; `nested` in a collection, whose `@context` is its own."""
        if self.generation is Generation.CURRENT:
            document: dict[str, object] = {"id": self.topic, "type": "subscription"}
            document |= {"subscriber": self.subscriber, "match": self.text}
            document |= {"match_type": self.kind, "active": active}
        else:
            document = {} if nested else {"@context": CONTEXT}
            document |= {"id": self.topic, "type": "Subscription", "topic": self.text}
            document |= {"subscriber": self.subscriber, "active": active}
        if self.payload is not None:
            document["payload"] = self.payload
        return document

    def event(self, *, active: bool) -> Publication:
        """The private update that tells of its beginning or its end."""
        type = EVENT_TYPE if self.generation is Generation.CURRENT else ""
        data = encode(self.document(active=active))
        return Publication((self.topic,), data, type, private=True)


class ActiveSubscriptions:
    """Those of all open streams, in the order of their beginning.

    Their number is bounded by the streams' and by the matchers of a request.
    """

    def __init__(self) -> None:
        self._by_topic: dict[str, Active] = {}
        self._by_subscriber: dict[str, list[Active]] = {}

    def __len__(self) -> int:
        return len(self._by_topic)

    def open(
        self,
        generation: Generation,
        matchers: Iterable[Matcher],
        subscriber: str,
        payload_of: Callable[[Matcher], object],
    ) -> Sequence[Active]:
        """Add those of a stream; `subscriber` is its identifier, made by the hub and of no other
        stream; `payload_of` gives what its token attaches to a matcher."""
        opened: list[Active] = []
        for matcher in matchers:
            kind = "urlpattern" if matcher.kind == "urlpattern" else "exact"
            payload = payload_of(matcher)
            active = Active(generation, kind, matcher.text, subscriber, payload)
            if active.topic not in self._by_topic:
                self._by_topic[active.topic] = active
                opened.append(active)
        self._by_subscriber[subscriber] = opened
        return opened

    def close(self, subscriber: str) -> Sequence[Active]:
        """Take out those of a stream that has ended."""
        closed = self._by_subscriber.pop(subscriber, [])
        for active in closed:
            del self._by_topic[active.topic]
        return closed

    def find(self, topic: str) -> Active | None:
        """The subscription of a document's path, in its canonical spelling."""
        return self._by_topic.get(topic)

    def of(self, generation: Generation, kind: str = "", text: str | None = None) -> list[Active]:
        """Those of a generation; of one match type; of one matcher. At most DOCUMENTS_MAX."""
        found = (
            active
            for active in self._by_topic.values()
            if active.generation is generation
            and kind in ("", active.kind)
            and text in (None, active.text)
        )
        return list(islice(found, DOCUMENTS_MAX))


@dataclass(frozen=True, slots=True)
class Place:
    """What a path below SUBSCRIPTIONS_PATH names."""

    generation: Generation | None
    """None: the collection of all, in the form of who asks."""
    kind: str = ""
    text: str | None = None
    subscriber: str | None = None

    @property
    def topic(self) -> str:
        """The canonical spelling of the path."""
        kind = self.kind if self.generation is Generation.CURRENT else None
        parts = (kind or None, self.text, self.subscriber)
        return path_of(part for part in parts if part is not None)


def place_of(raw_rest: bytes) -> Place | None:
    """What the rest of a path names, as it was sent: "" or `/…`. None: nothing can be there."""
    try:
        parts = list(_segments(raw_rest))
    except UnicodeDecodeError:
        return None
    if not parts:
        return Place(None)
    if parts[0] in _MATCH_TYPES and len(parts) <= 3:
        return Place(Generation.CURRENT, *parts)
    return Place(Generation.LEGACY, "", *parts) if len(parts) <= 2 else None


def collection(
    id: str, generation: Generation, subscriptions: Iterable[Active], last_event_id: str
) -> dict[str, object]:
    """The document of several subscriptions; `last_event_id` is the newest event's."""
    documents = [active.document(active=True, nested=True) for active in subscriptions]
    if generation is Generation.CURRENT:
        document: dict[str, object] = {"id": id, "type": "subscriptions"}
    else:
        document = {"@context": CONTEXT, "id": id, "type": "Subscriptions"}
    return with_last_event_id(document, generation, last_event_id) | {"subscriptions": documents}


def with_last_event_id(
    document: dict[str, object], generation: Generation, last_event_id: str
) -> dict[str, object]:
    """A document with the cursor from which its changes follow."""
    name = "last_event_id" if generation is Generation.CURRENT else "lastEventID"
    return document | {name: last_event_id}


def encode(document: dict[str, object]) -> bytes:
    """A document as JSON."""
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def path_of(parts: Iterable[str]) -> str:
    """The path of a subscription or a collection, each part percent-encoded once."""
    return "/".join((SUBSCRIPTIONS_PATH, *(quote(part, safe="") for part in parts)))


def _segments(raw_rest: bytes) -> Iterator[str]:
    rest = raw_rest.strip(b"/")
    if rest:
        for segment in rest.split(b"/"):
            yield unquote_to_bytes(segment).decode()
