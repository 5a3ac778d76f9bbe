"""Resources as a FastAPI application: documented routes, and every path for the slow lane.

FastAPI takes most of a second to import on a busy machine, so nothing imports this module before
somebody asks for the documentation, or for what is not served before routing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fastapi import FastAPI
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import request_response

from callboard.serve.adapter import Endpoint, endpoint
from callboard.serve.exchange import Dispatcher

_METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "QUERY"]
_UNDOCUMENTED = frozenset({"HEAD", "QUERY"})
"""HEAD is GET's, and OpenAPI 3.1 has no place for QUERY."""


@dataclass(frozen=True, slots=True)
class Documented:
    """One path in the description. A pattern that ends in "/" takes a name after it."""

    pattern: str
    methods: Mapping[str, object]
    """Endpoints: their docstrings say what they do."""
    summary: str
    rest: str = ""
    """What the name after the pattern is."""
    tags: tuple[str, ...] = ()


def build_application(
    title: str,
    version: str,
    description: str,
    documented: Iterable[Documented],
    routes: Dispatcher,
) -> FastAPI:
    """An application that answers every request as the route does that `routes` finds for its path
    (there must be a fallback), and describes those of `documented`."""
    app = FastAPI(
        title=title,
        version=version,
        description=description,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )

    async def anything(request: HttpRequest) -> Response:
        route = routes.find(request.method, request.scope["path"])
        assert route is not None, "the routes have a fallback"
        return await endpoint(route)(request)

    taken: set[str] = set()
    for one in documented:
        name = one.pattern.strip("/").replace("/", "-")
        if name in taken:
            name = f"{name}-{one.rest}"
        taken.add(name)
        _document(app, one, name, anything)
    app.router.add_route("/{path:path}", anything, methods=_METHODS, include_in_schema=False)
    app.router.default = request_response(anything)  # (a path with a line break matches nothing)
    return app


def _document(app: FastAPI, one: Documented, name: str, serve: Endpoint) -> None:
    path = one.pattern
    if path.endswith("/") and path != "/":
        path += "{" + (one.rest or "rest") + ":path}"

    async def handle(request: HttpRequest) -> Response:
        return await serve(request)

    for method, handler in one.methods.items():
        app.add_api_route(
            path,
            handle,
            methods=[method],
            summary=one.summary,
            description=" ".join((handler.__doc__ or "").split()),
            tags=list(one.tags),
            operation_id=f"{method.lower()}-{name}",
            response_class=Response,
            include_in_schema=method not in _UNDOCUMENTED,
        )
