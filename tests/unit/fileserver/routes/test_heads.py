"""Heads on their way through."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.fileserver.head import parse
from callboard.fileserver.ports import PeerInfo
from callboard.fileserver.routes.framing import Chunked, Length, Nothing, UntilClose
from callboard.fileserver.routes.heads import (
    HEAD_BYTES_MAX,
    AnswerHead,
    BadAnswer,
    answer_head,
    end_of_answer_head,
    parse_answer,
    request_head,
)
from callboard.fileserver.routes.policy import AGENT, GATEWAY, HUB, Forward

PEER = PeerInfo("192.0.2.7", 40000)
TO_HUB = Forward(HUB, b"/t/builds", b"/hub")
TO_KV = Forward(AGENT, b"/v1/kv/a?raw", b"", plain_text=True)


def sent(*fields: str, forward: Forward = TO_HUB, version: str = "1.1") -> list[bytes]:
    lines = [f"GET /hub/t/builds HTTP/{version}", "Host: localhost:1443", *fields, "", ""]
    head = parse("\r\n".join(lines).encode())
    return request_head(head, forward, PEER, b"10.0.0.1:8501").split(b"\r\n")


def answered(*lines: str, method: bytes = b"GET") -> AnswerHead:
    return parse_answer("\r\n".join([*lines, "", ""]).encode(), method)


def told(answer: AnswerHead, forward: Forward = TO_HUB, *, hsts: bytes = b"") -> list[bytes]:
    return answer_head(answer, forward, hsts=hsts, close=False).split(b"\r\n")


def test_the_program_sees_its_own_path_the_users_host_and_where_it_came_from() -> None:
    lines = sent("Authorization: Bearer t", "Cookie: a=b")
    assert lines[0] == b"GET /t/builds HTTP/1.1"
    assert b"Host: localhost:1443" in lines
    assert b"Authorization: Bearer t" in lines
    assert b"Cookie: a=b" in lines
    assert b"X-Forwarded-Prefix: /hub" in lines
    assert b"X-Forwarded-For: 192.0.2.7" in lines
    assert b"X-Forwarded-Proto: https" in lines


@pytest.mark.parametrize(
    "field",
    [
        "X-Forwarded-For: 127.0.0.1",
        "X-Forwarded-Prefix: /evil",
        "X-Client-Cert: pem",
        "X-SSL-Client-Verify: SUCCESS",
        "SSL-Client-Cert: pem",
        "Forwarded: for=127.0.0.1",
        "X-Real-IP: 127.0.0.1",
        "Connection: keep-alive",
        "Keep-Alive: timeout=5",
        "Proxy-Authorization: x",
        "TE: trailers",
        "X_Forwarded_For: 127.0.0.1",
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c",
    ],
)
def test_what_only_we_may_say_and_what_is_for_this_hop_is_taken_out(field: str) -> None:
    assert field.encode() not in sent(field)


def test_a_client_cannot_have_its_credential_taken_out_by_the_connection_field() -> None:
    lines = sent("Authorization: Bearer t", "X-Hop: 1", "Connection: authorization, x-hop")
    assert b"Authorization: Bearer t" in lines
    assert b"X-Hop: 1" not in lines


def test_a_websocket_is_asked_for_anew() -> None:
    to_gateway = Forward(GATEWAY, b"/janus", b"/media", websocket=True)
    fields = ("Connection: Upgrade, keep-alive", "Upgrade: websocket")
    lines = sent(*fields, forward=to_gateway)
    assert b"Connection: Upgrade" in lines
    assert b"Upgrade: websocket" in lines
    assert b"Upgrade: websocket" not in sent(*fields)


def test_an_agent_is_called_by_its_own_name_and_no_origin_contradicts_it() -> None:
    lines = sent("Origin: https://www.example.org", "X-Consul-Token: t", forward=TO_KV)
    assert [line for line in lines if line.startswith((b"Host", b"Origin"))] == [
        b"Host: 10.0.0.1:8501"
    ]
    assert b"X-Forwarded-Host: localhost:1443" in lines
    assert b"X-Consul-Token: t" in lines
    assert b"Origin: https://localhost:1443" in sent("Origin: https://localhost:1443")


def test_an_old_clients_request_stays_old_so_that_no_chunks_come() -> None:
    assert sent(version="1.0")[0] == b"GET /t/builds HTTP/1.0"


@pytest.mark.parametrize(
    ("lines", "method", "kind", "keeps"),
    [
        (("HTTP/1.1 200 OK", "Content-Length: 5"), b"GET", Length, True),
        (("HTTP/1.1 200 OK", "Transfer-Encoding: chunked"), b"GET", Chunked, True),
        (("HTTP/1.1 200 OK",), b"GET", UntilClose, False),
        (("HTTP/1.1 200 OK", "Content-Length: 5"), b"HEAD", Nothing, True),
        (("HTTP/1.1 204 No Content",), b"GET", Nothing, True),
        (("HTTP/1.1 304 Not Modified", "Content-Length: 5"), b"GET", Nothing, True),
        (("HTTP/1.1 200 OK", "Content-Length: 0", "Connection: close"), b"GET", Length, False),
        (("HTTP/1.0 200 OK", "Content-Length: 0"), b"GET", Length, False),
        (("HTTP/1.1 200", "Content-Length: 5", "Content-Length: 5"), b"GET", Length, True),
    ],
)
def test_the_end_of_an_answer_is_known(
    lines: tuple[str, ...], method: bytes, kind: type, keeps: bool
) -> None:
    found = answered(*lines, method=method)
    assert isinstance(found.body, kind)
    assert found.keep_alive is keeps


@pytest.mark.parametrize(
    "lines",
    [
        ("HTTP/2 200 OK",),
        ("nonsense",),
        ("HTTP/1.1 200 OK", "Content-Length: 5", "Content-Length: 6"),
        ("HTTP/1.1 200 OK", "Content-Length: +5"),
        ("HTTP/1.1 200 OK", "Content-Length: 5", "Transfer-Encoding: chunked"),
        ("HTTP/1.1 200 OK", "Transfer-Encoding: gzip, chunked"),
        ("HTTP/1.0 200 OK", "Transfer-Encoding: chunked"),
        ("HTTP/1.1 200 OK", " folded: x"),
        ("HTTP/1.1 200 OK", "Bad Name: x"),
    ],
)
def test_an_answer_whose_end_cannot_be_told_is_refused(lines: tuple[str, ...]) -> None:
    with pytest.raises(BadAnswer):
        answered(*lines)


@given(st.binary(max_size=400))
def test_any_bytes_are_an_answer_or_refused(data: bytes) -> None:
    try:
        parse_answer(data + b"\r\n\r\n", b"GET")
    except BadAnswer:
        pass


def test_an_endless_head_is_refused() -> None:
    with pytest.raises(BadAnswer):
        end_of_answer_head(b"x" * HEAD_BYTES_MAX)


def test_an_answer_without_a_policy_of_its_own_is_boxed_in() -> None:
    lines = told(answered("HTTP/1.1 200 OK", "Content-Length: 0"))
    assert b"X-Content-Type-Options: nosniff" in lines
    assert b"Content-Security-Policy: sandbox" in lines


def test_a_programs_own_policy_stays() -> None:
    own = "Content-Security-Policy: default-src 'self'"
    lines = told(answered("HTTP/1.1 200 OK", "Content-Length: 0", own))
    assert own.encode() in lines
    assert b"Content-Security-Policy: sandbox" not in lines


def test_a_raw_value_is_text_whatever_the_program_says() -> None:
    html = answered("HTTP/1.1 200 OK", "Content-Type: text/html", "Content-Length: 0")
    lines = told(html, TO_KV)
    assert b"Content-Type: text/plain; charset=utf-8" in lines
    assert b"Content-Type: text/html" not in lines


def test_a_raw_value_is_boxed_in_whatever_policy_comes_with_it() -> None:
    lines = told(answered("HTTP/1.1 200 OK", "Content-Security-Policy: script-src *"), TO_KV)
    assert b"Content-Security-Policy: sandbox" in lines
    assert b"Content-Security-Policy: script-src *" not in lines


def test_an_answer_without_a_body_announces_none() -> None:
    lines = told(answered("HTTP/1.1 204 No Content", "Transfer-Encoding: chunked"))
    assert b"Transfer-Encoding: chunked" not in lines


def test_hsts_is_ours_to_say() -> None:
    lines = told(answered("HTTP/1.1 200 OK", "Strict-Transport-Security: max-age=1"))
    assert not [line for line in lines if line.startswith(b"Strict")]
    assert b"S: x" in told(answered("HTTP/1.1 200 OK"), hsts=b"S: x\r\n")


def test_fields_for_the_hop_behind_do_not_reach_the_client() -> None:
    lines = told(
        answered("HTTP/1.1 200 OK", "Connection: x-hop, keep-alive", "Keep-Alive: 5", "X-Hop: 1")
    )
    assert not [line for line in lines if line.lower().startswith((b"keep-alive", b"x-hop"))]
