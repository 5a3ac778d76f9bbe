"""/openapi.json and /docs: the API's description, for programs and for people."""

from __future__ import annotations

import json
from collections.abc import Iterator

from callboard.hub.http.frame import JSON, Resource
from callboard.serve import Answer, Request
from callboard.serve.documents import Documents


def document_resources(documents: Documents) -> Iterator[Resource]:
    """The paths of the description."""

    async def schema(request: Request) -> Answer:
        """OpenAPI 3.1."""
        return Answer(200, json.dumps(await documents.description()).encode(), content_type=JSON)

    async def page(request: Request) -> Answer:
        """One page of HTML that loads nothing else."""
        return await documents.page()

    yield Resource("/openapi.json", {"GET": schema, "HEAD": schema}, "This description")
    yield Resource("/docs", {"GET": page, "HEAD": page}, "This description, for people")
