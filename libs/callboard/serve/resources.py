"""Routes of resources: what endpoints of an API for people and tools have in common.

An endpoint is a function of a request; a `Resource` names a path's endpoints by method. A `Frame`
makes the server's routes of them, the same for the fast lane and for FastAPI: guards, methods,
errors, the headers of all answers. A program's own one says what its errors become, and which pages
of other sites may read.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import cast

from callboard.chassis.guards import HostGuard
from callboard.chassis.logs import RateLimited
from callboard.chassis.proxied import client_of
from callboard.serve.exchange import Answer, Outcome, Request, Route, Settled

log = logging.getLogger(__name__)

PLAIN = "text/plain; charset=utf-8"
JSON = "application/json"
NOSNIFF = ("X-Content-Type-Options", "nosniff")
BODY_BYTES_MAX = 64 * 1024
"""Of a request, where a resource does not say otherwise."""

Header = tuple[str, str]
Endpoint = Callable[[Request], Outcome]


@dataclass(frozen=True, slots=True)
class Door:
    """One listener, and who comes through it."""

    hosts: HostGuard | None = None
    """The names that a Host header may carry; None: any. An open door needs it: a page can make
    its own name mean 127.0.0.1 (DNS rebinding)."""
    proxy: Callable[[Request], bool] = lambda request: False
    """Whether who connects is a proxy whose X-Forwarded-For and -Prefix are believed."""


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


def text(status: int, line: str, *headers: Header) -> Answer:
    """One line of plain text."""
    return Answer(status, line.encode("utf-8", "replace") + b"\n", list(headers), PLAIN)


def failed(problem: Exception) -> Answer:
    """The answer to what nobody expected."""
    log.error("request failed", exc_info=problem)
    return text(500, "internal server error")


def allowed(resource: Resource) -> str:
    """What `Allow` says of a resource (RFC 9110, 10.2.1)."""
    return ", ".join(sorted({*resource.methods, "OPTIONS"}))


class Frame:
    """Makes routes of resources; a program's own one says the rest."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._limited = RateLimited(log)

    # ------------------------------------------------------------------ what a program says

    def origin_headers(self, request: Request) -> list[Header]:
        """What an answer says of who may read it (WHATWG Fetch, 3.2)."""
        raise NotImplementedError

    def options(self, resource: Resource, request: Request) -> Answer:
        """The answer to OPTIONS, but for `Allow`."""
        raise NotImplementedError

    def answer_to(self, problem: Exception) -> Answer:
        """The answer that an exception becomes."""
        raise NotImplementedError

    def prepare(self, request: Request) -> None:
        """Called before an endpoint; what it raises becomes an answer, too."""

    def settle(self, request: Request, settled: Settled) -> Settled:
        """What an endpoint has come to: `finish` sees answers only."""
        return settled

    # ------------------------------------------------------------------ routes

    def route(self, resource: Resource) -> Route:
        """The route that serves a resource."""

        def handle(request: Request) -> Outcome:
            return self._guarded(resource, request)

        return Route(handle, resource.body_bytes_max, self.finish, resource.pattern)

    def not_found(self) -> Route:
        """The route of every other path."""

        def handle(request: Request) -> Outcome:
            return self.refusal(request) or text(404, "there is nothing here")

        return Route(handle, BODY_BYTES_MAX, self.finish, "")

    def client(self, request: Request) -> str:
        """The address of who asks, for limits and the log."""
        trusted = self._door.proxy(request)
        return client_of(request.headers, request.client[0], trusted=trusted)

    def refusal(self, request: Request) -> Answer | None:
        """Why a request is refused, whatever it asks for."""
        hosts, host = self._door.hosts, request.headers.get("host", "")
        if hosts is not None and host and not hosts.allows(host):
            return text(403, "not known by that name: see the setting -allowed-host")
        return None

    def finish(self, request: Request, answer: Answer) -> Answer:
        """Add the headers that every answer has; write down what was refused."""
        if answer.status >= 400:
            self._log(request, answer)
        headers = [*answer.headers, NOSNIFF, *self.origin_headers(request)]
        return Answer(answer.status, answer.body, headers, answer.content_type)

    # ------------------------------------------------------------------ inside

    def _guarded(self, resource: Resource, request: Request) -> Outcome:
        refused = self.refusal(request)
        if refused is not None:
            return refused
        try:
            if request.method == "OPTIONS":
                answer = self.options(resource, request)
                answer.headers.append(("Allow", allowed(resource)))
                return answer
            endpoint = resource.methods.get(request.method)
            if endpoint is None:
                wrong = f"{request.method[:32]} is not done here"
                return text(405, wrong, ("Allow", allowed(resource)))
            self.prepare(request)
            outcome = endpoint(request)
        except Exception as problem:
            return self.answer_to(problem)
        if type(outcome) is not Answer and hasattr(outcome, "__await__"):
            return self._settle_later(request, cast("Awaitable[Settled]", outcome))
        return self.settle(request, outcome)

    async def _settle_later(self, request: Request, outcome: Awaitable[Settled]) -> Settled:
        try:
            return self.settle(request, await outcome)
        except Exception as problem:
            return self.answer_to(problem)

    def _log(self, request: Request, answer: Answer) -> None:
        reason = answer.body.decode("utf-8", "replace").strip()[:256]
        fields = {"client": self.client(request), "method": request.method[:32]}
        fields |= {"path": request.path[:256], "reason": reason}
        self._limited.log(
            logging.INFO, f"{answer.status} {fields['client']}", "request refused",
            {**fields, "status": answer.status},
        )  # fmt: skip
