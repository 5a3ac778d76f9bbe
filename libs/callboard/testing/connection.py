"""One client of a test server: handshake, requests, faults, and an end that it can understand."""

from __future__ import annotations

import contextlib
import io
import selectors
import socket
import ssl
import struct
import sys
import time
from collections.abc import Callable
from email.message import Message
from http.server import BaseHTTPRequestHandler
from typing import Any

from cryptography import x509

from callboard.testing.answers import (
    LINE_MAX,
    TEXT,
    Answer,
    BadBody,
    BodyTooLarge,
    Request,
    read_body,
)
from callboard.testing.faults import Behaviour
from callboard.testing.handshakes import Handshake, failed
from callboard.testing.listening import Bell, Listening, State
from callboard.testing.scenario import LOCALHOST, NamedSocket, Scenario

HANDSHAKE_TIMEOUT_S = 10.0
IDLE_TIMEOUT_S = 60.0
STALL_TIMEOUT_S = 600.0
LINGER_S = 1.0
"""How long an end waits for the client to read it. Closed sooner, with bytes of the client unread,
the kernel resets the connection, and the client may never see the alert."""
TLS_HANDSHAKE_RECORD = 0x16
NO_CERTIFICATE = "400 No required SSL certificate was sent\n"
NO_TLS = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class Connection:
    """Serves one accepted socket in the thread that calls `run`."""

    state: State = "handshake"

    def __init__(self, client: socket.socket, listening: Listening, scenario: Scenario) -> None:
        self.socket = client
        self.scenario = scenario
        self.host = LOCALHOST
        self.peer_certificate: x509.Certificate | None = None
        self.bell: Bell = listening.bell
        self._aborted = False
        self._enter: Callable[[State], None] = lambda state: listening.enter(self, state)

    def run(self) -> None:
        """Do what the scenario says, until either side ends it."""
        try:
            # a client that is gone, silent, or was sent away by `abort`
            with contextlib.suppress(OSError):
                self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._serve(self.scenario.behaviour())
        except Exception as problem:
            self.scenario.problems.append(problem)
        finally:
            with contextlib.suppress(OSError):
                self.socket.close()

    def abort(self) -> None:
        """Make every wait on the socket end."""
        self._aborted = True
        with contextlib.suppress(OSError):
            # not SSLSocket's own shutdown, which takes TLS away under the feet of the other thread
            socket.socket.shutdown(self.socket, socket.SHUT_RDWR)

    def reset(self) -> None:
        """End by RST: the client sees ECONNRESET."""
        linger = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.socket.close()

    def enter(self, state: State) -> None:
        """Say what this is at."""
        self._enter(state)

    def _serve(self, behaviour: Behaviour) -> None:
        if behaviour.opening == "stall":
            self._record(Handshake(False, "stalled on purpose"))
            self.enter("stalled")
            self._drain(STALL_TIMEOUT_S)
        elif behaviour.opening == "reset":
            self.socket.settimeout(HANDSHAKE_TIMEOUT_S)
            self.socket.recv(1, socket.MSG_PEEK)
            self._record(Handshake(False, "reset on purpose"))
            self.reset()
        elif behaviour.opening == "plain HTTP":
            self._serve_plainly()
        elif self._shake_hands():
            self._serve_requests()
        else:
            self._linger()

    def _serve_plainly(self) -> None:
        """HTTP without TLS; a client that begins TLS gets HTTP's answer to nonsense."""
        self.socket.settimeout(HANDSHAKE_TIMEOUT_S)
        first = self.socket.recv(1, socket.MSG_PEEK)
        if first and first[0] == TLS_HANDSHAKE_RECORD:
            self._record(Handshake(False, "TLS on a port of plain HTTP"))
            self.socket.sendall(NO_TLS)
            self._linger()
        else:
            self._serve_requests()

    def _shake_hands(self) -> bool:
        try:
            context = self.scenario.context()
            wrapped = context.wrap_socket(
                self.socket, server_side=True, do_handshake_on_connect=False
            )
            assert isinstance(wrapped, NamedSocket)
            self.socket = wrapped
            if self._aborted:  # perhaps on the socket of before
                raise ConnectionAbortedError("the server ends")
            wrapped.settimeout(HANDSHAKE_TIMEOUT_S)
            wrapped.do_handshake()
        except (OSError, ValueError) as problem:
            known = self.socket if isinstance(self.socket, NamedSocket) else None
            name = known.server_name if known else ""
            # version() says nothing before the end of the handshake
            cipher = known.cipher() if known else None
            version = cipher[1] if cipher else ""
            self._record(failed(problem, name, version))
            return False
        der = wrapped.getpeercert(binary_form=True)
        self.peer_certificate = x509.load_der_x509_certificate(der) if der else None
        if wrapped.server_name in self.scenario.hosts:
            self.host = wrapped.server_name
        version = wrapped.version() or ""
        self._record(
            Handshake(
                True,
                "completed",
                server_name=wrapped.server_name,
                version=version,
                peer_certificate=self.peer_certificate,
            )
        )
        return True

    def _record(self, handshake: Handshake) -> None:
        self.scenario.handshakes.append(handshake)

    def _serve_requests(self) -> None:
        self.socket.settimeout(IDLE_TIMEOUT_S)
        self.enter("idle")
        try:
            exchange = _Exchange(self)
        finally:
            if self.state == "idle":
                self._say_goodbye()
        if not exchange.was_reset:
            self._say_goodbye()
            self._linger()

    def _say_goodbye(self) -> None:
        """Send close_notify and FIN, so that a client knows a whole answer from half of one."""
        with contextlib.suppress(OSError, ValueError):
            if isinstance(self.socket, ssl.SSLSocket):
                self.socket.settimeout(0)
                self.socket.unwrap()
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self.socket, socket.SHUT_WR)
        self.enter("leaving")

    def _linger(self) -> None:
        """Let the client read what was said last: an alert, a refusal."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self.socket, socket.SHUT_WR)
        self.enter("leaving")
        self._drain(LINGER_S)

    def _drain(self, limit_s: float) -> None:
        """Read bytes as they are, until the client ends or the time is over."""
        deadline = time.monotonic() + limit_s
        with contextlib.suppress(OSError):
            while (left_s := deadline - time.monotonic()) > 0:
                self.socket.settimeout(left_s)
                if not socket.socket.recv(self.socket, LINE_MAX):
                    return

    def await_bytes(self) -> bool:
        """Wait for bytes; False when an idle connection shall end instead."""
        if self.state != "idle":
            return True
        if isinstance(self.socket, ssl.SSLSocket) and self.socket.pending():
            return True
        with selectors.DefaultSelector() as selector:
            selector.register(self.socket, selectors.EVENT_READ)
            selector.register(self.bell.waiting, selectors.EVENT_READ)
            ready = [key.fileobj for key, _ in selector.select(IDLE_TIMEOUT_S)]
        return self.socket in ready


class _Incoming(io.RawIOBase):
    """The bytes of a connection; they end when it is idle and the server wants it to end."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._connection.await_bytes():
            return 0
        return self._connection.socket.recv_into(buffer)


class _Exchange(BaseHTTPRequestHandler):
    """HTTP/1.1 on one connection, by the standard library's parser."""

    protocol_version = "HTTP/1.1"
    was_reset = False
    rfile: io.BufferedReader
    headers: Message

    def __init__(self, connection: Connection) -> None:
        self._serving = connection
        super().__init__(connection.socket, ("", 0), None)  # type: ignore[arg-type]

    def setup(self) -> None:
        self.connection = self._serving.socket
        self.rfile = io.BufferedReader(_Incoming(self._serving))
        self._written = io.BytesIO()
        self.wfile = self._written

    def finish(self) -> None:
        self.rfile.close()

    def version_string(self) -> str:
        return "callboard.testing"

    def log_message(self, *_: Any) -> None:
        pass

    def handle_expect_100(self) -> bool:
        going_on = super().handle_expect_100()
        self._send_written()
        return going_on

    def handle_one_request(self) -> None:
        self._serving.enter("idle")
        self.close_connection = True
        self.raw_requestline = self.rfile.readline(LINE_MAX + 1)
        if not self.raw_requestline:
            return
        self._serving.enter("busy")
        self._answer_one()
        if self._serving.bell.rung:
            self.close_connection = True

    def _answer_one(self) -> None:
        if len(self.raw_requestline) > LINE_MAX:
            self.requestline, self.request_version, self.command = "", "", ""
            self._refuse(414)
            return
        if not self.parse_request():
            self._send_written()
            return
        try:
            body = read_body(self.rfile, self.headers)
        except BodyTooLarge:
            self._refuse(413)
        except BadBody as problem:
            self._refuse(400, str(problem))
        else:
            self._serve(self._request(body))

    def _refuse(self, status: int, words: str | None = None) -> None:
        self.close_connection = True
        self.send_error(status, words)
        self._send_written()

    def _request(self, body: bytes) -> Request:
        serving = self._serving
        made = Request(
            self.command, self.path, self.headers, body, serving.host, serving.peer_certificate
        )
        serving.scenario.requests.append(made)
        return made

    def _serve(self, request: Request) -> None:
        scenario = self._serving.scenario
        now = scenario.behaviour(request.host)
        if now.body == "reset":
            self.was_reset = self.close_connection = True
            self._serving.reset()
            return
        if now.clients == "required by HTTP" and request.peer_certificate is None:
            answer = Answer(400, NO_CERTIFICATE, {"Content-Type": TEXT})
        else:
            try:
                answer = scenario.site.answer(request)
            except Exception as problem:
                scenario.problems.append(problem)
                answer = Answer(500, f"{type(problem).__name__}: {problem}\n")
        self._send(answer, now)

    def _send(self, answer: Answer, now: Behaviour) -> None:
        content = answer.content
        bodiless = answer.status in (204, 304) or answer.status < 200
        length = max(len(content), 1) if now.body == "half" else len(content)
        self.send_response(answer.status)
        given = {name.lower() for name in answer.headers}
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if not bodiless and not given & {"content-length", "transfer-encoding"}:
            self.send_header("Content-Length", str(length))
        if self._serving.bell.rung or now.body == "half" or self.close_connection:
            if "connection" not in given:
                self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        if bodiless or self.command == "HEAD":
            content = b""
        elif now.body == "half":
            content = content[: len(content) // 2]
        if now.body == "slow":
            self._send_written()
            self._trickle(content, now.pause_s)
        else:
            self._written.write(content)
            self._send_written()

    def _trickle(self, content: bytes, pause_s: float) -> None:
        """Send a byte at a time, the rest at once when the fault ends.

        Each byte comes within a client's limit for a read; the whole takes as long as it is.
        """
        serving = self._serving
        for at in range(len(content)):
            serving.socket.sendall(content[at : at + 1])
            if serving.scenario.ending.wait(pause_s):
                self.close_connection = True
                return
            if serving.scenario.behaviour(serving.host).body != "slow":
                serving.socket.sendall(content[at + 1 :])
                return

    def _send_written(self) -> None:
        self._serving.socket.sendall(self._written.getvalue())
        self._written.seek(0)
        self._written.truncate()
