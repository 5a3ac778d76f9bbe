"""WHEP: watching by one POST (draft-ietf-wish-whep-03), at /whep/{stream}."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from callboard.gateway.http import films
from callboard.gateway.http.bearer import Bearer
from callboard.gateway.http.events import EVENTS_LINK, EventEndpoints, EventStream
from callboard.gateway.http.frame import FRAGMENT, SDP, Frame, Refused, authorise
from callboard.gateway.http.ice_servers import IceServers
from callboard.gateway.http.places import asks_loopback
from callboard.gateway.http.session_resource import (
    NO_STORE,
    check_content_type,
    created,
    location,
    patch_ice,
)
from callboard.gateway.sdp.answers import NoCommonCodec
from callboard.gateway.session.sessions import Asker, NoSession, Sessions
from callboard.gateway.session.viewer import Viewer
from callboard.serve import Answer, Request

ACCEPT_POST = ("Accept-Post", SDP)
ACCEPT_PATCH = ("Accept-Patch", f"{FRAGMENT}, {SDP}")
AT_STREAM = ("Allow", "GET, HEAD, OPTIONS, POST")
AT_SESSION = ("Allow", "DELETE, GET, HEAD, OPTIONS, PATCH")
ROOT = "whep"


class WhepEndpoints:
    """See the module."""

    def __init__(
        self,
        sessions: Sessions,
        frame: Frame,
        events: EventEndpoints,
        *,
        bearer: Bearer | None = None,
        ice_servers: IceServers | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Without `bearer` everybody may watch."""
        self._sessions = sessions
        self.frame = frame
        self._events = events
        self._bearer = bearer
        self._ice_servers = ice_servers or IceServers()
        self._wall = wall

    # ------------------------------------------------------------------ the endpoint

    def options(self, request: Request) -> Answer:
        """What may be posted, and the ICE servers to begin with: all of them to who may watch."""
        trusted = True
        try:
            authorise(self._bearer, request)
        except Refused:
            trusted = False
        links = self._ice_servers.links(self._wall(), trusted=trusted)
        _, session, rest = split(request)
        accepted = ACCEPT_PATCH if session and not rest else ACCEPT_POST
        return Answer(204, b"", [accepted, *links])

    def post(self, request: Request) -> Awaitable[Answer] | Answer:
        """A viewer's offer (application/sdp): 201 and our answer. 406 and an offer of ours if
        nothing that is offered can be used. Below a session, /sse makes an event stream."""
        authorise(self._bearer, request)
        name, session, rest = split(request)
        if rest in films.VERBS:
            return films.steer(self._viewer(name, session), rest, request.body)
        if rest:
            where = location(request, self.frame.door, ROOT, name, session, "sse")
            return self._events.create(request, self._viewer(name, session), rest, where)
        if session:
            raise Refused(405, "POST is done at the stream", AT_SESSION)
        check_content_type(request, SDP)
        return self._watch(request, name)

    def get(self, request: Request) -> Awaitable[Answer] | Answer:
        """Nothing to be read (the draft, 4.1), if the stream or the session is there."""
        authorise(self._bearer, request)
        name, session, rest = split(request)
        if rest == films.PROGRESS:
            return films.progress(self._viewer(name, session))
        if rest:
            raise Refused(404, "there is no such event stream")
        if session:
            etag = self._viewer(name, session).etag
            return Answer(204, b"", [("ETag", etag), NO_STORE])
        if self._sessions.streams.describe(name) is None:
            raise NoSession(f"there is no stream {name[:80]}")
        headers = [ACCEPT_POST, NO_STORE, *self._ice_servers.links(self._wall())]
        return Answer(200, b"", headers, SDP)

    # ------------------------------------------------------------------ a session

    def patch(self, request: Request) -> Answer:
        """Candidates, an ICE restart (application/trickle-ice-sdpfrag), or the answer to an offer
        of ours (application/sdp)."""
        authorise(self._bearer, request)
        name, session, rest = split(request)
        if not session or rest:
            raise Refused(405, "PATCH is done at a session", AT_STREAM)
        kind = check_content_type(request, FRAGMENT, SDP)
        viewer = self._viewer(name, session)
        if kind == FRAGMENT:
            return patch_ice(request, viewer)
        if not self._sessions.awaits_answer(viewer):
            raise Refused(422, "no answer is waited for: descriptions are exchanged once")
        self._sessions.accept(viewer, request.body)
        return Answer(204, b"", [("ETag", viewer.etag)])

    def delete(self, request: Request) -> Answer:
        """The end of a session, or of an event stream."""
        authorise(self._bearer, request)
        name, session, rest = split(request)
        if not session:
            raise Refused(405, "DELETE is done at a session", AT_STREAM)
        viewer = self._viewer(name, session)
        if rest:
            return self._events.delete(viewer, rest)
        viewer.end("the viewer has left")
        return Answer(200)

    # ------------------------------------------------------------------ private

    async def _watch(self, request: Request, name: str) -> Answer:
        asker = Asker(self.frame.client(request), asks_loopback(request.headers))
        try:
            viewer = await self._sessions.watch(name, request.body, asker)
        except NoCommonCodec as problem:
            return await self._counter_offer(request, name, asker, str(problem))
        where = location(request, self.frame.door, ROOT, name, viewer.id)
        links = self._ice_servers.links(self._wall())
        return created(viewer, where, *links, ("Link", EVENTS_LINK.format(where)))

    async def _counter_offer(
        self, request: Request, name: str, asker: Asker, reason: str
    ) -> Answer:
        """406, and what there is: who can use it answers by PATCH."""
        viewer, text = await self._sessions.invite(name, asker)
        where = location(request, self.frame.door, ROOT, name, viewer.id)
        headers = [("Location", where), ("ETag", viewer.etag), NO_STORE, ("Accept-Patch", SDP)]
        headers += [*self._ice_servers.links(self._wall()), ("Link", EVENTS_LINK.format(where))]
        headers.append(("Callboard-Reason", reason))
        return Answer(406, text.encode(), headers, SDP)

    def events_of(self, request: Request) -> EventStream:
        """The event stream at a path. Raises NoSession. An EventSource can show no token: the path
        is one that nobody can guess."""
        name, session, rest = split(request)
        return self._events.find(self._viewer(name, session), rest)

    def _viewer(self, name: str, session: str) -> Viewer:
        viewer = self._sessions.viewer(session)
        if viewer.stream != name:
            raise NoSession("there is no such session")
        return viewer


def split(request: Request) -> tuple[str, str, str]:
    """Stream, session, and what is below it, of a path."""
    _, _, path = request.path.lstrip("/").partition("/")
    name, _, below = path.partition("/")
    session, _, rest = below.partition("/")
    return name, session, rest
