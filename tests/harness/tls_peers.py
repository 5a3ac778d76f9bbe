"""Peers for programs that are not ours: a small HTTPS server, and TLS servers as processes."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.harness.eventually import eventually_sync

TIMEOUT_S = 15.0
PAGE = b"<!doctype html><title>here</title><p>the page is here</p>"
ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(PAGE), PAGE)
)


@dataclass
class Answering:
    """An HTTPS server that answers each request by the same page."""

    port: int
    peers: list[object] = field(default_factory=list)
    """What clients showed (`getpeercert`), one a handshake that succeeded."""


@contextlib.contextmanager
def answering(context: ssl.SSLContext) -> Iterator[Answering]:
    """Serve on a port of 127.0.0.1, each connection in a thread, until the end of the block."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = Answering(listener.getsockname()[1])

    def serve(raw: socket.socket) -> None:
        with contextlib.suppress(OSError), raw:
            raw.settimeout(TIMEOUT_S)
            with context.wrap_socket(raw, server_side=True) as connection:
                server.peers.append(connection.getpeercert())
                if connection.recv(65536):
                    connection.sendall(ANSWER)
                    connection.unwrap()

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                raw, _ = listener.accept()
                threading.Thread(target=serve, args=(raw,), daemon=True).start()

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield server
    finally:
        # closing alone does not wake the thread that waits in accept
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(TIMEOUT_S)


@contextlib.contextmanager
def process(argv: Sequence[str], port: int, directory: Path) -> Iterator[None]:
    """Run a server in `directory` until the end of the block; it must listen on `port`."""
    with (directory / f"{Path(argv[0]).name}.log").open("wb") as log:
        running = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=directory,
            env={"HOME": str(directory), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        )  # fmt: skip

        def listens() -> bool:
            assert running.poll() is None, Path(log.name).read_text(errors="replace")[-800:]
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return True

        try:
            eventually_sync(listens, timeout_s=20)
            yield
        finally:
            running.kill()
            running.communicate(timeout=TIMEOUT_S)


def ask(context: ssl.SSLContext, port: int, name: str) -> bytes:
    """Ask an HTTPS server for its page as a client; what it answered. Raises OSError."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as raw,
        context.wrap_socket(raw, server_hostname=name) as connection,
    ):
        connection.sendall(b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % name.encode())
        return connection.recv(65536)


def run(
    *argv: str, directory: Path, text: str = "", home: Path | None = None, tmpdir: str = "/tmp"
) -> subprocess.CompletedProcess[str]:
    """Run a tool to its end; both outputs are in `stdout`."""
    return subprocess.run(
        argv, cwd=directory, input=text, text=True, errors="replace", timeout=60, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={
            "HOME": str(home or directory),
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "TMPDIR": tmpdir,
        },
    )  # fmt: skip
