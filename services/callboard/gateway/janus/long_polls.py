"""Janus' API over HTTP: requests are posted, events are polled for.

    POST /janus, /janus/SESSION, /janus/SESSION/HANDLE      one request, one answer
    GET  /janus/SESSION?maxev=N&rid=…&token=…               waits for events, 30 s at most
    GET  /janus/info

What a request gets wrong is told in JSON: with status 200 to a POST, as clients expect; with one
that tells of the error to a poll, since clients poll again at once after a 200.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

from callboard.gateway.http.places import asks_loopback
from callboard.gateway.janus.driver import Driver
from callboard.gateway.janus.errors import Code, Refused
from callboard.gateway.janus.gate import Gate
from callboard.gateway.janus.messages import BYTES_MAX, Message, error, parse, write, wrong_type
from callboard.gateway.janus.registry import ClientSession
from callboard.gateway.session.asker import Asker
from callboard.serve import Answer, Outcome, Request, Route, RouteTable

KEEPALIVE_S = 30.0
"""A poll without events is answered so late."""
EVENTS_MAX = 100
"""Of one answer."""
JSON = "application/json"
METHODS = "GET, POST, OPTIONS"
POLL_STATUS = {
    Code.UNAUTHORIZED: 403,
    Code.SESSION_NOT_FOUND: 404,
    Code.INVALID_REQUEST_PATH: 404,
}
"""Of polls that are refused; of others 400."""
_SESSION = re.compile(r"/janus/([0-9]{1,19})(?:/([0-9]{1,19}))?/?")
_COUNT = re.compile(r"[0-9]{1,4}")


class LongPolls:
    """See the module."""

    def __init__(self, driver: Driver, gate: Gate, *, keepalive_s: float = KEEPALIVE_S) -> None:
        self._driver = driver
        self._gate = gate
        self._keepalive_s = keepalive_s

    def routes(self) -> RouteTable:
        """For `Server(handlers=…)`: it answers every path."""

        def route(pattern: str) -> Route:
            return Route(self._handle, BYTES_MAX, self._finish, pattern)

        table = RouteTable(route(""))
        for pattern in ("/janus", "/janus/"):
            table.add(route(pattern))
        return table

    def _finish(self, request: Request, answer: Answer) -> Answer:
        headers = [
            *answer.headers,
            ("X-Content-Type-Options", "nosniff"),
            ("Cache-Control", "no-store"),
            *self._gate.origin_headers(request.headers),
        ]
        return Answer(answer.status, answer.body, headers, answer.content_type)

    def _handle(self, request: Request) -> Outcome:
        refused = self._gate.refusal(request.headers)
        if refused:
            return _told(error(None, Refused(Code.UNAUTHORIZED, refused)), 403)
        if request.method == "OPTIONS":
            headers = [("Allow", METHODS), *self._gate.preflight_headers(request.headers)]
            return Answer(204, headers=headers)
        if request.method not in ("GET", "POST"):
            wrong = Refused(Code.INVALID_REQUEST_PATH, "only GET and POST are done here")
            answer = _told(error(None, wrong), 405)
            answer.headers.append(("Allow", METHODS))
            return answer
        try:
            return self._answer(request)
        except Refused as problem:
            status = 200 if request.method == "POST" else POLL_STATUS.get(problem.code, 400)
            return _told(error(None, problem), status)

    def _answer(self, request: Request) -> Outcome:
        path = request.path
        if request.method == "GET" and path.rstrip("/") == "/janus/info":
            return _told(self._driver.protocol.server_info())
        place = _SESSION.fullmatch(path)
        if place is None and path.rstrip("/") != "/janus":
            nothing = Refused(Code.INVALID_REQUEST_PATH, "there is nothing here: see /janus/info")
            return _told(error(None, nothing), 404)
        session, handle = (place[1], place[2] or "0") if place is not None else ("0", "0")
        if request.method == "POST":
            return self._post(request, int(session), int(handle))
        if place is None or handle != "0":
            raise Refused(Code.INVALID_REQUEST_PATH, "a session is polled: GET /janus/SESSION")
        return self._poll(request, int(session))

    def _post(self, request: Request, session: int, handle: int) -> Answer:
        """The path says what session and handle are meant, whatever the body says."""
        message = parse(request.body)
        if isinstance(message, dict):
            message = {**message, "session_id": session or None, "handle_id": handle or None}
        asker = Asker(request.client[0], asks_loopback(request.headers))
        return _told(self._driver.receive(message, asker))

    def _poll(self, request: Request, id: int) -> Answer | _Poll:
        told = request.query.get("maxev", ["1"])[0]
        if not _COUNT.fullmatch(told) or int(told) == 0:
            raise wrong_type("maxev", "a positive integer")
        most = min(int(told), EVENTS_MAX)
        session = self._driver.poll(id, request.query.get("token", [""])[0])
        if session.events:
            return _events(session, most)
        return _Poll(self._driver, session, most, self._keepalive_s)


class _Poll:
    """A poll that waits (`Parked`)."""

    def __init__(
        self, driver: Driver, session: ClientSession, most: int, keepalive_s: float
    ) -> None:
        self._driver = driver
        self._session = session
        self._most = most
        self._keepalive_s = keepalive_s
        self._deliver: Callable[[Answer], None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self, deliver: Callable[[Answer], None]) -> None:
        """See Parked."""
        self._deliver = deliver
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._keepalive_s, self.answer)
        self._driver.wait(self._session, self)

    def answer(self) -> None:
        """With the events that there are, or with none."""
        deliver, self._deliver = self._deliver, None
        self._end()
        if deliver is not None:
            deliver(_events(self._session, self._most))

    def cancel(self) -> None:
        """The client has gone; events wait for its next poll."""
        self._deliver = None
        self._end()

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._driver.give_up(self._session, self)


def _events(session: ClientSession, most: int) -> Answer:
    """One event as it is; of several a list."""
    taken = session.take(most) or [{"janus": "keepalive"}]
    return _told(taken if most > 1 else taken[0])


def _told(message: Message | list[Message], status: int = 200) -> Answer:
    return Answer(status, write(message).encode(), [], JSON)
