"""Bytes that nobody should send to the TLS server for tests: it answers or refuses, and goes on."""

from __future__ import annotations

import contextlib
import io
import socket
import string
from email.message import Message
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from callboard.testing import Request, TLSServer, listening
from callboard.testing.answers import BODY_MAX, BadBody, BodyTooLarge, Site, read_body

TIMEOUT_S = 10.0
BY_FIXTURE = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def headers(**given: str) -> Message:
    """Headers by name, "_" for "-"."""
    made = Message()
    for name, value in given.items():
        made[name.replace("_", "-")] = value
    return made


@given(st.lists(st.binary(min_size=1, max_size=50)), st.binary(max_size=20))
def test_chunked_body_is_read_whole_and_no_further(pieces: list[bytes], after: bytes) -> None:
    sent = b"".join(b"%x;ext=1\r\n%s\r\n" % (len(one), one) for one in pieces)
    stream = io.BytesIO(sent + b"0\r\nTrailer: 1\r\n\r\n" + after)
    assert read_body(stream, headers(Transfer_Encoding="Chunked")) == b"".join(pieces)
    assert stream.read() == after


@given(st.binary(max_size=50), st.binary(max_size=20))
def test_body_of_a_length_is_read_whole_and_no_further(body: bytes, after: bytes) -> None:
    stream = io.BytesIO(body + after)
    assert read_body(stream, headers(Content_Length=str(len(body)))) == body
    assert stream.read() == after


@given(
    st.binary(max_size=200),
    st.sampled_from(["Transfer_Encoding", "Content_Length"]),
    st.one_of(st.just("chunked"), st.text(string.printable, max_size=10)),
)
def test_body_of_any_bytes_is_read_or_refused(sent: bytes, name: str, value: str) -> None:
    try:
        body = read_body(io.BytesIO(sent), headers(**{name: value}))
    except (BadBody, BodyTooLarge):
        return
    assert len(body) <= len(sent)


@pytest.mark.parametrize("length", ["-1", "+1", "1_0", "0x1", "", "1 1", "٣", "9" * 17])
def test_length_that_is_no_number_is_refused(length: str) -> None:
    with pytest.raises(BadBody):
        read_body(io.BytesIO(b"x" * 99), headers(Content_Length=length))


def test_body_too_large_is_refused_before_it_is_read() -> None:
    with pytest.raises(BodyTooLarge):
        read_body(io.BytesIO(), headers(Content_Length=str(BODY_MAX + 1)))
    with pytest.raises(BodyTooLarge):
        read_body(io.BytesIO(b"ffffffff\r\n"), headers(Transfer_Encoding="chunked"))


PART = st.sampled_from(["..", ".", "", "%2e%2e", "..%2f", "a", "out", "C:", "..\\", "%00", "~"])


@BY_FIXTURE
@given(parts=st.lists(PART, max_size=6))
def test_no_path_leads_out_of_the_folder(tmp_path: Path, parts: list[str]) -> None:
    folder = tmp_path / "www"
    folder.mkdir(exist_ok=True)
    (folder / "a").write_bytes(b"inside")
    (tmp_path / "index.html").write_bytes(b"outside")
    (tmp_path / "a").write_bytes(b"outside")
    out = folder / "out"
    if not out.is_symlink():
        out.symlink_to(tmp_path)
    site = Site()
    site.serve(folder, None)
    answer = site.answer(Request("GET", "/" + "/".join(parts), headers()))
    assert answer.body != b"outside"
    assert answer.status in (200, 404)


@BY_FIXTURE
@given(
    sent=st.one_of(st.binary(max_size=300), st.binary(max_size=300).map(b"\x16\x03\x01".__add__))
)
def test_stranger_bytes_end_in_no_problem(tls_server: TLSServer, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", tls_server.port), TIMEOUT_S) as stranger:
        stranger.sendall(sent)
    assert list(tls_server.problems) == []
    assert not any(one.completed for one in tls_server.handshakes)


@BY_FIXTURE
@given(
    sent=st.one_of(
        st.binary(max_size=300),
        st.binary(max_size=100).map(b"GET / HTTP/1.1\r\n".__add__),
        st.binary(max_size=100).map(
            b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".__add__
        ),
    )
)
def test_requests_of_any_bytes_are_answered_or_refused(tls_server: TLSServer, sent: bytes) -> None:
    with (
        socket.create_connection(("127.0.0.1", tls_server.port), TIMEOUT_S) as plain,
        tls_server.ssl_context().wrap_socket(plain, server_hostname="localhost") as client,
    ):
        client.sendall(sent)
        with contextlib.suppress(OSError):  # refused, or closed first
            client.unwrap()
    assert list(tls_server.problems) == []


def test_connection_too_many_is_closed(
    tls_server: TLSServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "CONNECTIONS_MAX", 2)
    address = ("127.0.0.1", tls_server.port)
    kept = [socket.create_connection(address, TIMEOUT_S) for _ in range(2)]
    third = socket.create_connection(address, TIMEOUT_S)
    with third, contextlib.suppress(ConnectionResetError):
        assert third.recv(1) == b""
    for one in kept:
        one.close()
