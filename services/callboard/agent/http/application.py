"""The API assembled: resources of all endpoints, as routes and as an application.

api = build_api(context)
Server(api.app, handlers=api.routes, …)
rpc_server.register("http", lambda peer, body: api.serve_forwarded(body))
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from callboard.agent.http.agent import AgentEndpoints
from callboard.agent.http.agent_process import AgentProcessEndpoints
from callboard.agent.http.catalog import CatalogEndpoints
from callboard.agent.http.consistency import Reads
from callboard.agent.http.context import ApiContext
from callboard.agent.http.feed import FeedEndpoint
from callboard.agent.http.forward import ForwardedService, Forwarder
from callboard.agent.http.frame import Call, Frame, Resource, json_answer
from callboard.agent.http.health import HealthEndpoints
from callboard.agent.http.kv import KeyValueEndpoints
from callboard.agent.http.later import LaterEndpoints
from callboard.agent.http.operator import OperatorEndpoints
from callboard.agent.http.problems import PLAIN
from callboard.agent.http.status import StatusEndpoints
from callboard.catalog import render
from callboard.catalog.version import VERSION
from callboard.serve import Answer, LazyApp, Outcome, RouteTable
from callboard.serve.documents import Documents

if TYPE_CHECKING:
    from fastapi import FastAPI


@dataclass(frozen=True, slots=True)
class Api:
    """What the agent serves."""

    routes: RouteTable
    """For `Server(handlers=…)`: every path, with 404 as the fallback."""
    app: LazyApp
    """For `Server(app)`: the same as a FastAPI application, built when first needed."""
    resources: tuple[Resource, ...]
    """Every path there is, for documentation and for tests that walk all of them."""
    serve_forwarded: Callable[[bytes], Awaitable[bytes]]
    """The server's handler of the rpc method "http"."""


def build_api(context: ApiContext) -> Api:
    """Assemble the API of one agent."""
    forward = Forwarder(context, context.forwarding) if context.forwarding is not None else None
    frame = Frame(context, forward)
    documents = Documents(lambda: _build(resources, routes))
    resources = (*_resources(context), *_DocumentEndpoints(documents).resources())
    routes = RouteTable(frame.not_found())
    table: dict[str, Resource] = {}
    for resource in resources:
        routes.add(frame.route(resource))
        table[resource.pattern] = resource
    for resource in resources:
        root = resource.pattern.rstrip("/")
        if resource.pattern.endswith("/") and root and root not in table:
            routes.add(frame.moved(resource.pattern))

    def find(path: str) -> Resource | None:
        route = routes.find("GET", path)
        return table.get(route.pattern) if route is not None else None

    return Api(routes, documents.app, resources, ForwardedService(frame, find))


def build_app(context: ApiContext) -> FastAPI:
    """The API as a FastAPI application, at once (imports FastAPI)."""
    api = build_api(context)
    return _build(api.resources, api.routes)


def _build(resources: Iterable[Resource], routes: RouteTable) -> FastAPI:
    from callboard.serve.http.application import (  # noqa: PLC0415 - slow to import
        Documented,
        build_application,
    )

    return build_application(
        "Callboard",
        VERSION,
        "Who is here: the service catalog, by Consul's HTTP API.",
        (
            Documented(one.pattern, one.methods, one.summary, one.rest, one.tags)
            for one in resources
            if one.tags
        ),
        routes,
    )


def _resources(context: ApiContext) -> Iterable[Resource]:
    reads = Reads(context)
    greetings = {"GET": _greet, "HEAD": _greet}  # a proxy asks by HEAD whether we are there
    yield Resource("/", greetings, "Which agent this is", replicated=False, tags=("status",))
    for endpoints in (
        StatusEndpoints(context),
        AgentProcessEndpoints(context),
        AgentEndpoints(context),
        CatalogEndpoints(context, reads),
        HealthEndpoints(context, reads),
        KeyValueEndpoints(context, reads),
        OperatorEndpoints(context),
        FeedEndpoint(context),
        LaterEndpoints(),
    ):
        yield from endpoints.resources()


def _greet(call: Call) -> Outcome:
    return Answer(200, b"Consul Agent", content_type=PLAIN)


class _DocumentEndpoints:
    """/openapi.json and /docs."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    def resources(self) -> Iterable[Resource]:
        """The paths served here."""
        for pattern, endpoint, summary in (
            ("/openapi.json", self.schema, "This description"),
            ("/docs", self.page, "This description, for people"),
        ):
            yield Resource(pattern, {"GET": endpoint}, summary, replicated=False, tags=("docs",))

    async def schema(self, call: Call) -> Answer:
        """OpenAPI 3."""
        return json_answer(render.json(await self._documents.description()))

    async def page(self, call: Call) -> Answer:
        """One page of HTML that loads nothing else."""
        return await self._documents.page()
