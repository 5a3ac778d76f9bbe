"""Requests and answers on one connection, in both lanes (RFC 9112)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from tests.harness.eventually import eventually
from tests.harness.raw_http import connect, request_bytes

from callboard.serve import Limits

if TYPE_CHECKING:
    from tests.unit.serve.conftest import Serve


async def test_answer_carries_length_date_and_headers_in_their_own_case(serve: Serve) -> None:
    async with serve() as site, connect(site.port) as client:
        answer = await client.request("GET", "/echo")
    names = [name for name, _ in answer.headers]
    assert answer.status == 200 and answer.body == b"/echo"
    assert {"Content-Length", "Date", "X-Seen-Method", "Content-Type"} <= set(names)


async def test_connection_serves_many_requests(serve: Serve) -> None:
    async with serve() as site, connect(site.port) as client:
        for number in range(20):
            answer = await client.request("GET", f"/below/{number}")
            assert answer.text == f"/below/{number}"


async def test_pipelined_requests_are_answered_in_order(serve: Serve) -> None:
    async with serve() as site, connect(site.port) as client:
        await client.send(b"".join(request_bytes("GET", f"/below/{n}") for n in range(300)))
        bodies = [(await client.answer()).text for _ in range(300)]
    assert bodies == [f"/below/{n}" for n in range(300)]


async def test_request_pipelined_behind_a_parked_one_waits_its_turn(serve: Serve) -> None:
    async with serve() as site, connect(site.port) as client:
        await client.send(request_bytes("GET", "/park") + request_bytes("GET", "/echo"))
        await eventually(lambda: site.parked)
        site.parked[0].release(b"first")
        assert (await client.answer()).body == b"first"
        assert (await client.answer()).body == b"/echo"


async def test_request_pipelined_behind_a_slow_one_waits_its_turn(serve: Serve) -> None:
    async with serve() as site, connect(site.port) as client:
        await client.send(request_bytes("GET", "/slow") + request_bytes("GET", "/echo"))
        await eventually(lambda: site.requests)
        site.gate.set()
        assert (await client.answer()).body == b"slow"
        assert (await client.answer()).body == b"/echo"


async def test_head_split_at_every_byte_is_one_request(serve: Serve) -> None:
    raw = request_bytes("PUT", "/below/a%20b?x=1&x=%2F", b"body", {"X-Two": "2"})
    async with serve() as site, connect(site.port) as client:
        for at in range(len(raw)):
            await client.send(raw[at : at + 1])
            await asyncio.sleep(0)
        answer = await client.answer()
    request = site.requests[0]
    assert answer.body == b"body"
    assert request.path == "/below/a b" and request.query == {"x": ["1", "/"]}
    assert request.headers["x-two"] == "2"


async def test_chunked_body_is_delivered_whole(serve: Serve) -> None:
    async with serve() as site, connect(site.port) as client:
        await client.send(
            request_bytes("PUT", "/echo", None, {"Transfer-Encoding": "chunked"})
            + b"3;ext=1\r\nabc\r\n"
        )
        await client.send(b"4\r\ndefg\r\n0\r\nHost: evil\r\nX-Trailer: 1\r\n\r\n")
        answer = await client.answer()
    assert answer.body == b"abcdefg"
    assert site.requests[0].headers["host"] == "localhost"
    assert "x-trailer" not in site.requests[0].headers


async def test_head_request_gets_the_length_but_no_body(serve: Serve) -> None:
    async with serve() as site, connect(site.port) as client:
        answer = await client.request("HEAD", "/echo")
        assert answer.header("Content-Length") == "5" and answer.body == b""
        assert (await client.request("GET", "/echo")).body == b"/echo"


async def test_expected_continue_is_sent_before_the_body_is_read(serve: Serve) -> None:
    async with serve() as site, connect(site.port) as client:
        fields = {"Expect": "100-continue", "Content-Length": "4"}
        await client.send(request_bytes("PUT", "/echo", None, fields))
        assert (await client.answer()).status == 100
        await client.send(b"body")
        assert (await client.answer()).body == b"body"


async def test_too_long_a_body_is_refused_without_a_continue(serve: Serve) -> None:
    async with serve() as site, connect(site.port) as client:
        fields = {"Expect": "100-continue", "Content-Length": str(512 * 1024 + 1)}
        await client.send(request_bytes("PUT", "/echo", None, fields))
        answer = await client.answer()
        assert answer.status == 413
        assert answer.text == "Request body(524289 bytes) too large, max size: 524288 bytes"
        await client.closed()


async def test_http_1_0_connection_is_closed_after_the_answer(serve: Serve) -> None:
    async with serve() as site, connect(site.port) as client:
        await client.send(b"GET /echo HTTP/1.0\r\n\r\n")
        answer = await client.answer()
        assert answer.body == b"/echo" and answer.header("Connection") == "close"
        assert await client.closed() == b""


async def test_http_1_0_keep_alive_is_honoured(serve: Serve) -> None:
    async with serve() as site, connect(site.port) as client:
        for _ in range(2):
            await client.send(b"GET /echo HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            assert (await client.answer()).header("Connection") == "keep-alive"


async def test_connection_close_is_honoured_and_later_requests_are_not(serve: Serve) -> None:
    async with serve() as site, connect(site.port) as client:
        first = request_bytes("GET", "/echo", None, {"Connection": "close"})
        await client.send(first + request_bytes("GET", "/echo"))
        assert (await client.answer()).header("Connection") == "close"
        assert await client.closed() == b""
    assert len(site.requests) == 1


async def test_absolute_target_is_served_and_gives_the_host(serve: Serve) -> None:
    async with serve() as site, connect(site.port) as client:
        await client.send(b"GET http://other:80/echo?a=b HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await client.answer()).body == b"/echo"
    assert site.requests[0].headers["host"] == "other:80"


async def test_half_closed_client_still_gets_its_answer(serve: Serve) -> None:
    async with serve() as site, connect(site.port) as client:
        await client.send(request_bytes("GET", "/slow"))
        client.writer.write_eof()
        await eventually(lambda: site.requests)
        site.gate.set()
        assert (await client.answer()).body == b"slow"
        assert await client.closed() == b""


async def test_failing_handler_is_a_500_and_the_server_serves_on(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve() as site, connect(site.port) as client:
        answer = await client.request("GET", "/broken")
        assert answer.status == 500 and answer.text == "internal server error"
    assert "handler failed" in caplog.text


async def test_line_break_in_a_header_value_does_not_make_a_header(serve: Serve) -> None:
    async with serve() as site, connect(site.port) as client:
        answer = await client.request("GET", "/header?value=a%0d%0aSet-Cookie:%20b")
    assert answer.header("Set-Cookie") is None


@pytest.mark.parametrize(
    "framing",
    ["Content-Length: 5\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"],
)
@pytest.mark.parametrize("segments", ["one", "head-then-body", "bytes"])
async def test_body_offered_with_an_h2c_upgrade_is_delivered(
    serve: Serve, framing: str, segments: str
) -> None:
    raw = (
        "PUT /echo HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\n"
        f"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n{framing}"
    ).encode()
    at = raw.index(b"\r\n\r\n") + 4
    pieces = {"one": [raw], "head-then-body": [raw[:at], raw[at:]]}.get(
        segments, [raw[n : n + 1] for n in range(len(raw))]
    )
    async with serve() as site, connect(site.port) as client:
        for _ in range(2):  # keep-alive
            for piece in pieces:
                await client.send(piece)
                await asyncio.sleep(0)
            assert (await client.answer()).body == b"hello"
        await client.send(raw + raw + request_bytes("GET", "/echo"))  # pipelined
        bodies = [(await client.answer()).body for _ in range(3)]
    assert bodies == [b"hello", b"hello", b"/echo"]


async def test_h2c_upgrade_without_a_body_is_ignored(serve: Serve) -> None:
    fields = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AA"}
    async with serve() as site, connect(site.port) as client:
        await client.send(request_bytes("GET", "/echo", None, fields) * 2)
        assert [(await client.answer()).body for _ in range(2)] == [b"/echo", b"/echo"]


async def test_idle_connection_is_closed_after_the_idle_timeout(serve: Serve) -> None:
    async with serve(Limits(idle_timeout_s=0.05)) as site, connect(site.port) as client:
        await client.request("GET", "/echo")
        assert await client.closed(2.0) == b""


def test_idle_connections_outlive_the_pools_of_clients() -> None:
    assert Limits().idle_timeout_s >= 120


async def test_header_that_is_not_ascii_goes_out_as_utf_8(serve: Serve) -> None:
    async with serve() as site, connect(site.port) as client:
        answer = await client.request("GET", "/header?value=%C3%A9%E2%9C%93")
    assert answer.header("X-Value") == "é✓"
