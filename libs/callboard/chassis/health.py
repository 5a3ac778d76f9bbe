"""The health listener of a program: /livez, /readyz, /metrics, and JSON pages a program adds.

It listens on an address of its own (`-health IP:PORT`), never on the one that serves users: it must
answer when that one is full. Plain asyncio, one request a connection, bounded in every direction; a
web framework would be on the start path for three routes.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from urllib.parse import unquote

from callboard.chassis.logs import RateLimited
from callboard.chassis.metrics import Metrics

log = logging.getLogger(__name__)

HEAD_BYTES_MAX = 8 * 1024
"""Longest request head; a probe's has 200 bytes."""

HEAD_TIMEOUT_S = 5.0
"""For the whole head, however slowly it trickles."""

WRITE_TIMEOUT_S = 5.0
"""For a reader that does not read."""

CONNECTIONS_MAX = 64
"""At the same time; further ones are closed at once."""

Readiness = Callable[[], str | None]
"""None when ready, else why not, in a few words."""

_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed"} | {
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


class HealthServer:
    """Answers on one address from `start` to `stop`. Register before or after the start."""

    def __init__(self, host: str, port: int, metrics: Metrics | None = None) -> None:
        """`port` 0 lets the system choose: see `port` after the start."""
        self._host = host
        self._port = port
        self._metrics = metrics
        self._readiness: dict[str, Readiness] = {}
        self._remarks: dict[str, Readiness] = {}
        self._pages: dict[str, Callable[[], object]] = {}
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()
        self._limited = RateLimited(log)

    def ready_when(self, name: str, check: Readiness) -> None:
        """/readyz is 200 only while every check answers None; a check that raises is not ready."""
        self._readiness[name] = check

    def remark(self, name: str, remark: Readiness) -> None:
        """Let /readyz say more while it is 200 ("name: what"); None is nothing to say."""
        self._remarks[name] = remark

    def page(self, path: str, content: Callable[[], object]) -> None:
        """Answer GET `path` with the JSON of what `content` returns at that moment."""
        self._pages[path] = content

    @property
    def port(self) -> int:
        """The port it listens on; valid after `start`."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    async def start(self) -> None:
        """Listen. Raises OSError when the address is taken or not ours."""
        self._server = await asyncio.start_server(
            self._serve, self._host, self._port, limit=HEAD_BYTES_MAX
        )
        log.info("health listens", extra={"address": f"{self._host}:{self.port}"})

    async def stop(self) -> None:
        """Close the listener and every connection."""
        if self._server is None:
            return
        self._server.close()
        for writer in list(self._connections):
            writer.transport.abort()
        await self._server.wait_closed()

    def reasons(self) -> list[str]:
        """Why the program is not ready: "name: reason" each; empty when it is."""
        return self._said(self._readiness)

    def _said(self, checks: Mapping[str, Readiness]) -> list[str]:
        found = []
        for name, check in checks.items():
            try:
                reason = check()
            except Exception as problem:
                reason = f"{type(problem).__name__}: {problem}"
            if reason is not None:
                found.append(f"{name}: {reason}")
        return found

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= CONNECTIONS_MAX:
            writer.transport.abort()
            return
        self._connections.add(writer)
        try:
            answer = await self._answer(reader)
            if answer:
                writer.write(answer)
                async with asyncio.timeout(WRITE_TIMEOUT_S):
                    await writer.drain()
                    writer.close()
                    await writer.wait_closed()
        except (OSError, TimeoutError):
            writer.transport.abort()
        finally:
            self._connections.discard(writer)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader) -> bytes:
        """The answer to the request to come; b"" when none came in time."""
        try:
            async with asyncio.timeout(HEAD_TIMEOUT_S):
                head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return _response(431, "text/plain", b"request head too large\n")
        except (asyncio.IncompleteReadError, TimeoutError):
            return b""
        words = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            self._limited.warning("malformed", "a malformed request came to the health listener")
            return _response(400, "text/plain", b"bad request\n")
        method, target = words[0], unquote(words[1].partition("?")[0])
        if method not in ("GET", "HEAD"):
            return _response(405, "text/plain", b"method not allowed\n", allow=True)
        return self._route(target, with_body=method == "GET")

    def _route(self, path: str, *, with_body: bool) -> bytes:
        try:
            status, kind, body = self._content(path)
        except Exception:
            log.exception("a health page failed", extra={"path": path})
            status, kind, body = 500, "text/plain", b"internal error\n"
        return _response(status, kind, body, with_body=with_body)

    def _content(self, path: str) -> tuple[int, str, bytes]:
        """(status, content type, body) of a path."""
        if path == "/livez":
            return 200, "text/plain", b"ok\n"
        if path == "/readyz":
            reasons = self.reasons()
            if not reasons:
                said = ["ok", *self._said(self._remarks)]
                return 200, "text/plain", ("\n".join(said) + "\n").encode()
            return 503, "text/plain", ("\n".join(reasons) + "\n").encode()
        if path == "/metrics" and self._metrics is not None:
            return 200, "text/plain; version=0.0.4", self._metrics.text()
        if path in self._pages:
            body = json.dumps(self._pages[path](), default=str).encode() + b"\n"
            return 200, "application/json", body
        return 404, "text/plain", b"not found\n"


def _response(
    status: int, kind: str, body: bytes, *, with_body: bool = True, allow: bool = False
) -> bytes:
    charset = "" if kind == "application/json" else "; charset=utf-8"
    head = (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: {kind}{charset}\r\n"
        f"Content-Length: {len(body)}\r\nCache-Control: no-store\r\n"
        f"X-Content-Type-Options: nosniff\r\nConnection: close\r\n"
        f"{'Allow: GET, HEAD' + chr(13) + chr(10) if allow else ''}\r\n"
    )
    return head.encode("latin-1") + (body if with_body else b"")
