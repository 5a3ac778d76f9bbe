"""HTTP with bounds."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from http import HTTPStatus

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.harness.asking import http
from tests.harness.eventually import eventually_sync

from callboard.sidecar.serving import BoundedServer, Handler

CONNECTIONS_MAX = 4


class _Echo(Handler):
    body_bytes_max = 100

    def route(self, method: str, path: str, body: bytes) -> None:
        self.answer(HTTPStatus.OK, f"{method} {path} {body.decode('latin-1')}")


@pytest.fixture(scope="module")
def server() -> Iterator[BoundedServer]:
    made = BoundedServer("127.0.0.1", 0, _Echo, connections_max=CONNECTIONS_MAX)
    made.start("echo")
    yield made
    made.stop()


def _url(server: BoundedServer) -> str:
    return f"http://127.0.0.1:{server.port}/a"


def _exchange(server: BoundedServer, sent: bytes) -> bytes:
    """All that comes back to these bytes and the end of ours."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while data := connection.recv(4096):
            received += data
        return received


def test_requests_are_answered(server: BoundedServer) -> None:
    assert http("GET", _url(server)).body == b"GET /a \n"
    assert http("PUT", f"{_url(server)}?b=c", b"body").body == b"PUT /a body\n"


def test_a_connection_serves_several_requests(server: BoundedServer) -> None:
    told = _exchange(server, b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n" * 3)
    assert told.count(b"200 OK") == 3


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"Content-Length: 101", b"413"),
        (b"Content-Length: 99999999999999999999", b"413"),
        (b"Content-Length: -1", b"411"),
        (b"Content-Length: 1_0", b"411"),
        (b"Transfer-Encoding: chunked", b"411"),
    ],
)
def test_a_body_that_is_too_long_or_of_no_length_is_refused(
    server: BoundedServer, head: bytes, status: bytes
) -> None:
    told = _exchange(server, b"POST / HTTP/1.1\r\nHost: a\r\n" + head + b"\r\n\r\n")
    assert told.split()[1] == status
    assert b"Connection: close" in told


def test_a_body_that_is_cut_short_is_not_answered(server: BoundedServer) -> None:
    assert _exchange(server, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc") == b""


def test_an_unknown_method_is_refused(server: BoundedServer) -> None:
    assert b"501" in _exchange(server, b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n")


def test_more_connections_than_its_bound_are_closed_at_once(server: BoundedServer) -> None:
    held = [
        socket.create_connection(("127.0.0.1", server.port), timeout=5)
        for _ in range(CONNECTIONS_MAX)
    ]
    try:

        def refused() -> bool:
            with socket.create_connection(("127.0.0.1", server.port), timeout=5) as one:
                try:
                    return one.recv(1) == b""
                except ConnectionResetError:
                    return True

        assert refused()
    finally:
        for each in held:
            each.close()
    eventually_sync(lambda: http("GET", _url(server)).status == 200)


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(sent=st.binary(max_size=300))
def test_garbage_leaves_it_alive(server: BoundedServer, sent: bytes) -> None:
    try:
        _exchange(server, sent)
    except ConnectionResetError:
        pass  # (what it had not read)
    eventually_sync(lambda: http("GET", _url(server)).status == 200)


def test_stop_cuts_connections_that_stand() -> None:
    server = BoundedServer("127.0.0.1", 0, _Echo)
    server.start("echo")
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert connection.recv(4096)
        server.stop()
        assert connection.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port), timeout=5)
