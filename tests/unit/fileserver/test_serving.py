"""Answers over real TLS connections."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import ssl
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.harness.eventually import eventually
from tests.harness.static_server import Issuing, Raw, put, run_on_uvloop, serving

from callboard.fileserver.entries import IN_MEMORY_MAX
from callboard.fileserver.head import Head
from callboard.fileserver.limits import Limits
from callboard.fileserver.ports import ClientConnection, PeerInfo, Refusal, Relayed, Route

INDEX = {"index.html": b"<p>hello"}
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def test_a_file_comes_with_everything_that_belongs_to_it(tmp_path: Path) -> None:
    async with serving(tmp_path, INDEX) as server:
        reply = await server.get("/")
    assert (reply.status, reply.body) == (200, b"<p>hello")
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'self'" in reply.headers["content-security-policy"]
    assert reply.headers["referrer-policy"] == "no-referrer"
    assert reply.headers["accept-ranges"] == "bytes"
    assert reply.headers["etag"].startswith('"')
    assert reply.headers["last-modified"].endswith("GMT")
    sent = datetime.strptime(reply.headers["date"], "%a, %d %b %Y %H:%M:%S GMT")
    assert abs((datetime.now(UTC) - sent.replace(tzinfo=UTC)).total_seconds()) < 60
    assert "strict-transport-security" not in reply.headers
    assert "connection" not in reply.headers


async def test_head_is_get_without_the_body(tmp_path: Path) -> None:
    files = {"a.txt": b"x" * 100, "big": b"y" * 300_000}
    async with serving(tmp_path, files) as server:
        for path in ("/a.txt", "/big"):
            whole, bare = await server.get(path), await server.get(path, method="HEAD")
            assert {**bare.headers, "date": ""} == {**whole.headers, "date": ""}
            assert bare.body == b"" and bare.status == 200


@pytest.mark.parametrize("size", [0, 1, 16_000, 16_384, 16_385, 3_000_000, IN_MEMORY_MAX + 7])
async def test_bodies_of_all_sizes_come_whole(tmp_path: Path, size: int) -> None:
    body = (bytes(range(256)) * (size // 256 + 1))[:size]
    async with serving(tmp_path, {"f": body}) as server:
        reply = await server.get("/f")
        assert reply.body == body
        if size > 10:
            part = await server.get("/f", Range=f"bytes=5-{size - 2}")
            assert part.status == 206 and part.body == body[5 : size - 1]
            assert part.headers["content-range"] == f"bytes 5-{size - 2}/{size}"


async def test_conditions_are_answered(tmp_path: Path) -> None:
    async with serving(tmp_path, INDEX) as server:
        first = await server.get("/")
        tag, date = first.headers["etag"], first.headers["last-modified"]
        same = await server.get("/", If_None_Match=tag)
        assert (same.status, same.body) == (304, b"")
        assert same.headers["etag"] == tag
        assert "content-length" not in same.headers
        assert (await server.get("/", If_Modified_Since=date)).status == 304
        other = await server.get("/", If_Match='"x"')
        assert (other.status, other.body) == (412, b"")
        beyond = await server.get("/", Range="bytes=100-")
        assert (beyond.status, beyond.headers["content-range"]) == (416, "bytes */8")
        assert (await server.get("/", Range="bytes=0-1", If_Range='"x"')).body == b"<p>hello"


async def test_twins_are_sent_to_whoever_takes_them(tmp_path: Path) -> None:
    packed = gzip.compress(b"x" * 500)
    files = {"a.js": b"x" * 500, "a.js.gz": packed, "a.js.br": b"br", "b.js": b"y"}
    async with serving(tmp_path, files) as server:
        plain = await server.get("/a.js")
        zipped = await server.get("/a.js", Accept_Encoding="gzip")
        best = await server.get("/a.js", Accept_Encoding="gzip, deflate, br, zstd")
        none = await server.get("/a.js", Accept_Encoding="gzip;q=0, br;q=0.0")
        alone = await server.get("/b.js", Accept_Encoding="gzip, br")
    assert (zipped.body, zipped.headers["content-encoding"]) == (packed, "gzip")
    assert (best.body, best.headers["content-encoding"]) == (b"br", "br")
    assert plain.body == none.body == b"x" * 500
    assert {r.headers["vary"] for r in (plain, zipped, best, none)} == {"Accept-Encoding"}
    assert len({r.headers["etag"] for r in (plain, zipped, best)}) == 3
    assert "vary" not in alone.headers and "content-encoding" not in alone.headers


async def test_a_single_page_application_answers_paths_of_pages(tmp_path: Path) -> None:
    async with serving(tmp_path, {**INDEX, "a.js": b"x"}, spa=True) as server:
        assert (await server.get("/some/page")).body == b"<p>hello"
        assert (await server.get("/some/page", Accept="text/html,*/*;q=0.8")).status == 200
        assert (await server.get("/some/page", Accept="application/json")).status == 404
        assert (await server.get("/no.js")).status == 404
        assert (await server.get("/a.js")).body == b"x"


async def test_a_folder_is_listed_only_if_that_is_wanted(tmp_path: Path) -> None:
    async with serving(tmp_path, {"a/b.txt": b"x"}) as server:
        assert (await server.get("/a/")).status == 404
    async with serving(tmp_path, listings=True) as server:
        assert b"b.txt" in (await server.get("/a/")).body


async def test_a_folder_without_its_slash_is_moved_and_keeps_its_query(tmp_path: Path) -> None:
    async with serving(tmp_path, {"a b/index.html": b"x"}) as server:
        reply = await server.get("/a%20b?c=d")
        assert (reply.status, reply.headers["location"]) == (301, "/a%20b/?c=d")


async def test_other_methods_are_405(tmp_path: Path) -> None:
    async with serving(tmp_path, INDEX) as server:
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE", "QUERY"):
            reply = await server.get("/", method=method)
            assert (reply.status, reply.headers["allow"]) == (405, "GET, HEAD")


async def test_hsts_is_for_public_names_only(tmp_path: Path) -> None:
    issuing = Issuing(tmp_path)
    pairs = [issuing.pair("server", "localhost", "www.callboard.org", "printer")]
    async with serving(tmp_path, INDEX, issuing=issuing, pairs=pairs) as server:
        told = (await server.get("/", host="www.callboard.org")).headers
        assert told["strict-transport-security"] == "max-age=31536000"
        for host in ("localhost", "printer", "127.0.0.1", "[::1]", "a.localhost"):
            assert "strict-transport-security" not in (await server.get("/", host=host)).headers


async def test_a_foreign_host_is_403(tmp_path: Path) -> None:
    async with serving(tmp_path, INDEX, allowed_hosts=("door.example.com",)) as server:
        refused = await server.get("/", host="evil.com")
        assert refused.status == 403 and b"-allowed-host" in refused.body
        assert (await server.get("/", host="door.example.com")).status == 200


async def test_connections_are_kept_and_pipelined_requests_answered_in_order(
    tmp_path: Path,
) -> None:
    files = {"a": b"1" * 100_000, "b": b"2"}
    async with serving(tmp_path, files) as server:
        client = await server.connect()
        requests = [
            b"GET /%b HTTP/1.1\r\nHost: a.localhost\r\n\r\n" % name for name in (b"a", b"b")
        ]
        client.send(b"".join(requests * 20))
        bodies = [(await client.reply()).body for _ in range(40)]
        assert bodies == [files["a"], files["b"]] * 20
        client.close()


async def test_http_1_0_ends_unless_asked_to_go_on(tmp_path: Path) -> None:
    async with serving(tmp_path, INDEX) as server:
        answer = await server.exchange(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
        assert b"\r\nConnection: close\r\n" in answer
        client = await server.connect()
        client.send(b"GET / HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n")
        assert (await client.reply()).headers["connection"] == "keep-alive"
        client.send(GET)
        assert (await client.reply()).status == 200
        client.close()


def read_slowly(context: ssl.SSLContext, address: tuple[str, int], request: bytes) -> bytes:
    with (
        socket.create_connection(address, timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as sock,
    ):
        sock.sendall(request)
        got = b""
        while part := sock.recv(1024 if len(got) < 300_000 else 1 << 20):
            got += part
    return got


async def test_the_end_of_an_answer_is_not_lost_to_the_close(tmp_path: Path) -> None:
    """Nor to what the client sent and nobody reads any more."""
    body = b"x" * 5_000_000
    async with serving(tmp_path, {"f": body}) as server:
        request = b"GET /f HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" + GET
        got = await asyncio.to_thread(read_slowly, server.context(), server.address, request)
        assert got.endswith(body) and len(got) < len(body) + 1000


async def test_changes_in_the_folder_are_seen(tmp_path: Path) -> None:
    async with serving(tmp_path, INDEX) as server:
        old = await server.get("/")
        put(server.root / "index.html", b"new")
        await server.looked()
        new = await server.get("/", If_None_Match=old.headers["etag"])
        assert (new.status, new.body) == (200, b"new")


async def test_a_big_file_that_changes_under_way_is_never_mixed(tmp_path: Path) -> None:
    body = b"x" * (IN_MEMORY_MAX + 1)
    async with serving(tmp_path, {"f": body}) as server:
        (server.root / "f").write_bytes(b"y" * 10)
        reply = await server.get("/f")
        assert (reply.status, reply.headers["retry-after"]) == (503, "1")
        await eventually(lambda: server.server.looks)
        assert (await server.get("/f")).body == b"y" * 10


async def test_a_big_file_that_becomes_shorter_under_way_ends_the_connection(
    tmp_path: Path,
) -> None:
    body = b"x" * (IN_MEMORY_MAX * 2)
    async with serving(tmp_path, {"f": body}) as server:
        client = await server.connect(limit=1024)
        client.send(b"GET /f HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await client.reader.readuntil(b"\r\n\r\n")
        with (server.root / "f").open("r+b") as file:
            file.truncate(10)
        assert len(await client.rest()) < len(body)
        assert (await server.get("/nothing")).status == 404


async def test_the_access_log_has_a_line_for_each_request(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    async with serving(tmp_path, INDEX, access_log=log) as server:
        await server.get("/?secret=1")
        await server.get('/%22"x'.replace('"', "'"))
        await server.exchange(b"nonsense\r\n\r\n")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["method"], line["path"], line["status"]) for line in lines] == [
        ("GET", "/", 200), ("GET", "/%22'x", 404), ("", "", 400),
    ]  # fmt: skip
    first = lines[0]
    assert first["bytes"] == 8 and first["address"] == "127.0.0.1" and first["ms"] >= 0
    assert first["level"] == "info" and first["message"] == "request"
    assert datetime.fromisoformat(first["time"]).tzinfo is not None


async def test_a_stop_lets_answers_end_and_closes_idle_connections(tmp_path: Path) -> None:
    body = b"x" * 8_000_000
    async with serving(tmp_path, {"f": body, **INDEX}) as server:
        idle, busy = await server.connect(), await server.connect(limit=1024)
        idle.send(GET)
        assert (await idle.reply()).status == 200
        busy.send(b"GET /f HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await busy.reader.readuntil(b"\r\n\r\n")
        address = server.address
        stopping = asyncio.ensure_future(server.server.stop())
        assert await idle.rest() == b""
        with pytest.raises(OSError, match="111"):
            await asyncio.open_connection(*address)
        busy.send(GET)
        got = await busy.rest()
        assert got.startswith(body[:100]) and len(got) >= len(body)
        await stopping


async def test_a_stop_does_not_wait_for_ever(tmp_path: Path) -> None:
    limits = Limits(drain_s=0.1)
    log = tmp_path / "log"
    files = {"f": b"x" * 20_000_000}
    async with serving(tmp_path, files, limits=limits, access_log=log) as server:
        client = await server.connect(limit=1024)
        client.send(b"GET /f HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await client.reader.readuntil(b"\r\n\r\n")
        async with asyncio.timeout(10):
            await server.server.stop()
        assert not server.server.connections
    assert json.loads(log.read_text())["cut"] is True


class Echo:
    """A route that sends back what comes, until an empty line's worth of `quit`."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.peer: PeerInfo | None = None

    def route(self, head: Head, peer: PeerInfo) -> Route | Refusal | None:
        self.peer = peer
        if head.path == b"/no":
            return Refusal(429, "later", (("Retry-After", "7"),))
        return self if head.path == b"/echo" else None

    async def relay(self, connection: ClientConnection, head: Head, leftover: bytes) -> Relayed:
        data = leftover
        try:
            connection.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % head.content_length)
            left = head.content_length
            while left:
                data = data or await connection.read()
                if not data:
                    raise ConnectionResetError
                connection.write(data[:left])
                await connection.drain()
                data, left = data[left:], left - len(data[:left])
        finally:
            self.ended.set()
        return Relayed(data, 200, "echo")


async def post(client: Raw, body: bytes) -> None:
    client.send(b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body))
    client.send(body)


async def test_a_route_has_the_connection_until_it_gives_it_back(tmp_path: Path) -> None:
    router = Echo()
    log = tmp_path / "log"
    async with serving(tmp_path, INDEX, router=router, access_log=log) as server:
        client = await server.connect()
        for size in (0, 1, 100_000, 3_000_000):
            await post(client, b"z" * size)
            client.send(GET)
            assert (await client.reply()).body == b"z" * size
            assert (await client.reply()).body == b"<p>hello"
        client.send(b"GET /no HTTP/1.1\r\nHost: localhost\r\n\r\n")
        refused = await client.reply()
        assert (refused.status, refused.headers["retry-after"]) == (429, "7")
        client.close()
    assert router.peer is not None and router.peer.address == "127.0.0.1"
    first = json.loads(log.read_text().splitlines()[0])
    assert (first["upstream"], first["status"], first["path"]) == ("echo", 200, "/echo")


async def test_a_route_ends_when_its_client_has_gone(tmp_path: Path) -> None:
    router = Echo()
    async with serving(tmp_path, INDEX, router=router) as server:
        client = await server.connect()
        client.send(b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nabc")
        await client.reader.readuntil(b"abc")
        client.close()
        async with asyncio.timeout(10):
            await router.ended.wait()
        await eventually(lambda: not server.server.connections)


class Silent:
    """A route that begins a stream and then has nothing to say."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()

    def route(self, head: Head, peer: PeerInfo) -> Route | Refusal | None:
        return self if head.path == b"/silent" else None

    async def relay(self, connection: ClientConnection, head: Head, leftover: bytes) -> Relayed:
        connection.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.set()
        return Relayed(None, 200)


async def test_a_silent_stream_learns_that_its_client_has_closed_in_order(tmp_path: Path) -> None:
    router = Silent()
    async with serving(tmp_path, INDEX, router=router) as server:
        client = await server.connect()
        client.send(b"GET /silent HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await client.reader.readuntil(b"\r\n\r\n")
        assert not router.ended.is_set()
        client.writer.close()
        async with asyncio.timeout(10):
            await router.ended.wait()
        await eventually(lambda: not server.server.connections)


class Failing:
    """A route that begins an answer and then fails."""

    def route(self, head: Head, peer: PeerInfo) -> Route | Refusal | None:
        return self if head.path == b"/fail" else None

    async def relay(self, connection: ClientConnection, head: Head, leftover: bytes) -> Relayed:
        connection.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        raise ValueError("on purpose")


async def test_a_route_that_fails_ends_its_connection_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tmp_path, INDEX, router=Failing()) as server:
        answer = await server.exchange(b"GET /fail HTTP/1.1\r\nHost: localhost\r\n\r\n" + GET)
        assert answer.endswith(b"half")
        assert "on purpose" in caplog.text
        assert (await server.get("/")).status == 200


async def test_a_stream_of_a_certificate_ends_at_its_age(tmp_path: Path) -> None:
    """The certificate may have been revoked meanwhile. Without one a stream may stay."""
    router = Echo()
    issuing = Issuing(tmp_path)
    limits = Limits(age_s=0.3, linger_s=0.2)
    start = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nabc"
    async with serving(
        tmp_path, INDEX, router=router, issuing=issuing, client_ca=issuing.path, limits=limits
    ) as server:
        client = await server.connect(pair=issuing.pair("client"))
        client.send(start)
        assert (await client.rest()).endswith(b"abc")
        assert router.ended.is_set()
        assert server.server.failures["age"] == 1
        certificate = router.peer.certificate if router.peer else None
        assert certificate is not None and "localhost" in str(certificate["subjectAltName"])
    async with serving(tmp_path, INDEX, router=router, issuing=issuing, limits=limits) as server:
        client = await server.connect()
        client.send(start)
        await client.reader.readuntil(b"abc")
        old = server.server.now + 0.5
        await eventually(lambda: server.server.now > old)
        client.send(b"defghij")
        assert await client.reader.readexactly(7) == b"defghij"


async def test_a_host_is_judged_before_a_route_is(tmp_path: Path) -> None:
    router = Echo()
    async with serving(tmp_path, INDEX, router=router) as server:
        assert (await server.get("/echo", host="evil.com")).status == 403
        assert router.peer is None


# Without the slow reader's stop: uvloop's own client loses what came while it had paused.
SCENARIOS = [
    test_a_file_comes_with_everything_that_belongs_to_it,
    test_head_is_get_without_the_body,
    test_conditions_are_answered,
    test_twins_are_sent_to_whoever_takes_them,
    test_a_single_page_application_answers_paths_of_pages,
    test_a_folder_is_listed_only_if_that_is_wanted,
    test_a_folder_without_its_slash_is_moved_and_keeps_its_query,
    test_other_methods_are_405,
    test_hsts_is_for_public_names_only,
    test_a_foreign_host_is_403,
    test_connections_are_kept_and_pipelined_requests_answered_in_order,
    test_http_1_0_ends_unless_asked_to_go_on,
    test_the_end_of_an_answer_is_not_lost_to_the_close,
    test_changes_in_the_folder_are_seen,
    test_a_big_file_that_changes_under_way_is_never_mixed,
    test_a_big_file_that_becomes_shorter_under_way_ends_the_connection,
    test_the_access_log_has_a_line_for_each_request,
    test_a_stop_does_not_wait_for_ever,
    test_a_route_has_the_connection_until_it_gives_it_back,
    test_a_route_ends_when_its_client_has_gone,
    test_a_host_is_judged_before_a_route_is,
]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_same_on_the_loop_that_the_program_has(
    scenario: Callable[[Path], Awaitable[None]], tmp_path: Path
) -> None:
    run_on_uvloop(scenario(tmp_path))
