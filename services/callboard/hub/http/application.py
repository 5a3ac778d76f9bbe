"""The API assembled: publishing before routing, everything as a FastAPI application.

hub = Hub(…)
api = hub.api(Door(open=True))
Server(api.app, handlers=api.publishing, …)
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from callboard.catalog.version import VERSION
from callboard.hub.auth.rates import Rates
from callboard.hub.auth.requests import Authority
from callboard.hub.http.authorising import Authorising
from callboard.hub.http.discovery import DiscoveryEndpoints
from callboard.hub.http.frame import Frame
from callboard.hub.http.hooks import HOOKS_PATH, HookEndpoints
from callboard.hub.http.page import page_resources
from callboard.hub.http.ports import Door, Statistics
from callboard.hub.http.presence import Presence, SubscriptionEndpoints
from callboard.hub.http.publish import TOPICS_PATH, PublishEndpoints
from callboard.hub.http.statistics import StatisticsEndpoint
from callboard.hub.http.subscribe import SubscribeEndpoints
from callboard.hub.matching import naming
from callboard.hub.matching.urls import HUB_PATH
from callboard.hub.mercure.addresses import METADATA_PATH, SUBSCRIPTIONS_PATH
from callboard.hub.mercure.webhooks import Hook
from callboard.hub.ports import History
from callboard.hub.subscribers.readers import Readers
from callboard.serve import LazyApp, Route, RouteTable
from callboard.serve.documents import Documents, document_resources
from callboard.serve.resources import Resource

if TYPE_CHECKING:
    from fastapi import FastAPI

WHO_LISTENS = "Who listens"


@dataclass(frozen=True, slots=True)
class Api:
    """What one listener serves."""

    publishing: BeforeRouting
    """For `Server(handlers=…)`: POST, served before routing."""
    app: LazyApp
    """For `Server(app)`: everything, as a FastAPI application."""
    resources: tuple[Resource, ...]


class BeforeRouting:
    """A `Dispatcher` of publications; of all else the application finds the route."""

    def __init__(self, routes: RouteTable) -> None:
        self._routes = routes

    def find(self, method: str, path: str) -> Route | None:
        """See Dispatcher."""
        return self._routes.find(method, path) if method == "POST" else None


class Hub:
    """What all listeners share."""

    def __init__(
        self,
        history: History,
        readers: Readers,
        authority: Authority,
        statistics: Statistics,
        *,
        rates: Rates | None = None,
        anonymous: bool = True,
        hooks: Mapping[str, Hook] | None = None,
        subscriptions: bool = False,
        now: Callable[[], float] = time.time,
        rng: random.Random | None = None,
    ) -> None:
        """`rates` are those of publishers' tokens; `anonymous`: public updates are read without a
        token; `subscriptions`: active ones are told as events, and listed. `now` is wall time in
        seconds; `rng` makes identifiers of subscribers that nobody may guess."""
        self._history = history
        self._readers = readers
        self._authority = authority
        self._statistics = statistics
        self._origins = authority.origins
        self._hooks = hooks or {}
        self._now = now
        self._rates = rates if rates is not None else Rates(0.0, 1.0)
        self._anonymous = anonymous
        self._rng = rng or random.SystemRandom()
        self.presence = Presence(history, readers, enabled=subscriptions)

    def api(self, door: Door) -> Api:
        """What a listener serves."""
        frame = Frame(self._origins, door)
        documents = Documents(lambda: _build(resources, every))
        resources = (*self._resources(door, frame), *document_resources(documents))
        every, publishing = RouteTable(frame.not_found()), RouteTable()
        for resource in resources:
            route = frame.route(resource)
            every.add(route)
            if resource.publishes:
                publishing.add(route)
        return Api(BeforeRouting(publishing), documents.app, resources)

    def _resources(self, door: Door, frame: Frame) -> Iterator[Resource]:
        authorising = Authorising(
            self._authority, door, self._rates, anonymous=self._anonymous, now=self._now
        )
        publish = PublishEndpoints(
            self._history, authorising, door=door, origins=self._origins, frame=frame
        )
        subscribe = SubscribeEndpoints(
            self._readers,
            authorising,
            self.presence,
            door=door,
            frame=frame,
            now=self._now,
            rng=self._rng,
        )
        yield Resource(
            HUB_PATH,
            {
                "GET": subscribe.subscribe,
                "HEAD": subscribe.subscribe,
                "QUERY": subscribe.query,
                "POST": publish.publish,
                "DELETE": publish.purge,
            },
            "The Mercure protocol",
            body_bytes_max=naming.BODY_BYTES_MAX,
            publishes=True,
        )
        yield Resource(
            TOPICS_PATH,
            {
                "GET": subscribe.subscribe_here,
                "HEAD": subscribe.subscribe_here,
                "POST": publish.publish_here,
                "DELETE": publish.purge_here,
            },
            "One topic",
            rest="topic",
            body_bytes_max=naming.DATA_BYTES_MAX,
            publishes=True,
        )
        presence = SubscriptionEndpoints(self.presence, self._history, authorising, door)
        read = {"GET": presence.read, "HEAD": presence.read}
        yield Resource(SUBSCRIPTIONS_PATH, read, WHO_LISTENS)
        yield Resource(f"{SUBSCRIPTIONS_PATH}/", read, WHO_LISTENS, rest="subscription")
        yield from self._other_resources(door, frame, authorising)

    def _other_resources(
        self, door: Door, frame: Frame, authorising: Authorising
    ) -> Iterator[Resource]:
        discovery = DiscoveryEndpoints(
            self._authority.resource, subscriptions=self.presence.enabled
        )
        metadata = {"GET": discovery.metadata, "HEAD": discovery.metadata}
        yield Resource(METADATA_PATH + HUB_PATH, metadata, "What tokens this hub takes (RFC 9728)")
        hooks = HookEndpoints(
            self._hooks, self._history, frame, self._now, self._authority.resource
        )
        yield Resource(
            HOOKS_PATH,
            {"POST": hooks.receive},
            "Webhooks of other services",
            rest="name",
            body_bytes_max=naming.DATA_BYTES_MAX,
            publishes=True,
        )
        statistics = StatisticsEndpoint(self._statistics, authorising, door)
        yield Resource("/stats", {"GET": statistics.read, "HEAD": statistics.read}, "Figures")
        yield from page_resources()


def _build(resources: tuple[Resource, ...], routes: RouteTable) -> FastAPI:
    from callboard.serve.http.application import (  # noqa: PLC0415 - slow to import
        Documented,
        build_application,
    )

    return build_application(
        "Callboard hub",
        VERSION,
        "What is happening: server-sent events, by the Mercure protocol.",
        (Documented(one.pattern, one.methods, one.summary, one.rest) for one in resources),
        routes,
    )
