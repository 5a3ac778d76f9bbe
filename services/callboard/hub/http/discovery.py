"""What a client reads to find its way: protected resource metadata."""

from __future__ import annotations

from callboard.hub.auth.metadata import metadata
from callboard.serve import Answer, Request
from callboard.serve.resources import JSON


class DiscoveryEndpoints:
    """RFC 9728."""

    def __init__(self, resource: str, *, subscriptions: bool) -> None:
        """`resource`: the hub's identifier, which tokens of draft 08 have in `aud`."""
        self._document = metadata(resource, subscriptions=subscriptions)

    def metadata(self, request: Request) -> Answer:
        """What tokens this hub takes, and how they are shown (RFC 9728)."""
        return Answer(200, self._document, [("Cache-Control", "max-age=3600")], JSON)
