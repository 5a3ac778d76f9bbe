"""WHIP: publishing by one POST (RFC 9725), at /whip/{stream}."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from callboard.chassis.listeners import is_loopback
from callboard.chassis.proxied import is_proxied
from callboard.gateway.http.bearer import Bearer
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
from callboard.gateway.http.whep import ACCEPT_POST, AT_SESSION, AT_STREAM, split
from callboard.gateway.live import check_name
from callboard.gateway.sdp.answers import NoCommonCodec
from callboard.gateway.session.publisher import Publisher
from callboard.gateway.session.sessions import Asker, NoSession, Sessions
from callboard.serve import Answer, Request
from callboard.serve.resources import text

ROOT = "whip"


class WhipEndpoints:
    """See the module."""

    def __init__(
        self,
        sessions: Sessions,
        frame: Frame,
        *,
        bearer: Bearer | None = None,
        is_here: Callable[[str], bool] = is_loopback,
        ice_servers: IceServers | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Without `bearer` programs and our own pages on this machine may publish, and nobody
        else; `is_here` says whether an address is this machine's."""
        self._sessions = sessions
        self._frame = frame
        self._bearer = bearer
        self._is_here = is_here
        self._ice_servers = ice_servers or IceServers()
        self._wall = wall

    def options(self, request: Request) -> Answer:
        """What may be posted, and the ICE servers to begin with: all of them to who may publish."""
        trusted = True
        try:
            self._authorise(request)
        except Refused:
            trusted = False
        links = self._ice_servers.links(self._wall(), trusted=trusted)
        accepted = ("Accept-Patch", FRAGMENT) if split(request)[1] else ACCEPT_POST
        return Answer(204, b"", [accepted, *links])

    def post(self, request: Request) -> Awaitable[Answer]:
        """A publisher's offer (application/sdp): 201 and our answer; the stream can be watched at
        once. 409 while another one publishes it."""
        self._authorise(request)
        name, session, _ = split(request)
        if session:
            raise Refused(405, "POST is done at the stream", AT_SESSION)
        check_content_type(request, SDP)
        return self._publish(request, name)

    def get(self, request: Request) -> Answer:
        """Nothing to be read (RFC 9725, 4.1)."""
        self._authorise(request)
        name, session, rest = split(request)
        if session:
            etag = self._publisher(name, session, rest).etag
            return Answer(204, b"", [("ETag", etag), NO_STORE])
        _check(name)
        return Answer(204, b"", [ACCEPT_POST, NO_STORE])

    def patch(self, request: Request) -> Answer:
        """Candidates, or an ICE restart (application/trickle-ice-sdpfrag)."""
        self._authorise(request)
        name, session, rest = split(request)
        if not session:
            raise Refused(405, "PATCH is done at a session", AT_STREAM)
        check_content_type(request, FRAGMENT)
        return patch_ice(request, self._publisher(name, session, rest))

    def delete(self, request: Request) -> Answer:
        """The end of a session."""
        self._authorise(request)
        name, session, rest = split(request)
        if not session:
            raise Refused(405, "DELETE is done at a session", AT_STREAM)
        self._publisher(name, session, rest).end("it has said so")
        return Answer(200)

    async def _publish(self, request: Request, name: str) -> Answer:
        _check(name)
        asker = Asker(self._frame.client(request), asks_loopback(request.headers))
        try:
            publisher = await self._sessions.publish(name, request.body, asker)
        except NoCommonCodec as problem:
            return text(406, str(problem))
        where = location(request, self._frame.door, ROOT, name, publisher.id)
        return created(publisher, where, *self._ice_servers.links(self._wall()))

    def _authorise(self, request: Request) -> None:
        if self._bearer is not None:
            authorise(self._bearer, request)
        elif is_proxied(request.headers) or not self._is_here(request.client[0]):
            raise Refused(
                401,
                "without -whip-token only this machine may publish, and not through a proxy",
                ("WWW-Authenticate", 'Bearer realm="callboard"'),
            )
        elif not self._frame.may_act(request):
            raise Refused(403, "a page of another site may not publish: see -allowed-origin")

    def _publisher(self, name: str, session: str, rest: str) -> Publisher:
        publisher = self._sessions.publisher(session)
        if publisher.stream != name or rest:
            raise NoSession("there is no such session")
        return publisher


def _check(name: str) -> None:
    try:
        check_name(name)
    except ValueError as problem:
        raise Refused(404, str(problem)) from None
