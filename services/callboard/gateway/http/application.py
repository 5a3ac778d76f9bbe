"""The API assembled, as a FastAPI application for each listener.

gateway = Gateway(sessions, …)
api = gateway.api(Door())
Server(api.app, handlers=api.before, …)
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from callboard.catalog.version import VERSION
from callboard.chassis.listeners import is_loopback
from callboard.gateway.http.ancestors import ANCESTORS
from callboard.gateway.http.bearer import Bearer
from callboard.gateway.http.events import EventEndpoints
from callboard.gateway.http.frame import Frame
from callboard.gateway.http.ice_servers import IceServers
from callboard.gateway.http.streams import Snapshot, StreamEndpoints
from callboard.gateway.http.watch import watch_resources
from callboard.gateway.http.whep import WhepEndpoints
from callboard.gateway.http.whip import WhipEndpoints
from callboard.gateway.session.sessions import Sessions
from callboard.serve import LazyApp, Route, RouteTable
from callboard.serve.documents import Documents, document_resources
from callboard.serve.resources import Door, Resource

if TYPE_CHECKING:
    from fastapi import FastAPI


class BeforeRouting:
    """A `Dispatcher` of all that FastAPI does not answer by itself."""

    def __init__(self, routes: RouteTable) -> None:
        self._routes = routes

    def find(self, method: str, path: str) -> Route | None:
        """See Dispatcher."""
        reads_events = method in ("GET", "HEAD") and path.startswith("/whep/") and "/sse/" in path
        return None if reads_events else self._routes.find(method, path)


@dataclass(frozen=True, slots=True)
class Api:
    """What one listener serves."""

    app: LazyApp
    """For `Server(app)`."""
    before: BeforeRouting
    """For `Server(handlers=…)`: everything but event streams."""
    resources: tuple[Resource, ...]


class Gateway:
    """What all listeners share."""

    def __init__(
        self,
        sessions: Sessions,
        *,
        watching: Bearer | None = None,
        publishing: Bearer | None = None,
        is_here: Callable[[str], bool] = is_loopback,
        ice_servers: IceServers | None = None,
        allowed_origins: Iterable[str] = (),
        snapshot: Snapshot | None = None,
        frame_ancestors: str = ANCESTORS,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`watching` and `publishing` judge the tokens of viewers and publishers; without
        `publishing` those publish whose address `is_here`;
        `frame_ancestors` are the pages that may have /watch/NAME in a frame; `wall` is seconds
        since 1970. Raises OSError without the files of that page."""
        self._sessions = sessions
        self._watching = watching
        self._publishing = publishing
        self._is_here = is_here
        self._ice_servers = ice_servers
        self._origins = tuple(allowed_origins)
        self._snapshot = snapshot
        self._pages = tuple(watch_resources(frame_ancestors))
        self._wall = wall
        self._events = EventEndpoints(sessions)

    def api(self, door: Door, more: Iterable[Resource] = ()) -> Api:
        """What a listener serves; `more`: of other parts of the program."""
        frame = Frame(door, self._origins)
        whep = WhepEndpoints(
            self._sessions,
            frame,
            self._events,
            bearer=self._watching,
            ice_servers=self._ice_servers,
            wall=self._wall,
        )
        documents = Documents(lambda: _build(resources, every, whep))
        resources = (
            *self._resources(frame, whep), *self._pages, *more, *document_resources(documents)
        )  # fmt: skip
        every = RouteTable(frame.not_found())
        for resource in resources:
            every.add(frame.route(resource))
        return Api(documents.app, BeforeRouting(every), resources)

    def _resources(self, frame: Frame, whep: WhepEndpoints) -> Iterator[Resource]:
        whip = WhipEndpoints(
            self._sessions,
            frame,
            bearer=self._publishing,
            is_here=self._is_here,
            ice_servers=self._ice_servers,
            wall=self._wall,
        )
        for path, one, summary in (("/whep/", whep, "Watching"), ("/whip/", whip, "Publishing")):
            methods = {
                "OPTIONS": one.options,
                "POST": one.post,
                "GET": one.get,
                "HEAD": one.get,
                "PATCH": one.patch,
                "DELETE": one.delete,
            }
            yield Resource(path, methods, summary, rest="stream")
        clock = asyncio.get_running_loop().time
        streams = StreamEndpoints(self._sessions, clock, self._snapshot, self._watching)
        yield Resource(
            "/streams", {"GET": streams.read_all, "HEAD": streams.read_all}, "What can be watched"
        )
        yield Resource(
            "/streams/", {"GET": streams.read, "HEAD": streams.read}, "One stream", rest="name"
        )


def _build(resources: tuple[Resource, ...], routes: RouteTable, whep: WhepEndpoints) -> FastAPI:
    from callboard.gateway.http.event_route import add_event_route  # noqa: PLC0415 - slow to import
    from callboard.serve.http.application import (  # noqa: PLC0415 - slow to import
        Documented,
        build_application,
    )

    app = build_application(
        "Callboard gateway",
        VERSION,
        "Live video and audio: WHEP, WHIP, and what there is to know of streams.",
        (
            Documented(
                one.pattern,
                {name: each for name, each in one.methods.items() if name != "OPTIONS"},
                one.summary,
                one.rest,
            )
            for one in resources
        ),
        routes,
    )
    add_event_route(app, whep)
    return app
