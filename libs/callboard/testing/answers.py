"""What a test server is asked, and what it answers."""

from __future__ import annotations

import mimetypes
import posixpath
import threading
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.message import Message
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO

from cryptography import x509
from cryptography.x509.oid import NameOID

BODY_MAX = 64 << 20
LINE_MAX = 65536
GREETING = b"callboard.testing: it works\n"
TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it came."""

    method: str
    target: str
    """As in the request line: path and query, with their escapes."""
    headers: Message
    """Names in any case: `request.headers["user-agent"]`."""
    body: bytes = b""
    host: str = "localhost"
    """The host of the server that was named by SNI."""
    peer_certificate: x509.Certificate | None = None
    """The client's, verified; None when it showed none."""

    @property
    def path(self) -> str:
        """Without query, escapes undone."""
        return urllib.parse.unquote(self.target.partition("?")[0])

    @property
    def query(self) -> dict[str, list[str]]:
        """Values by name."""
        return urllib.parse.parse_qs(self.target.partition("?")[2], keep_blank_values=True)

    @property
    def peer(self) -> str:
        """The common name of the client's certificate; "" without one."""
        return common_name(self.peer_certificate)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer in full: `Answer(503, headers={"Retry-After": "1"})`."""

    status: int = 200
    body: bytes | str = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def content(self) -> bytes:
        """The body; text is UTF-8."""
        return self.body.encode() if isinstance(self.body, str) else self.body


Result = bytes | str | Answer
Handler = Result | Callable[[Request], Result]


def common_name(certificate: x509.Certificate | None) -> str:
    """The common name of a certificate's subject; "" when it has none."""
    found = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME) if certificate else []
    return str(found[0].value) if found else ""


class BadBody(ValueError):
    """The body of a request breaks RFC 9112."""


class BodyTooLarge(ValueError):
    """The body of a request has more than BODY_MAX bytes."""


def read_body(stream: BinaryIO, headers: Message) -> bytes:
    """Read a request's body: Content-Length or chunks (RFC 9112 sections 6 and 7).

    Raises BadBody, BodyTooLarge, and what reading raises.
    """
    coding = str(headers.get("Transfer-Encoding", "")).strip().lower()
    if coding == "chunked":
        return _read_chunks(stream)
    if coding:
        raise BadBody(f"transfer coding {coding!r}")
    length = _number(str(headers.get("Content-Length", "0")).strip(), 10)
    return _read_exactly(stream, length, BODY_MAX)


def _read_chunks(stream: BinaryIO) -> bytes:
    body = bytearray()
    while True:
        line = stream.readline(LINE_MAX)
        size = _number(line.partition(b";")[0].strip().decode("latin-1"), 16)
        if size == 0:
            break
        body += _read_exactly(stream, size, BODY_MAX - len(body))
        if stream.readline(LINE_MAX) not in (b"\r\n", b"\n"):
            raise BadBody("a chunk is longer than it says")
    while (line := stream.readline(LINE_MAX)) not in (b"\r\n", b"\n"):
        if not line:
            raise BadBody("the end is missing")
    return bytes(body)


def _read_exactly(stream: BinaryIO, length: int, most: int) -> bytes:
    if length > most:
        raise BodyTooLarge(f"more than {BODY_MAX} bytes")
    body = stream.read(length)
    if len(body) < length:
        raise BadBody(f"{len(body)} of {length} bytes")
    return body


def _number(text: str, radix: int) -> int:
    digits = "0123456789abcdef"[:radix]
    if not 0 < len(text) <= 16 or set(text.lower()) - set(digits):
        raise BadBody(f"length {text[:40]!r}")
    return int(text, radix)


class Site:
    """What there is to serve: handlers and folders, for one host or all of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._handlers: dict[tuple[str | None, str | None, str], Handler] = {}
        self._folders: dict[str | None, Path] = {}

    def handle(self, path: str, handler: Handler, method: str | None, host: str | None) -> None:
        """Answer a path; the newest says. Raises ValueError for one without a leading slash."""
        if not path.startswith("/"):
            raise ValueError(f"a path begins with a slash: {path!r}")
        with self._lock:
            self._handlers[host, method, path] = handler

    def serve(self, folder: Path, host: str | None) -> None:
        """Serve the files of a folder where no handler does. Raises NotADirectoryError."""
        if not folder.is_dir():
            raise NotADirectoryError(str(folder))
        with self._lock:
            self._folders[host] = folder.resolve()

    def answer(self, request: Request) -> Answer:
        """Answer a request; what a handler raises comes through."""
        with self._lock:
            hosts, methods = (request.host, None), (request.method, None)
            keys = [(host, method, request.path) for host in hosts for method in methods]
            handler = next((self._handlers[key] for key in keys if key in self._handlers), None)
            folder = self._folders.get(request.host) or self._folders.get(None)
            known = sorted({path for _, _, path in self._handlers})
        if handler is not None:
            result = handler(request) if callable(handler) else handler
            return result if isinstance(result, Answer) else _shown(result)
        if folder is not None:
            return _file(folder, request)
        if not known:
            return _shown(GREETING.decode())
        told = f"nothing at {request.path}; there are {', '.join(known)}\n"
        return Answer(404, told, {"Content-Type": TEXT})


def _shown(result: bytes | str) -> Answer:
    kind = TEXT if isinstance(result, str) else "application/octet-stream"
    return Answer(200, result, {"Content-Type": kind})


def _file(folder: Path, request: Request) -> Answer:
    """A file below the folder, or index.html of a folder that is asked for."""
    if request.method not in ("GET", "HEAD"):
        return Answer(405, headers={"Allow": "GET, HEAD"})
    missing = Answer(404, f"no file {request.path}\n", {"Content-Type": TEXT})
    inside = posixpath.normpath(request.path).lstrip("/")
    if "\0" in inside:
        return missing
    path = (folder / inside).resolve()
    if path.is_dir():
        path = (path / "index.html").resolve()
    if not path.is_relative_to(folder) or not path.is_file():
        return missing
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return Answer(HTTPStatus.OK, path.read_bytes(), {"Content-Type": kind})
