"""The hub's own page: files of the package `callboard.hub.page`, read once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from callboard.hub.http.frame import Resource, text
from callboard.serve import Answer, Request

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


def page_resources(folder: Path = FOLDER) -> Iterator[Resource]:
    """/ and the files that its page loads."""
    index: bytes | None = None
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    for path in files:
        if path.suffix in _KINDS and path.name == INDEX:
            index = path.read_bytes()
        elif path.suffix in _KINDS:
            endpoint = _File(path.read_bytes(), _KINDS[path.suffix])
            methods = {"GET": endpoint, "HEAD": endpoint}
            yield Resource(f"/{path.name}", methods, "A file of the page")
    greeting = _Greeting(index)
    yield Resource("/", {"GET": greeting, "HEAD": greeting}, "The hub's page")


class _File:
    """One file as an endpoint."""

    def __init__(self, body: bytes, kind: str) -> None:
        self._body = body
        self._kind = kind
        self._tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'

    def __call__(self, request: Request) -> Answer:
        headers = [("ETag", self._tag), ("Cache-Control", "no-cache"), _POLICY]
        if self._tag in request.headers.get("if-none-match", ""):
            return Answer(304, b"", headers)
        return Answer(200, self._body, headers, self._kind)


class _Greeting:
    """/: the page for a browser, a line for all others."""

    def __init__(self, index: bytes | None) -> None:
        self._file = _File(index, _KINDS[".html"]) if index is not None else None

    def __call__(self, request: Request) -> Answer:
        if self._file is not None and _NAVIGATION in request.headers.get("accept", ""):
            answer = self._file(request)
        else:
            answer = text(200, "Callboard hub: /t/TOPIC, /.well-known/mercure, /stats, /docs")
        answer.headers.append(("Vary", "Accept"))
        return answer
