"""What a hot-path handler sees and gives: a request as bytes, an answer as bytes, or a promise.

The same handlers serve before routing (the fast lane of `callboard.serve`) and as plain ASGI
routes (FastAPI), so that both can be held to one suite.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol


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
    peer_certificate: dict[str, object] | None = None


@dataclass(slots=True)
class Answer:
    """One HTTP answer, whole. Header names as they go on the wire (Go-canonical)."""

    status: int
    body: bytes = b""
    headers: list[tuple[str, str]] = field(default_factory=list)
    content_type: str | None = None


class Parked(Protocol):
    """A request that waits without a task: a blocking query, a long poll.

    `serve` calls `start(deliver)` once; the object calls `deliver(answer)` exactly once, later.
    `cancel()` is called when the client has gone (within a second) or the server drains.
    """

    def start(self, deliver: Callable[[Answer], None]) -> None: ...

    def cancel(self) -> None: ...


Outcome = Answer | Parked | Awaitable[Answer | Parked]
Handler = Callable[[Request], Outcome]
