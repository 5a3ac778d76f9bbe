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
    """Decoded query, as Go reads it; a bare `?stale` is {"stale": [""]}."""
    headers: dict[str, str]
    """Names in lower case; repeated ones joined by ", "."""
    body: bytes
    client: tuple[str, int]
    peer: Peer | None = None
    """Who showed a certificate, with what roles; None in the clear."""
    raw_query: bytes = b""
    """As it was sent: for who reads it another way."""


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


class Detached(Protocol):
    """A connection that belongs to its sink; every call is made on the event loop."""

    @property
    def chunked(self) -> bool:
        """Whether what is written must carry the framing of chunks (`serve.wire.chunk`): the head
        said so. Otherwise the end of the connection is the end of the body (HTTP/1.0)."""

    @property
    def write(self) -> Callable[[bytes], None]:
        """The transport's own: bytes go out as they are. Never waits and never refuses: who goes
        on writing after `Sink.behind` fills the memory. Not to be called after `Sink.gone`."""

    def waiting_bytes(self) -> int:
        """What was written and is not yet given to the kernel."""

    def acknowledged_bytes(self) -> int | None:
        """What the client has acknowledged since it connected: grows for as long as it takes
        anything. (What waits need not fall meanwhile: behind TLS the loop has a buffer that does
        not show.) None where the system does not tell."""

    def close(self, last: bytes = b"") -> None:
        """Write `last` (framed, if `chunked`), end the body properly, and close. A client that
        takes nothing of what is left is cut by the kernel (see Detach); by TLS one that has not
        taken all of it after `Limits.write_timeout_s`."""

    def abort(self) -> None:
        """Cut the connection; what waits is lost."""


class Sink(Protocol):
    """Who writes to a detached connection. What it raises is logged, and cuts the connection."""

    def start(self, connection: Detached) -> None:
        """The head is written; write now. Not called if there is nothing to write to (HEAD, a
        status without a body, a client that has gone): then `gone` is."""

    def behind(self) -> None:
        """More than `Detach.high_water_bytes` wait; perhaps within a `write`."""

    def drained(self) -> None:
        """Less than a quarter of that waits again."""

    def gone(self) -> None:
        """The connection is lost. Always called, once, after `close` and `abort` too; be quick:
        thousands may be lost in one turn of the loop."""

    def stopping(self) -> None:
        """The server stops: say good-bye and `close`, in a few seconds at most."""


@dataclass(slots=True)
class Detach:
    """An answer that takes its connection over, for streams that are many and last: behind the
    head nothing of HTTP is left but the socket, and no further request is read.

    The client's end of the connection (a half-close too) is its end; it is cut if it sends more
    than 64 KiB, and by the kernel if it acknowledges nothing for `Limits.write_timeout_s`.
    """

    head: Answer
    """Status and headers; its `body`, if any, is sent first, framed by serve."""
    sink: Sink
    high_water_bytes: int = 64 * 1024


Settled = Answer | Parked | Streamed | Detach
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
