"""What every endpoint has in common: guards, methods, rights, errors, and the edge of answers.

An endpoint is a function of a `Call`; a `Resource` names a path's endpoints by method. `Frame`
makes the server's routes of them. Consul's order: blocked paths, unprintable characters, method,
who may write, the endpoint.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from html import escape
from typing import cast
from urllib.parse import urlencode

from callboard.agent.http.compression import Compressor, accepts_gzip
from callboard.agent.http.context import ApiContext
from callboard.agent.http.problems import answer_to, text_answer
from callboard.agent.membership.log_limit import LogLimit
from callboard.catalog import render
from callboard.catalog.authorizer import Authorizer
from callboard.chassis.guards import HostGuard, OriginGuard, WriteGuard
from callboard.chassis.listeners import is_loopback
from callboard.pki.roles import AGENT, OPERATOR, SERVER, WrongRole, authorise
from callboard.serve import Answer, Outcome, Request, Route, Settled

log = logging.getLogger(__name__)

JSON = "application/json"
BODY_BYTES_MAX = 1 << 20
"""Of bodies that are no KV values: registrations are small."""
REFUSALS_LOGGED_MAX = 10
"""Lines of refused requests in a second: a client in a loop must not fill our log."""
CALLERS = frozenset(
    {SERVER, AGENT, OPERATOR, "nameserver", "hub", "gateway", "fileserver", "sidecar"}
)
"""The roles that may ask by mutual TLS, and read the feed."""
KEEPERS = frozenset({SERVER, AGENT, OPERATOR})
"""The roles that may change agents themselves, and know the keys of gossip: no program that is
broken into can stop the catalog by its certificate."""
NOSNIFF = ("X-Content-Type-Options", "nosniff")
"""On https, which browsers reach: Consul's plain answers are as they are."""
_READS = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(slots=True)
class Call:
    """One request to one resource."""

    request: Request
    rest: str
    """The path after the resource's pattern: a name, a key, an id."""
    rights: Authorizer


Endpoint = Callable[[Call], Outcome]


@dataclass(frozen=True, slots=True)
class Resource:
    """One path and what may be done with it. A pattern that ends in "/" takes a name after it."""

    pattern: str
    methods: Mapping[str, Endpoint]
    summary: str
    rest: str = ""
    """What the name after the pattern is (for the documentation)."""
    replicated: bool = True
    """Answered from the catalog: a client agent forwards it to a server."""
    body_bytes_max: int = BODY_BYTES_MAX
    tags: tuple[str, ...] = field(default=())


def json_answer(body: bytes, headers: list[tuple[str, str]] | None = None) -> Answer:
    """A JSON answer of encoded bytes."""
    return Answer(200, body, [] if headers is None else headers, JSON)


def empty_answer() -> Answer:
    """200 with nothing in it, as many agent writes answer."""
    return Answer(200)


def trusts(context: ApiContext, request: Request, roles: frozenset[str]) -> bool:
    """Whether who asks may read what is not for everybody: by mutual TLS one of `roles`; on the
    plain port loopback clients, and all where it may leave loopback and there is no mutual TLS."""
    if request.peer is not None:
        return bool(roles & request.peer.roles)
    return context.allow_plain or is_loopback(request.client[0])


class Frame:
    """Makes routes of resources, and finishes their answers."""

    def __init__(
        self, context: ApiContext, forward: Callable[[Request], Outcome] | None = None
    ) -> None:
        self._context = context
        self._forward = forward
        self._compressor = Compressor()
        self._log_limit = LogLimit(REFUSALS_LOGGED_MAX, 1.0)
        http = context.http
        self._hosts = HostGuard(
            names=(context.node_name, *context.known_hosts, *http.allowed_hosts),
            domains=(context.domain, context.alt_domain),
            is_node=self._is_node,
        )
        self._origins = OriginGuard(http.allowed_origins)
        self._writers = WriteGuard(http.allow_write_http_from)
        self._edge_headers = [
            ("Vary", "Accept-Encoding"),
            ("X-Consul-Default-Acl-Policy", "allow"),
            *http.response_headers.items(),
        ]

    def route(self, resource: Resource) -> Route:
        """The route that serves a resource to clients."""

        def handle(request: Request) -> Outcome:
            return self._guarded(resource, request, forwarded=False)

        return Route(handle, resource.body_bytes_max, self.finish, resource.pattern)

    def serve_forwarded(self, resource: Resource, request: Request) -> Outcome:
        """Serve a request that a client agent has guarded, and whose answer it will finish."""
        return self._guarded(resource, request, forwarded=True)

    def not_found(self) -> Route:
        """The route of every path that is none of ours: 404 without a body."""

        def handle(request: Request) -> Outcome:
            refused = self._refuse(request)
            return refused if refused is not None else Answer(404)

        return Route(handle, BODY_BYTES_MAX, self.finish, "")

    def moved(self, pattern: str) -> Route:
        """`/v1/kv` is `/v1/kv/` (Go's ServeMux redirects to a subtree's root)."""

        def handle(request: Request) -> Outcome:
            refused = self._refuse(request)
            if refused is not None:
                return refused
            query = urlencode(request.query, doseq=True)
            target = f"{pattern}?{query}" if query else pattern
            if request.method not in ("GET", "HEAD"):
                return Answer(301, b"", [("Location", target)])
            page = f'<a href="{escape(target)}">Moved Permanently</a>.\n\n'.encode()
            return Answer(301, page, [("Location", target)], "text/html; charset=utf-8")

        return Route(handle, BODY_BYTES_MAX, self.finish, pattern.rstrip("/"))

    # ------------------------------------------------------------------ on the way in

    def _guarded(self, resource: Resource, request: Request, *, forwarded: bool) -> Outcome:
        try:
            if not forwarded:
                refused = self._refuse(request)
                if refused is not None:
                    return refused
            endpoint = resource.methods.get(request.method)
            if endpoint is None:
                return _without_endpoint(resource, request.method)
            if self._forward is not None and resource.replicated and not forwarded:
                return self._forward(request)
            rest = request.path[len(resource.pattern) :]
            outcome = endpoint(Call(request, rest, self._context.authorize(request)))
        except Exception as problem:
            return answer_to(problem)
        if type(outcome) is not Answer and hasattr(outcome, "__await__"):
            return _caught(cast("Awaitable[Settled]", outcome))
        return outcome

    def _refuse(self, request: Request) -> Answer | None:
        host = request.headers.get("host", "")
        if host and not self._hosts.allows(host):
            return text_answer(
                403, f'Host "{host[:256]}" is not one of this agent: see the setting allowed_hosts'
            )
        if request.peer is not None:
            try:
                authorise(request.peer, CALLERS, "this agent's API")
            except WrongRole as problem:
                return text_answer(403, str(problem))
        http = self._context.http
        for blocked in http.block_endpoints:
            if request.path.startswith(blocked):
                return text_answer(403, "Endpoint is blocked by agent configuration")
        if http.unprintable_filter and not request.path.isprintable():
            return text_answer(400, "invalid character in request path")
        if request.method in _READS:
            return None
        origin = request.headers.get("origin")
        if origin is not None and not self._origins.allows(origin, host):
            return text_answer(
                403, f'Origin "{origin[:256]}" may not write here: see the setting allowed_origins'
            )
        if not self._writers.allows(request.client[0]):
            return text_answer(403, "Access is restricted")
        return None

    def _is_node(self, name: str) -> bool:
        members = self._context.membership.members()
        return any(member.name.lower() == name for member in members) or (
            self._context.store.node(name) is not None
        )

    # ------------------------------------------------------------------ on the way out

    def finish(self, request: Request, answer: Answer) -> Answer | Awaitable[Answer]:
        """Pretty print and compress as asked; add the headers that every answer has."""
        body = answer.body
        if answer.status >= 400 and body:
            self._log_refusal(request, answer)
        if body and answer.content_type == JSON:
            asked = "pretty" in request.query
            if asked or self._context.http.pretty:
                body = render.pretty(body)
                body = body if asked else body.rstrip(b"\n")
        headers = [*answer.headers, *self._edge_headers]
        if request.peer is not None and NOSNIFF not in headers:
            headers.append(NOSNIFF)
        answer = Answer(answer.status, body, headers, answer.content_type)
        encoding = request.headers.get("accept-encoding")
        if not body or encoding is None or not accepts_gzip(encoding):
            return answer
        return self._compressor.compress(answer)

    def _log_refusal(self, request: Request, answer: Answer) -> None:
        held_back = self._log_limit.allow(self._context.now())
        if held_back is not None:
            log.warning(
                "request refused",
                extra={
                    "method": request.method,
                    "path": request.path[:256],
                    "client": request.client[0],
                    "status": answer.status,
                    "reason": answer.body[:256].decode("utf-8", "replace"),
                    "held_back": held_back,
                },
            )


def _without_endpoint(resource: Resource, method: str) -> Answer:
    allow = ",".join(["OPTIONS", *resource.methods])
    if method == "OPTIONS":
        return Answer(200, b"", [("Allow", allow)])
    refused = text_answer(405, f"method {method} not allowed")
    refused.headers.append(("Allow", allow))
    return refused


async def _caught(work: Awaitable[Settled]) -> Settled:
    try:
        return await work
    except Exception as problem:
        return answer_to(problem)
