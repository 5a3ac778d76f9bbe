"""The one path that FastAPI answers by itself: an event stream, by sse-starlette.

Imported by who builds the application: FastAPI is slow to load.
"""

from __future__ import annotations

from fastapi import FastAPI
from sse_starlette.sse import EventSourceResponse
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from callboard.gateway.http.frame import answer_to
from callboard.gateway.http.whep import WhepEndpoints
from callboard.serve.adapter import as_request
from callboard.serve.exchange import Answer
from callboard.serve.fallback import raw_headers
from callboard.serve.resources import NOSNIFF

PING_S = 15
"""A comment, so that what is between does not take the stream for dead."""
PATH = "/whep/{stream}/{session}/sse/{events}"


def add_event_route(app: FastAPI, whep: WhepEndpoints) -> None:
    """Serve event streams, before the routes that are there."""

    async def read(http_request: HttpRequest) -> Response:
        request = await as_request(http_request)
        refused = whep.frame.refusal(request)
        if refused is not None:
            return _plain(whep.frame.finish(request, refused))
        try:
            stream = whep.events_of(request)
        except Exception as problem:
            return _plain(whep.frame.finish(request, answer_to(problem)))
        headers = dict([NOSNIFF, *whep.frame.origin_headers(request)])
        headers["X-Accel-Buffering"] = "no"
        return EventSourceResponse(stream.read(), ping=PING_S, headers=headers)

    app.add_api_route(
        PATH,
        read,
        methods=["GET"],
        summary="Events of a stream",
        description="Server-sent events: active, inactive, viewercount.",
        operation_id="get-whep-events",
        response_class=Response,
    )
    routes = app.router.routes
    routes.insert(0, routes.pop())


def _plain(answer: Answer) -> Response:
    response = Response(answer.body, answer.status)
    response.raw_headers = raw_headers(answer)
    response.raw_headers.append((b"content-length", b"%d" % len(answer.body)))
    return response
