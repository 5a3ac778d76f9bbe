"""Publishing: POST to the hub and to /t/, DELETE of what a topic kept."""

from __future__ import annotations

import logging
from collections.abc import Callable

from callboard.chassis.proxied import is_proxied
from callboard.hub.auth.origins import Origins
from callboard.hub.event import Publication, Update
from callboard.hub.http.authorising import Authorising
from callboard.hub.http.frame import Frame, answer_to
from callboard.hub.http.ports import Door
from callboard.hub.matching import naming
from callboard.hub.matching.refusal import Refused
from callboard.hub.mercure import publications
from callboard.hub.mercure.addresses import address_of
from callboard.hub.mercure.forms import BadForm, decode, is_form
from callboard.hub.mercure.refusals import bad_request
from callboard.hub.ports import History, HistoryError, Rights
from callboard.serve import Answer, Request
from callboard.serve.resources import PLAIN, text

log = logging.getLogger(__name__)

TOPICS_PATH = "/t/"


class Publishing:
    """A publication on its way into the history: a `Parked` request.

    Whoever published may leave meanwhile: what was submitted stays submitted.
    """

    def __init__(self, history: History, publication: Publication, end: bytes) -> None:
        """`end` follows the id in the answer's body."""
        self._history = history
        self._publication = publication
        self._end = end
        self._deliver: Callable[[Answer], None] | None = None

    def start(self, deliver: Callable[[Answer], None]) -> None:
        """See Parked."""
        self._deliver = deliver
        try:
            self._history.submit(self._publication, self._taken)
        except HistoryError as problem:
            self._taken(problem)

    def cancel(self) -> None:
        """See Parked."""
        self._deliver = None

    def _taken(self, outcome: Update | HistoryError) -> None:
        deliver, self._deliver = self._deliver, None
        if deliver is None:
            return
        if isinstance(outcome, Update):
            deliver(Answer(200, outcome.id.encode() + self._end, content_type=PLAIN))
        else:
            deliver(answer_to(outcome))


class PublishEndpoints:
    """See the module."""

    def __init__(
        self,
        history: History,
        authorising: Authorising,
        *,
        door: Door,
        origins: Origins,
        frame: Frame,
    ) -> None:
        self._history = history
        self._authorising = authorising
        self._door = door
        self._origins = origins
        self._frame = frame

    def publish(self, request: Request) -> Publishing:
        """Publish an update: a form of topic (one or more), data, private, id, type and retry. A
        token that may publish to all its topics is needed. Answers with the event's id."""
        kind = request.headers.get("content-type", "")
        if kind and not is_form(kind):
            raise Refused(415, "publications are application/x-www-form-urlencoded")
        rights = self._authorising.publisher(request)
        try:
            fields = decode(request.body)
        except BadForm as problem:
            raise bad_request(f"not a form: {problem}") from problem
        publication = publications.of_form(
            fields, request.headers, rights, base=self._authorising.hub_url
        )
        self._authorise(request, rights, publication)
        return Publishing(self._history, publication, b"")

    def publish_here(self, request: Request) -> Publishing:
        """Publish the body, as it is, to the topic that the path names; id, type, private and retry
        are parameters. Answers with the event's id."""
        rights = self._writer(request)
        publication = publications.of_body(
            topic_of(request),
            request.query,
            request.headers,
            request.body,
            rights if rights is not None else Rights(),
            base=self._authorising.hub_url,
        )
        if rights is not None:
            self._authorise(request, rights, publication)
        return Publishing(self._history, publication, b"\n")

    async def purge(self, request: Request) -> Answer:
        """Forget what was published to a topic. A token that may publish to it is needed."""
        topics = request.query.get("topic", [])
        if len(topics) != 1:
            raise bad_request("one topic is purged at a time: topic=…")
        return await self._purge(request, topics[0])

    async def purge_here(self, request: Request) -> Answer:
        """Forget what was published to this topic. A token that may publish to it is needed."""
        return await self._purge(request, topic_of(request))

    async def _purge(self, request: Request, topic: str) -> Answer:
        rights = self._authorising.publisher(request)
        naming.checked_topic(topic, self._authorising.hub_url)
        self._authorising.require_publish(request, rights, (topic,), private=True)
        count = await self._history.purge(topic)
        who = {"client": self._frame.client(request), "subject": rights.subject}
        log.warning("topic purged", extra={"topic": topic, "updates": count, **who})
        return text(200, f"{count} updates forgotten")

    def _writer(self, request: Request) -> Rights | None:
        """Who publishes to /t/; None: somebody who needs no token. One that is shown is judged."""
        open = self._door.open and not is_proxied(request.headers)
        if not open or self._authorising.shows_token(request):
            return self._authorising.publisher(request)
        own = address_of(request.headers, self._door.scheme).origin
        if not self._origins.may_write(request.headers, own):
            raise Refused(403, "a page of another site may not publish here: see -allowed-origin")
        return None

    def _authorise(self, request: Request, rights: Rights, publication: Publication) -> None:
        self._authorising.require_publish(
            request, rights, publication.topics, private=publication.private
        )
        self._authorising.spend(rights)


def topic_of(request: Request) -> str:
    """The topic that a path below /t/ names."""
    return "/" + request.path.removeprefix(TOPICS_PATH)
