"""What every endpoint of the gateway has in common: its errors, which pages may act and read."""

from __future__ import annotations

from collections.abc import Iterable

from callboard.gateway.http.bearer import Bearer
from callboard.gateway.http.places import is_own_page
from callboard.gateway.live import NotPlayable, StreamTaken
from callboard.gateway.sdp.fragments import BadFragment
from callboard.gateway.sdp.offers import BadDescription
from callboard.gateway.session.sessions import NoSession, NotYet, TooMany
from callboard.serve import Answer, Request, resources
from callboard.serve.resources import Door, Header, Resource, failed, text

SDP = "application/sdp"
FRAGMENT = "application/trickle-ice-sdpfrag"
VARY = ("Vary", "Origin")
METHODS = "GET, HEAD, POST, PATCH, DELETE"
REQUEST_HEADERS = "Authorization, Content-Type, If-Match, Last-Event-ID, Cache-Control"
EXPOSED = (
    "Location, ETag, Link, Allow, Accept-Post, Accept-Patch, Retry-After, WWW-Authenticate, "
    "Callboard-Reason"
)
PREFLIGHT_S = 7200


class Refused(Exception):
    """An answer that is not the expected one."""

    def __init__(self, status: int, line: str, *headers: Header) -> None:
        super().__init__(line)
        self.answer = text(status, line, *headers)

    @classmethod
    def by(cls, answer: Answer) -> Refused:
        """With an answer that is there already."""
        refused = cls(answer.status, "")
        refused.answer = answer
        return refused


def authorise(bearer: Bearer | None, request: Request) -> None:
    """Let pass who shows the right token; without `bearer`, everybody. Raises Refused."""
    refused = bearer.refusal(request.headers) if bearer is not None else None
    if refused is not None:
        raise Refused.by(refused)


class Frame(resources.Frame):
    """Makes routes of the gateway's resources."""

    def __init__(self, door: Door, allowed_origins: Iterable[str] = ()) -> None:
        """`allowed_origins`: pages of other sites that may do what ours may; `*` for any."""
        super().__init__(door)
        self.door = door
        self._origins = frozenset(origin.lower().rstrip("/") for origin in allowed_origins)

    def may_act(self, request: Request) -> bool:
        """Whether a request comes from no page, from ours, or from one that is allowed."""
        return is_own_page(request.headers) or self._lists(request.headers.get("origin", ""))

    def origin_headers(self, request: Request) -> list[Header]:
        """See Frame."""
        origin = request.headers.get("origin", "")
        if not self._lists(origin):
            return [VARY]
        return [
            VARY,
            ("Access-Control-Allow-Origin", origin),
            ("Access-Control-Expose-Headers", EXPOSED),
        ]

    def options(self, resource: Resource, request: Request) -> Answer:
        """The resource's own answer, if it has one, and what a preflight asks."""
        endpoint = resource.methods.get("OPTIONS")
        answer = endpoint(request) if endpoint is not None else Answer(204)
        assert isinstance(answer, Answer)
        if self._lists(request.headers.get("origin", "")):
            answer.headers += [
                ("Access-Control-Allow-Methods", METHODS),
                ("Access-Control-Allow-Headers", REQUEST_HEADERS),
                ("Access-Control-Max-Age", str(PREFLIGHT_S)),
            ]
        return answer

    def answer_to(self, problem: Exception) -> Answer:
        """See Frame."""
        return answer_to(problem)

    def _lists(self, origin: str) -> bool:
        return bool(origin) and ("*" in self._origins or origin.lower() in self._origins)


def answer_to(problem: Exception) -> Answer:
    """The answer that an exception becomes."""
    match problem:
        case Refused():
            return problem.answer
        case BadDescription() | BadFragment():
            return text(400, str(problem))
        case NoSession():
            return text(404, str(problem))
        case NotYet():
            return text(409, str(problem), ("Retry-After", str(problem.retry_after_s)))
        case NotPlayable() | StreamTaken():
            return text(409, str(problem), ("Retry-After", "10"))
        case TooMany() | ConnectionError() | TimeoutError():
            return text(503, str(problem) or "no answer in time", ("Retry-After", "5"))
    return failed(problem)
