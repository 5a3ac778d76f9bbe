"""What every endpoint has in common: guards, methods, errors, the headers of all answers.

An endpoint is a function of a request; a `Resource` names a path's endpoints by method. `Frame`
makes the server's routes of them, the same for the fast lane and for FastAPI.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import cast

from callboard.chassis.logs import RateLimited
from callboard.hub.auth.origins import Origins
from callboard.hub.http.ports import Door
from callboard.hub.matching.refusal import Refused
from callboard.hub.mercure.addresses import client_of
from callboard.hub.mercure.forms import BadForm, decode
from callboard.hub.ports import HistoryBusy, HistoryError, HistoryFull, HistoryUncertain
from callboard.serve import Answer, Outcome, Request, Route, Settled
from callboard.serve.exchange import Detach

log = logging.getLogger(__name__)
PLAIN = "text/plain; charset=utf-8"
JSON = "application/json"
BODY_BYTES_MAX = 64 * 1024
"""Of requests that carry no publication."""
NOSNIFF = ("X-Content-Type-Options", "nosniff")

Endpoint = Callable[[Request], Outcome]


@dataclass(frozen=True, slots=True)
class Resource:
    """One path and what may be done with it. A pattern that ends in "/" takes a name after it."""

    pattern: str
    methods: Mapping[str, Endpoint]
    summary: str
    rest: str = ""
    """What the name after the pattern is (for the documentation)."""
    body_bytes_max: int = BODY_BYTES_MAX
    publishes: bool = False
    """Its POST is served before routing."""


def text(status: int, line: str, *headers: tuple[str, str]) -> Answer:
    """One line of plain text."""
    return Answer(status, line.encode("utf-8", "replace") + b"\n", list(headers), PLAIN)


def tagged(request: Request, answer: Answer) -> Answer:
    """An answer with the tag of its body; 304 to who has that already (RFC 9110, 13.1.2)."""
    tag = f'"{hashlib.sha256(answer.body).hexdigest()[:32]}"'
    answer.headers.append(("ETag", tag))
    if tag in request.headers.get("if-none-match", ""):
        return Answer(304, b"", answer.headers)
    return answer


class Frame:
    """Makes routes of resources."""

    def __init__(self, origins: Origins, door: Door) -> None:
        self._origins = origins
        self._door = door
        self._limited = RateLimited(log)

    def route(self, resource: Resource) -> Route:
        """The route that serves a resource."""

        def handle(request: Request) -> Outcome:
            return self._guarded(resource, request)

        return Route(handle, resource.body_bytes_max, self.finish, resource.pattern)

    def not_found(self) -> Route:
        """The route of every other path."""

        def handle(request: Request) -> Outcome:
            return self._refused(request) or text(404, "there is nothing here")

        return Route(handle, BODY_BYTES_MAX, self.finish, "")

    def client(self, request: Request) -> str:
        """The address of who asks, for limits and the log."""
        trusted = self._door.proxy(request)
        return client_of(request.headers, request.client[0], trusted=trusted)

    def finish(self, request: Request, answer: Answer) -> Answer:
        """Add the headers that every answer has; write down what was refused."""
        if answer.status >= 400:
            self._log(request, answer)
        headers = [*answer.headers, NOSNIFF, *self._origins.headers(request.headers)]
        return Answer(answer.status, answer.body, headers, answer.content_type)

    # ------------------------------------------------------------------ on the way in

    def _guarded(self, resource: Resource, request: Request) -> Outcome:
        refused = self._refused(request)
        if refused is not None:
            return refused
        if request.method == "OPTIONS":
            preflight = self._origins.preflight(request.headers)
            return Answer(204, b"", [("Allow", _allowed(resource)), *preflight])
        endpoint = resource.methods.get(request.method)
        if endpoint is None:
            wrong = f"{request.method[:32]} is not done here"
            return text(405, wrong, ("Allow", _allowed(resource)))
        try:
            request.query = decode(request.raw_query)  # (Mercure's clients are no Go programs)
            outcome = endpoint(request)
        except BadForm as problem:
            return text(400, f"not a query: {problem}")
        except Exception as problem:
            return answer_to(problem)
        if type(outcome) is not Answer and hasattr(outcome, "__await__"):
            return self._settle_later(request, cast("Awaitable[Settled]", outcome))
        return self._settle(request, outcome)

    def _refused(self, request: Request) -> Answer | None:
        hosts, host = self._door.hosts, request.headers.get("host", "")
        if hosts is not None and host and not hosts.allows(host):
            return text(403, "this hub is not known by that name: see the setting -allowed-host")
        return None

    async def _settle_later(self, request: Request, outcome: Awaitable[Settled]) -> Settled:
        try:
            return self._settle(request, await outcome)
        except Exception as problem:
            return answer_to(problem)

    def _settle(self, request: Request, settled: Settled) -> Settled:
        """`finish` sees answers only: a stream's head gets its headers here."""
        if isinstance(settled, Detach):
            head = settled.head
            head.headers += [NOSNIFF, *self._origins.headers(request.headers)]
        return settled

    def _log(self, request: Request, answer: Answer) -> None:
        reason = answer.body.decode("utf-8", "replace").strip()[:256]
        fields = {"client": self.client(request), "method": request.method[:32]}
        fields |= {"path": request.path[:256], "reason": reason}
        self._limited.log(
            logging.INFO, f"{answer.status} {fields['client']}", "request refused",
            {**fields, "status": answer.status},
        )  # fmt: skip


def answer_to(problem: Exception) -> Answer:
    """The answer that an exception becomes."""
    if isinstance(problem, Refused):
        return text(problem.status, problem.text, *problem.headers)
    if isinstance(problem, HistoryFull):
        return text(507, str(problem) or "the disk is full: nothing is taken until it is not")
    if isinstance(problem, HistoryBusy):
        waits = str(problem) or "too many publications wait for the disk"
        return text(503, waits, ("Retry-After", "1"))
    if isinstance(problem, HistoryUncertain):
        # without Retry-After: who publishes again without a key may publish twice
        why = f"{str(problem) or 'no answer in time'}: it may have been published"
        return text(504, f"{why}; to publish it again with the same Idempotency-Key is safe")
    if isinstance(problem, HistoryError):
        return text(503, str(problem) or "the publication was not taken", ("Retry-After", "5"))
    log.error("request failed", exc_info=problem)
    return text(500, "internal server error")


def _allowed(resource: Resource) -> str:
    return ", ".join(sorted({*resource.methods, "OPTIONS"}))
