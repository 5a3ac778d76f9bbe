"""GET /stats: what the hub does, as JSON."""

from __future__ import annotations

import json

from callboard.chassis.proxied import is_proxied
from callboard.hub.http.authorising import Authorising
from callboard.hub.http.ports import Door, Statistics
from callboard.serve import Answer, Request
from callboard.serve.resources import JSON

TOPICS_DEFAULT, TOPICS_MAX = 10, 100


class StatisticsEndpoint:
    """See the module."""

    def __init__(self, statistics: Statistics, authorising: Authorising, door: Door) -> None:
        self._statistics = statistics
        self._authorising = authorising
        self._door = door

    def read(self, request: Request) -> Answer:
        """Subscribers, publications, deliveries, lag, cuts by reason, gaps, bounds of the history;
        and the topics most published to (?top=N), where /t/ is open or for a token that may read
        every topic."""
        figures = dict(self._statistics.figures())
        if self._may_see_topics(request):
            top = request.query.get("top", [""])[0]
            count = int(top) if top.isascii() and top.isdigit() and len(top) < 6 else TOPICS_DEFAULT
            figures["topics"] = self._statistics.topics(min(count, TOPICS_MAX))
        return Answer(200, json.dumps(figures).encode(), [("Cache-Control", "no-store")], JSON)

    def _may_see_topics(self, request: Request) -> bool:
        if self._authorising.shows_token(request):
            rights = self._authorising.subscriber(request, required=False)
            return rights.subscribe is not None and rights.subscribe.allow("*")
        return self._door.open and not is_proxied(request.headers)
