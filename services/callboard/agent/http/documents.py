"""The API as a FastAPI application: documentation, and every route for the slow lane.

FastAPI takes most of a second to import on a busy machine, so nothing imports this module before
somebody asks for the documentation (or the fast lane is off).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import request_response

from callboard.agent.http.frame import Resource
from callboard.catalog.version import VERSION
from callboard.serve import Dispatcher
from callboard.serve.adapter import Endpoint, endpoint

_METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"]

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font-family: sans-serif; max-width: 70em; margin: 2em auto; padding: 0 1em }}
table {{ border-collapse: collapse; width: 100% }}
td {{ border-top: 1px solid #ccc; padding: .4em; vertical-align: top; width: 50% }}
</style></head><body><h1>{title}</h1>
<p>{description} For programs: <a href="openapi.json">openapi.json</a>.</p>
{tables}</body></html>
"""


def build_application(resources: Iterable[Resource], routes: Dispatcher) -> FastAPI:
    """The resources with tags as documented routes; behind them, what `routes` finds for a path."""
    app = FastAPI(
        title="Callboard",
        version=VERSION,
        description="Who is here: the service catalog, by Consul's HTTP API.",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )

    async def anything(request: HttpRequest) -> Response:
        route = routes.find(request.method, request.scope["path"])
        assert route is not None, "the routes have a fallback"
        return await endpoint(route)(request)

    for resource in resources:
        if resource.tags:
            _document(app, resource, anything)
    app.router.add_route("/{path:path}", anything, methods=_METHODS, include_in_schema=False)
    app.router.default = request_response(anything)  # (a path with a line break matches nothing)
    return app


def documentation_page(schema: Mapping[str, Any]) -> bytes:
    """The page at /docs: an OpenAPI description as one HTML document, which loads nothing else."""
    rows: dict[str, list[str]] = {}
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            text = f"<b>{escape(operation['summary'])}</b>"
            if description := operation.get("description"):
                text += f"<br>{escape(description)}"
            name = f"<code>{escape(method.upper())} {escape(path)}</code>"
            rows.setdefault(operation["tags"][0], []).append(
                f"<tr><td>{name}</td><td>{text}</td></tr>"
            )
    tables = "".join(
        f"<h2>{escape(tag)}</h2><table>{''.join(lines)}</table>" for tag, lines in rows.items()
    )
    title = escape(f"{schema['info']['title']} {schema['info']['version']}")
    page = _PAGE.format(
        title=title, description=escape(schema["info"]["description"]), tables=tables
    )
    return page.encode()


def _document(app: FastAPI, resource: Resource, serve: Endpoint) -> None:
    path = resource.pattern
    if path.endswith("/") and path != "/":
        path += "{" + (resource.rest or "rest") + ":path}"

    async def handle(request: HttpRequest) -> Response:
        return await serve(request)

    for method, handler in resource.methods.items():
        name = resource.pattern.strip("/").replace("/", "-")
        app.add_api_route(
            path,
            handle,
            methods=[method],
            summary=resource.summary,
            description=(handler.__doc__ or "").strip(),
            tags=list(resource.tags),
            operation_id=f"{method.lower()}-{name}",
            response_class=Response,
        )
