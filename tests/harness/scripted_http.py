"""An HTTP server that answers what a test wrote down, and keeps what it was asked.

A fake at our own seam, Consul's HTTP API, for clients and command line verbs.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

from tests.harness.sockets import free_port


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it came."""

    method: str
    target: str
    """Path and query, as on the wire."""
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> dict[str, str]:
        """The query's fields."""
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))


@dataclass(frozen=True, slots=True)
class Scripted:
    """One answer."""

    status: int
    body: bytes
    headers: Mapping[str, str]


class ScriptedHttp:
    """Serves on 127.0.0.1 from construction to `close`; a context manager."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self._answers: dict[tuple[str, str], list[Scripted]] = {}
        self._connections: set[socket.socket] = set()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )
        self._thread.start()

    @property
    def address(self) -> str:
        """host:port."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    def on(
        self,
        method: str,
        target: str,
        answer: object = None,
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Answer `method target` (with its query, as on the wire) so; str and bytes are sent as
        they are, anything else as JSON. Several answers are given in turn, the last for ever."""
        body = answer.encode() if isinstance(answer, str) else answer
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        self._answers.setdefault((method, target), []).append(
            Scripted(status, body, dict(headers or {}))
        )

    def close(self) -> None:
        """Stop serving, and hang up on everyone."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> ScriptedHttp:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _answer(self, asked: Asked) -> Scripted:
        self.asked.append(asked)
        answers = self._answers.get((asked.method, asked.target))
        if not answers:
            text = f"no answer is written for {asked.method} {asked.target}"
            return Scripted(599, text.encode(), {})
        return answers.pop(0) if len(answers) > 1 else answers[0]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        script = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                script._connections.add(self.connection)

            def finish(self) -> None:
                script._connections.discard(self.connection)
                with contextlib.suppress(OSError):
                    super().finish()

            def _any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                answer = script._answer(Asked(self.command, self.path, headers, body))
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)

            do_GET = do_PUT = do_POST = do_DELETE = _any  # noqa: N815 - http.server's names

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        return Handler


def refusing_address() -> str:
    """host:port that nothing listens on."""
    return f"127.0.0.1:{free_port()}"
