"""GET /watch/{stream}: a page with one stream and nothing else, for frames of other pages.

The page and what it loads are the file server's (`web/live`), read once; they are the same for
every stream: the script in it takes the name from its own address, so that no name is ever part of
a document. They lie at /live/ here too, beside /watch/ as the page expects.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from callboard.gateway.http.ancestors import ANCESTORS, ancestors_of
from callboard.gateway.http.frame import Refused
from callboard.serve import Answer, Request
from callboard.serve.resources import Resource

LIVE = Path(__file__).parents[2] / "fileserver" / "web" / "live"
"""In every image, as all programs are of one distribution."""
PAGE = "watch.html"
LOADED = ("watch.js", "watch.css", "player.js", "words.js", "icon.svg")
KINDS = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
POLICY = "default-src 'self'; base-uri 'none'; form-action 'none'"


def watch_resources(ancestors: str = ANCESTORS) -> Iterator[Resource]:
    """/watch/{stream}, and the files that it loads. Raises OSError where these are not there."""
    policy = f"{POLICY}; frame-ancestors {ancestors_of(ancestors)}"
    page = _File(LIVE / PAGE, policy)

    def watch(request: Request) -> Answer:
        name = request.path.removeprefix("/watch/")
        if not name or "/" in name:
            raise Refused(404, "a stream's page is at /watch/NAME")
        return page(request)

    yield Resource("/watch/", {"GET": watch, "HEAD": watch}, "A stream's page", rest="stream")
    for each in LOADED:
        file = _File(LIVE / each, policy)
        yield Resource(f"/live/{each}", {"GET": file, "HEAD": file}, "A file of that page")


class _File:
    """One file as an endpoint."""

    def __init__(self, path: Path, policy: str) -> None:
        self._body = path.read_bytes()
        self._kind = KINDS[path.suffix]
        tag = hashlib.sha256(self._body).hexdigest()[:32]
        self._headers = [
            ("Cache-Control", "no-cache"),
            ("Content-Security-Policy", policy),
            ("ETag", f'"{tag}"'),
        ]

    def __call__(self, request: Request) -> Answer:
        """The file, or 304 to who has it."""
        headers = list(self._headers)
        held = request.headers.get("if-none-match", "")
        if held and headers[-1][1] in [tag.strip().removeprefix("W/") for tag in held.split(",")]:
            return Answer(304, b"", headers)
        return Answer(200, self._body, headers, self._kind)
