"""HTTP of the standard library with bounds: connections, their life, requests, waiting.

A thread a connection. TLS is shaken hands with in that thread: who dawdles costs a slot for a while
and nothing else. A connection is asked to end after LIFE_S: certificates are judged anew then.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import socketserver
import ssl
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from callboard.chassis.logs import RateLimited
from callboard.pki.contexts import check_resumed
from callboard.pki.reasons import explain

log = logging.getLogger(__name__)

CONNECTIONS_MAX = 64
"""At the same time; further ones are closed at once."""
HANDSHAKE_S = 5.0
FAREWELL_S = 1.0
IDLE_S = 30.0
"""For the next piece of a request; longer than clients keep idle connections."""
LIFE_S = 60.0
"""After so long an answer says that the connection ends."""
LIFE_MAX_S = 120.0
"""And then it is cut: who trickles a request is gone by then."""
LOG_INTERVAL_S = 30.0


class BoundedServer(ThreadingHTTPServer):
    """A listener, from `start` to `stop`."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(
        self,
        host: str,
        port: int,
        handler: type[Handler],
        *,
        tls: ssl.SSLContext | None = None,
        connections_max: int = CONNECTIONS_MAX,
    ) -> None:
        """Listens at once; `port` 0 lets the system choose. Raises OSError."""
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.tls = tls
        self._connections_max = connections_max
        self._open: dict[socket.socket, float] = {}
        self._guard = threading.Lock()
        self._limited = RateLimited(log, LOG_INTERVAL_S)
        self._thread: threading.Thread | None = None
        super().__init__((host, port), handler)

    @property
    def port(self) -> int:
        """The port listened on."""
        return int(self.server_address[1])

    def server_bind(self) -> None:
        """As HTTPServer's, but without asking the DNS for a name."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.port

    def start(self, name: str) -> None:
        """Serve in a thread."""
        self._thread = threading.Thread(target=self.serve_forever, name=name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Listen no more, and cut all connections."""
        if self._thread is not None:
            self.shutdown()
            self._thread.join()
        self.server_close()
        with self._guard:
            for each in self._open:
                _cut(each)

    def service_actions(self) -> None:
        """Twice a second: cut those whose time is over."""
        over = time.monotonic() - LIFE_MAX_S
        with self._guard:
            for each, began in self._open.items():
                if began < over:
                    _cut(each)

    def process_request(self, request: Any, client_address: Any) -> None:
        """A connection has come."""
        with self._guard:
            full = len(self._open) >= self._connections_max
            if not full:
                self._open[request] = time.monotonic()
        if full:
            self._limited.warning("full", "connections are refused: there are too many")
            self.shutdown_request(request)
        else:
            super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """In a thread of its own, until it ends."""
        connection = request
        try:
            if self.tls is not None:
                request.settimeout(HANDSHAKE_S)
                connection = self.tls.wrap_socket(
                    request, server_side=True, do_handshake_on_connect=False
                )
                with self._guard:
                    self._open[connection] = self._open.pop(request)
                connection.do_handshake()
                check_resumed(connection)
            self.finish_request(connection, client_address)
        except (OSError, ValueError) as problem:  # ValueError: of a socket that was cut
            extra = {"from": client_address[0], "reason": explain(problem)}
            key = " ".join(extra.values())
            self._limited.warning(key, "a connection has failed", extra)
            _take_leave(connection)
        except Exception:
            log.exception("a request failed")
        finally:
            with self._guard:
                self._open.pop(connection, None)
            self.shutdown_request(connection)


class Handler(BaseHTTPRequestHandler):
    """Answers requests of one connection; `route` is each listener's own."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "callboard", ""
    timeout = IDLE_S
    disable_nagle_algorithm = True
    wbufsize = 1 << 16
    """An answer goes out as one: http.server flushes at its end."""
    body_bytes_max = 0
    server: BoundedServer

    def setup(self) -> None:
        """As BaseHTTPRequestHandler's."""
        super().setup()
        self._began = time.monotonic()

    def route(self, method: str, path: str, body: bytes) -> None:
        """Answer by `answer`, once."""
        raise NotImplementedError

    def answer(
        self,
        status: HTTPStatus,
        body: bytes | str = b"",
        *,
        allow: str = "",
        kind: str = "application/json",
    ) -> None:
        """Send an answer; a text is told in one line."""
        if isinstance(body, str):
            body, kind = f"{body}\n".encode(), "text/plain; charset=utf-8"
        self.send_response(status)
        if body:
            self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        if allow:
            self.send_header("Allow", allow)
        if self.close_connection or time.monotonic() - self._began > LIFE_S:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self) -> None:
        """Also POST, PUT, DELETE and HEAD."""
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not (length.isascii() and length.isdecimal()):
            self.close_connection = True
            self.answer(HTTPStatus.LENGTH_REQUIRED, "a Content-Length is wanted")
            return
        if len(length) > 9 or int(length) > self.body_bytes_max:
            self.close_connection = True
            self.answer(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"more than {self.body_bytes_max} octets"
            )
            return
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            self.close_connection = True
            return
        self.route(self.command, self.path.partition("?")[0], body)

    do_POST = do_GET  # noqa: N815 - as http.server calls them
    do_PUT = do_GET  # noqa: N815 - the same
    do_DELETE = do_GET  # noqa: N815 - the same
    do_HEAD = do_GET  # noqa: N815 - the same

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are no news."""
        log.debug(format, *args)


def _take_leave(connection: socket.socket) -> None:
    """Let an alert arrive: closing a socket with something unread resets the connection, and what
    was sent last is lost on the way (RFC 1122, 4.2.2.13)."""
    deadline = time.monotonic() + FAREWELL_S
    with contextlib.suppress(OSError, ValueError):
        # (the socket's own: the TLS session is over)
        socket.socket.shutdown(connection, socket.SHUT_WR)
        while (left := deadline - time.monotonic()) > 0:
            connection.settimeout(left)
            if not socket.socket.recv(connection, 4096):
                return


def _cut(connection: socket.socket) -> None:
    try:
        socket.socket.shutdown(connection, socket.SHUT_RDWR)  # (SSLSocket's does more: not safe)
    except OSError:
        pass  # it has gone already
