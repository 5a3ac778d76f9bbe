"""An API's description, made of its application when somebody asks: OpenAPI, a page for people."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from html import escape
from typing import Any, Protocol, cast

from callboard.serve.core import Message
from callboard.serve.exchange import Answer, Request
from callboard.serve.lazy import LazyApp
from callboard.serve.resources import JSON, Resource

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font-family: sans-serif; max-width: 70em; margin: 2em auto; padding: 0 1em }}
table {{ border-collapse: collapse; width: 100% }}
td {{ border-top: 1px solid #ccc; padding: .4em; vertical-align: top; width: 50% }}
</style></head><body><h1>{title}</h1>
<p>{description} For programs: <a href="openapi.json">openapi.json</a>.</p>
{tables}</body></html>
"""


class Application(Protocol):
    """An ASGI application that describes itself, as FastAPI's do."""

    def openapi(self) -> dict[str, Any]: ...

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None: ...


class Documents:
    """An application that is built when it is first needed, and its description."""

    def __init__(self, build: Callable[[], Application]) -> None:
        self.app = LazyApp(build)

    async def description(self) -> dict[str, Any]:
        """OpenAPI 3.1."""
        app = cast("Application", await self.app.app())
        return await asyncio.to_thread(app.openapi)

    async def page(self) -> Answer:
        """The same as one page of HTML that loads nothing else."""
        page = documentation_page(await self.description())
        return Answer(200, page, content_type="text/html; charset=utf-8")


def document_resources(documents: Documents) -> Iterator[Resource]:
    """The paths of the description: /openapi.json for programs, /docs for people."""

    async def schema(request: Request) -> Answer:
        """OpenAPI 3.1."""
        return Answer(200, json.dumps(await documents.description()).encode(), content_type=JSON)

    async def page(request: Request) -> Answer:
        """One page of HTML that loads nothing else."""
        return await documents.page()

    yield Resource("/openapi.json", {"GET": schema, "HEAD": schema}, "This description")
    yield Resource("/docs", {"GET": page, "HEAD": page}, "This description, for people")


def documentation_page(schema: Mapping[str, Any]) -> bytes:
    """An OpenAPI description as a document of HTML: a table for each tag."""
    rows: dict[str, list[str]] = {}
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            text = f"<b>{escape(operation['summary'])}</b>"
            if description := operation.get("description"):
                text += f"<br>{escape(description)}"
            name = f"<code>{escape(method.upper())} {escape(path)}</code>"
            (tag, *_) = operation.get("tags") or [""]
            rows.setdefault(tag, []).append(f"<tr><td>{name}</td><td>{text}</td></tr>")
    tables = "".join(
        (f"<h2>{escape(tag)}</h2>" if tag else "") + f"<table>{''.join(lines)}</table>"
        for tag, lines in rows.items()
    )
    title = escape(f"{schema['info']['title']} {schema['info']['version']}")
    page = _PAGE.format(
        title=title, description=escape(schema["info"]["description"]), tables=tables
    )
    return page.encode()
