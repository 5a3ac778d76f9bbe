"""A server of event streams that does what a test wrote down, on raw sockets, and keeps what it was
asked. One function serves one connection; the last one serves all that follow.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Mapping

from tests.harness.scripted_http import Asked

TIMEOUT_S = 30.0


class Peer:
    """One connection's side of the server."""

    def __init__(self, connection: socket.socket, request: Asked, gone: threading.Event) -> None:
        self._connection = connection
        self._gone = gone
        self.request = request

    def head(
        self,
        status: int = 200,
        kind: str = "text/event-stream",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Begin an answer whose body ends with the connection."""
        fields = {"Content-Type": kind, "Connection": "close", **(headers or {})}
        lines = [f"HTTP/1.1 {status} Said", *(f"{name}: {word}" for name, word in fields.items())]
        self.send("\r\n".join([*lines, "", ""]).encode())

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._connection.sendall(data)

    def whole(
        self,
        status: int,
        body: bytes = b"",
        kind: str = "text/plain",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Send a whole answer."""
        fields = {"Content-Length": str(len(body)), **(headers or {})}
        self.head(status, kind, fields)
        self.send(body)

    def stay(self) -> None:
        """Say nothing more until the client leaves, or the server ends."""
        self._connection.settimeout(0.05)
        while not self._gone.is_set():
            with contextlib.suppress(TimeoutError):
                if not self._connection.recv(4096):
                    return

    def leaves(self, within_s: float) -> bool:
        """Whether the client leaves, or the server ends, within a time."""
        self._connection.settimeout(within_s)
        try:
            return not self._connection.recv(4096) or self._gone.is_set()
        except TimeoutError:
            return self._gone.is_set()

    def reset(self) -> None:
        """Break the connection at once."""
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


Script = Callable[[Peer], None]


def stream(*parts: bytes, stay: bool = True, reset: bool = False) -> Script:
    """A stream of these bytes, which then stays, is reset, or ends."""

    def serve(peer: Peer) -> None:
        peer.head()
        for part in parts:
            peer.send(part)
        if reset:
            peer.reset()
        elif stay:
            peer.stay()

    return serve


def answer(status: int, body: bytes = b"", **headers: str) -> Script:
    """A whole answer; `Retry_After` is the header Retry-After."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda peer: peer.whole(status, body, headers=names)


class SseServer:
    """Serves on 127.0.0.1 from construction to `close`; a context manager."""

    def __init__(self, *scripts: Script, tls: ssl.SSLContext | None = None) -> None:
        self.asked: list[Asked] = []
        self.scripts = list(scripts)
        self._tls = tls
        self._gone = threading.Event()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        scheme = "https" if tls else "http"
        self.url = f"{scheme}://127.0.0.1:{self._listener.getsockname()[1]}"
        """Of the server, without a slash at its end."""
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._threads: list[threading.Thread] = []
        self._thread.start()

    def close(self) -> None:
        """Stop serving, and hang up on everyone."""
        self._gone.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in (self._thread, *self._threads):
            thread.join(TIMEOUT_S)

    def __enter__(self) -> SseServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, raw: socket.socket) -> None:
        with contextlib.suppress(OSError), raw:
            raw.settimeout(TIMEOUT_S)
            connection = self._tls.wrap_socket(raw, server_side=True) if self._tls else raw
            with connection:
                request = _read(connection)
                with self._lock:
                    self.asked.append(request)
                    script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
                script(Peer(connection, request, self._gone))


def _read(connection: socket.socket) -> Asked:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(4096)
        if not piece:
            raise OSError("the client left")
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): word for name, _, word in (line.partition(": ") for line in lines)}
    while len(body) < int(headers.get("content-length", "0")):
        piece = connection.recv(65536)
        if not piece:
            raise OSError("the client left")
        body += piece
    return Asked(method, target, headers, body)
