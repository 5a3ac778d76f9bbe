"""What a hot-path handler sees and gives: a request as bytes, an answer as bytes, or a promise.

The same handlers serve before routing (the fast lane of `callboard.serve`) and as plain ASGI
routes (FastAPI), so that both can be held to one suite. Nothing here knows sockets or uvicorn.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from callboard.pki.roles import Peer


@dataclass(slots=True)
class Request:
    """One HTTP request, whole."""

    method: str
    path: str
    """Percent-decoded once, as Go's URL.Path."""
    raw_path: bytes
    query: dict[str, list[str]]
    """Decoded query; a bare `?stale` is {"stale": [""]}."""
    headers: dict[str, str]
    """Names in lower case; repeated ones joined by ", "."""
    body: bytes
    client: tuple[str, int]
    peer: Peer | None = None
    """Who showed a certificate, with what roles; None in the clear."""


@dataclass(slots=True)
class Answer:
    """One HTTP answer, whole. Header names as they go on the wire (Go-canonical)."""

    status: int
    body: bytes = b""
    headers: list[tuple[str, str]] = field(default_factory=list)
    content_type: str | None = None


class Parked(Protocol):
    """A request that waits without a task: a blocking query, a long poll.

    `serve` calls `start(deliver)` once; the object calls `deliver(answer)` exactly once, later
    or at once. `cancel()` is called when the client has gone (within a second) or the server
    drains; it is then no error to deliver, but nobody listens.
    """

    def start(self, deliver: Callable[[Answer], None]) -> None: ...

    def cancel(self) -> None: ...


class StreamConnection(Protocol):
    """What a stream may do with its client; every call is made on the event loop."""

    def write(self, data: bytes) -> bool:
        """Send bytes as they are (framing is serve's). False: the client is behind, by more than
        `Streamed.high_water_bytes`: stop until `on_drain` calls. What is written all the same is
        still sent, until `Streamed.cut_bytes` are waiting: then the connection is cut."""

    def on_drain(self, callback: Callable[[], None]) -> None:
        """Call back once, when the buffer has fallen low (at once, if it is)."""

    def close(self) -> None:
        """End the answer properly; the connection may serve another request."""

    def abort(self) -> None:
        """Cut the connection, so that the client sees an unfinished answer."""


class Stream(Protocol):
    """The producer of a streamed answer. `cancel()` once when the client has gone, was cut, or
    the server drains; not after the stream itself has closed."""

    def start(self, connection: StreamConnection) -> None: ...

    def cancel(self) -> None: ...


@dataclass(slots=True)
class Streamed:
    """An answer whose body is produced over time: a head, and who writes the rest."""

    head: Answer
    """Status and headers; its `body`, if any, is sent first."""
    stream: Stream
    high_water_bytes: int = 256 * 1024
    cut_bytes: int = 64 * 1024 * 1024
    """More than this waiting for one client: it is cut, and logged."""


Settled = Answer | Parked | Streamed
Outcome = Settled | Awaitable[Settled]
Handler = Callable[[Request], Outcome]
Finish = Callable[[Request, Answer], "Answer | Awaitable[Answer]"]
"""The edge's last touch on every answer (compression, common headers), done once an answer."""


@dataclass(frozen=True, slots=True)
class Route:
    """What is done with the requests of one path (or of every path below it)."""

    handler: Handler
    body_bytes_max: int = 1 << 20
    """Longer bodies are refused with 413 before they are read."""
    finish: Finish | None = None
    pattern: str = ""


class Dispatcher(Protocol):
    """Finds the route of a request before any framework does."""

    def find(self, method: str, path: str) -> Route | None:
        """None: not ours, the ASGI application answers."""
