"""GET /v1/internal/feed: where the catalog leaves the cluster, as one endless stream of frames.

Between programs of the farm only: by role on the port of mutual TLS; on the plain port loopback
clients, and everybody where a plain port may leave loopback and there is no mutual TLS. The frames
are `callboard.feed`'s.
"""

from __future__ import annotations

from collections.abc import Iterable

from callboard.agent.http.context import ApiContext
from callboard.agent.http.frame import CALLERS, Call, Resource, trusts
from callboard.agent.http.problems import ApiError
from callboard.serve import Answer, Outcome, Streamed

CONTENT_TYPE = "application/vnd.callboard.feed"
CUT_BYTES = 64 << 20
"""A reader so far behind is cut, and begins anew."""


class FeedEndpoint:
    """See the module."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context

    def resources(self) -> Iterable[Resource]:
        """The path served here."""
        yield Resource(
            "/v1/internal/feed",
            {"GET": self.read},
            "The catalog as a stream of frames, for the programs of the farm",
            replicated=False,
            tags=("internal",),
        )

    def read(self, call: Call) -> Outcome:
        """The stream, as long as its reader listens."""
        request = call.request
        if not trusts(self._context, request, CALLERS) or not call.rights.operator_read():
            raise ApiError(403, "the feed is for programs of the farm")
        if self._context.feed is None:
            raise ApiError(501, "this agent has no feed: ask a server")
        head = Answer(200, b"", [("Cache-Control", "no-store")], CONTENT_TYPE)
        return Streamed(head, self._context.feed(request), cut_bytes=CUT_BYTES)
