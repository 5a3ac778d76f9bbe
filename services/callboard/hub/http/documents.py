"""The API as a FastAPI application: every route, and documentation of them.

FastAPI takes most of a second to import: `LazyApp` does it when it is first needed, in a thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request as HttpRequest
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import request_response

from callboard.catalog.version import VERSION
from callboard.hub.http.frame import NOSNIFF, Resource
from callboard.serve import RouteTable
from callboard.serve.adapter import Endpoint, endpoint

_HEADERS = dict([NOSNIFF])
_UNDOCUMENTED = frozenset({"HEAD", "QUERY"})
"""OpenAPI 3.1 has no place for QUERY."""
_METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "QUERY"]

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title></head><body><h1>{title}</h1>
<p>{description} For programs: <a href="openapi.json">openapi.json</a>.</p>
<dl>{rows}</dl></body></html>
"""


def build_application(resources: Iterable[Resource], routes: RouteTable) -> FastAPI:
    """The resources as documented routes; behind them, what `routes` finds for a path."""
    app = FastAPI(
        title="Callboard hub",
        version=VERSION,
        description="What is happening: server-sent events, by the Mercure protocol.",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )

    async def anything(request: HttpRequest) -> Response:
        route = routes.find(request.method, request.scope["path"])
        assert route is not None, "the routes have a fallback"
        return await endpoint(route)(request)

    async def schema(request: HttpRequest) -> Response:
        return JSONResponse(app.openapi(), headers=_HEADERS)

    async def page(request: HttpRequest) -> Response:
        return HTMLResponse(_documentation(app.openapi()), headers=_HEADERS)

    app.router.add_route("/openapi.json", schema, include_in_schema=False)
    app.router.add_route("/docs", page, include_in_schema=False)
    for resource in resources:
        _document(app, resource, anything)
    app.router.add_route("/{path:path}", anything, methods=_METHODS, include_in_schema=False)
    app.router.default = request_response(anything)  # (a path with a line break matches nothing)
    return app


def _document(app: FastAPI, resource: Resource, serve: Endpoint) -> None:
    path = resource.pattern
    if resource.rest:
        path += "{" + resource.rest + ":path}"

    async def handle(request: HttpRequest) -> Response:
        return await serve(request)

    for method, handler in resource.methods.items():
        name = f"{resource.pattern}{resource.rest}".strip("/").replace("/", "-")
        app.add_api_route(
            path,
            handle,
            methods=[method],
            summary=resource.summary,
            description=" ".join((handler.__doc__ or "").split()),
            operation_id=f"{method.lower()}-{name}",
            response_class=Response,
            include_in_schema=method not in _UNDOCUMENTED,
        )


def _documentation(schema: Mapping[str, Any]) -> str:
    """An OpenAPI description as one page that loads nothing else."""
    rows = [
        f"<dt><code>{escape(method.upper())} {escape(path)}</code> {escape(operation['summary'])}"
        f"</dt><dd>{escape(operation.get('description', ''))}</dd>"
        for path, operations in schema["paths"].items()
        for method, operation in operations.items()
    ]
    title = escape(f"{schema['info']['title']} {schema['info']['version']}")
    description = escape(schema["info"]["description"])
    return _PAGE.format(title=title, description=description, rows="".join(rows))
