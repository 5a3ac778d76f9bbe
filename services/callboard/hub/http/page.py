"""The hub's own page: files of the package `callboard.hub.page`, read once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from callboard.hub.http.frame import tagged
from callboard.serve import Answer, Request
from callboard.serve.resources import Resource, text

FOLDER = Path(__file__).parent.parent / "page"
INDEX = "index.html"
_KINDS = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_POLICY = (
    "Content-Security-Policy",
    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
)
_NAVIGATION = "text/html"


def page_resources() -> Iterator[Resource]:
    """/ and the files that its page loads."""
    for path in sorted(FOLDER.iterdir()):
        if path.suffix in _KINDS:
            file = _File(path.read_bytes(), _KINDS[path.suffix])
            if path.name == INDEX:
                greeting = _Greeting(file)
                yield Resource("/", {"GET": greeting, "HEAD": greeting}, "The hub's page")
            else:
                yield Resource(f"/{path.name}", {"GET": file, "HEAD": file}, "A file of the page")


class _File:
    """One file as an endpoint."""

    def __init__(self, body: bytes, kind: str) -> None:
        self._body = body
        self._kind = kind

    def __call__(self, request: Request) -> Answer:
        headers = [("Cache-Control", "no-cache"), _POLICY]
        return tagged(request, Answer(200, self._body, headers, self._kind))


class _Greeting:
    """/: the page for a browser, a line for all others."""

    def __init__(self, page: _File) -> None:
        self._page = page

    def __call__(self, request: Request) -> Answer:
        if _NAVIGATION in request.headers.get("accept", ""):
            answer = self._page(request)
        else:
            answer = text(200, "Callboard hub: /t/TOPIC, /.well-known/mercure, /stats, /docs")
        answer.headers.append(("Vary", "Accept"))
        return answer
