"""What strangers send: raw bytes over real TLS connections, and connections that hold on."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import struct
import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from tests.harness.eventually import SLOW, eventually
from tests.harness.static_server import QUICK, Issuing, Serving, put, run_on_uvloop, serving

from callboard.fileserver.connection import Connection
from callboard.fileserver.limits import Limits
from callboard.pki import certificates

SECRET = b"SECRET-CONTENT"
FILES = {
    "index.html": b"<p>public",
    "a/b.txt": b"public",
    ".git/config": SECRET,
    ".env": SECRET,
    "a/.hidden": SECRET,
    "server.key": SECRET,
    "a/id_rsa": SECRET,
    "backup.pem": SECRET,
    "store.p12": SECRET,
    "x.key.gz": SECRET,
}
OUTSIDE = "outside.txt"


async def attacked(server: Serving) -> None:
    """Put what must not come out around and into the root."""
    put(server.root.parent / OUTSIDE, SECRET)
    put(server.root.parent / "www-sibling/x.txt", SECRET)
    put(server.root / "notes.txt", certificates.key_pem(certificates.new_key()))
    (server.root / "out.txt").symlink_to(server.root.parent / OUTSIDE)
    (server.root / "outdir").symlink_to(server.root.parent)
    (server.root / "passwd").symlink_to("/etc/passwd")
    (server.root / "self").symlink_to(".")
    await server.looked()


TRAVERSALS = [
    "/../outside.txt",
    "/a/../../outside.txt",
    "/a/../index.html",
    "/./index.html",
    "/a/./b.txt",
    "/%2e%2e/outside.txt",
    "/%2E%2E/outside.txt",
    "/.%2e/outside.txt",
    "/..%2foutside.txt",
    "/..%2Foutside.txt",
    "/..%5coutside.txt",
    "/..\\outside.txt",
    "/%2e%2e%2foutside.txt",
    "/%2e%2e%5coutside.txt",
    "/%252e%252e/outside.txt",
    "/%252e%252e%252foutside.txt",
    "/..%c0%afoutside.txt",
    "/%c0%ae%c0%ae/outside.txt",
    "/%e0%80%ae%e0%80%ae/outside.txt",
    "/..%ef%bc%8foutside.txt",
    "/%uff0e%uff0e/outside.txt",
    "/..;/outside.txt",
    "/a/..;/..;/outside.txt",
    "/../www-sibling/x.txt",
    "/www-sibling/x.txt",
    "//outside.txt",
    "//etc/passwd",
    "///etc/passwd",
    "/%2fetc%2fpasswd",
    "/%2Fetc/passwd",
    "/etc/passwd",
    "/a//b.txt",
    "/a/b.txt/",
    "/a/b.txt/..",
    "/a/b.txt%00",
    "/a/b.txt%00.html",
    "/index.html%00.png",
    "/%00/etc/passwd",
    "/file:///etc/passwd",
    "/proc/self/environ",
    "/out.txt",
    "/outdir/outside.txt",
    "/outdir/",
    "/passwd",
    "/self/index.html",
    "/self/self/index.html",
    "/.git/config",
    "/.git/",
    "/%2egit/config",
    "/.env",
    "/a/.hidden",
    "/A/B.TXT",
    "/INDEX.HTML",
    "/index.htm",
    "/server.key",
    "/SERVER.KEY",
    "/server%2ekey",
    "/a/id_rsa",
    "/backup.pem",
    "/store.p12",
    "/x.key.gz",
    "/notes.txt",
    "/index.html::$DATA",
    "/index.html.",
    "/index.html%20",
    "/con",
    "/a/b.txt;jsessionid=1",
]


async def test_no_spelling_of_a_path_leads_out_or_to_what_is_hidden(tmp_path: Path) -> None:
    issuing = Issuing(tmp_path / "certificates")
    async with serving(tmp_path, FILES, issuing=issuing) as server:
        await attacked(server)
        client = await server.connect()
        for path in TRAVERSALS:
            client.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            reply = await client.reply()
            assert reply.status in (400, 404), path
            assert SECRET not in reply.body and b"PRIVATE" not in reply.body, path
            if reply.headers.get("connection") == "close":
                client = await server.connect()
        assert (await server.get("/a/b.txt")).body == b"public"


async def test_a_key_in_the_root_is_not_served_under_any_path(tmp_path: Path) -> None:
    root = tmp_path / "www"
    root.mkdir()
    issuing = Issuing(root)
    pair = issuing.pair("server")
    async with serving(tmp_path, FILES, issuing=issuing, pairs=[pair], listings=True) as server:
        (root / "copy.txt").write_bytes(pair[1].read_bytes())
        (root / "link.txt").symlink_to(pair[1].name)
        (root / "hard.txt").hardlink_to(pair[1])
        await server.looked()
        for name in (pair[1].name, pair[0].name, "copy.txt", "link.txt", "hard.txt"):
            assert (await server.get(f"/{name}")).status == 404, name
        assert b"key" not in (await server.get("/a/")).body


async def test_a_page_may_have_the_inode_that_a_key_had(tmp_path: Path) -> None:
    root = tmp_path / "www"
    root.mkdir()
    issuing = Issuing(root)
    pair = issuing.pair("server")
    async with serving(tmp_path, FILES, issuing=issuing, pairs=[pair]) as server:
        page = pair[1].rename(root / "page.html")
        issuing.pair("server")
        page.write_bytes(b"<p>page")
        (root / "hard.txt").hardlink_to(pair[1])
        await server.looked()
        assert (await server.get("/page.html")).body == b"<p>page"
        assert (await server.get("/hard.txt")).status == 404
        assert server.server.folder.hidden == {(pair[1].stat().st_dev, pair[1].stat().st_ino)}


async def test_a_path_of_a_browser_is_found_in_every_harmless_spelling(tmp_path: Path) -> None:
    async with serving(tmp_path, {"a b/é.txt": b"x", "c+d~.txt": b"y"}) as server:
        for path in (
            "/a%20b/%C3%A9.txt",
            "/%61%20b/%c3%a9.tx%74",
            "/a%20b/%C3%A9.txt?q#".strip("#"),
        ):
            assert (await server.get(path)).body == b"x"
        assert (await server.get("/c+d~.txt")).body == b"y"


HOST = b"Host: localhost\r\n"
CODED = b"Transfer-Encoding: chunked\r\n"
BODY = b"0\r\n\r\nGET /hidden HTTP/1.1\r\nHost: localhost\r\n\r\n"
SMUGGLED = {
    "length and coding": b"POST / HTTP/1.1\r\n%bContent-Length: 6\r\n" + CODED + b"\r\n",
    "coding and length": b"POST / HTTP/1.1\r\n%b" + CODED + b"Content-Length: 6\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\n%bContent-Length: 0\r\nContent-Length: 44\r\n\r\n",
    "two equal lengths": b"POST / HTTP/1.1\r\n%bContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
    "length list": b"POST / HTTP/1.1\r\n%bContent-Length: 5, 5\r\n\r\n",
    "signed length": b"POST / HTTP/1.1\r\n%bContent-Length: +5\r\n\r\n",
    "negative length": b"POST / HTTP/1.1\r\n%bContent-Length: -1\r\n\r\n",
    "hex length": b"POST / HTTP/1.1\r\n%bContent-Length: 0x5\r\n\r\n",
    "huge length": b"POST / HTTP/1.1\r\n%bContent-Length: 99999999999999999999\r\n\r\n",
    "space before colon": b"POST / HTTP/1.1\r\n%bContent-Length : 5\r\n\r\n",
    "space before coding's colon": b"POST / HTTP/1.1\r\n%bTransfer-Encoding : chunked\r\n\r\n",
    "folded coding": b"POST / HTTP/1.1\r\n%bTransfer-Encoding:\r\n chunked\r\n\r\n",
    "folded value": b"POST / HTTP/1.1\r\n%bX: a\r\n Content-Length: 5\r\n\r\n",
    "unknown coding": b"POST / HTTP/1.1\r\n%bTransfer-Encoding: xchunked\r\n\r\n",
    "coding twice": b"POST / HTTP/1.1\r\n%b" + CODED + b"Transfer-Encoding: x\r\n\r\n",
    "coding not last": b"POST / HTTP/1.1\r\n%bTransfer-Encoding: chunked, gzip\r\n\r\n",
    "coding in 1.0": b"POST / HTTP/1.0\r\n%bTransfer-Encoding: chunked\r\n\r\n",
    "vertical tab": b"POST / HTTP/1.1\r\n%bTransfer-Encoding:\x0bchunked\r\n\r\n",
    "NUL in a value": b"POST / HTTP/1.1\r\n%bX: a\0b\r\n\r\n",
    "CR in a value": b"POST / HTTP/1.1\r\n%bX: a\rContent-Length: 5\r\n\r\n",
    "bare LF": b"GET / HTTP/1.1\n%b\n",
    "bare LF in fields": b"GET / HTTP/1.1\r\n%bX: a\nContent-Length: 44\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\nX: a\r\n\r\n",
    "empty host": b"GET / HTTP/1.1\r\nHost:\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\n%bHost: evil.com\r\n\r\n",
    "two equal hosts": b"GET / HTTP/1.1\r\n%bhost: localhost\r\n\r\n",
    "host with a path": b"GET / HTTP/1.1\r\nHost: localhost/x\r\n\r\n",
    "host with a user": b"GET / HTTP/1.1\r\nHost: evil@localhost\r\n\r\n",
    "host of another target": b"GET https://evil.com/ HTTP/1.1\r\n%b\r\n",
    "no version": b"GET /\r\n%b\r\n",
    "another version": b"GET / HTTP/2.0\r\n%b\r\n",
    "two spaces": b"GET  / HTTP/1.1\r\n%b\r\n",
    "space at the line's end": b"GET / HTTP/1.1 \r\n%b\r\n",
    "space before the first field": b"GET / HTTP/1.1\r\n X: a\r\n%b\r\n",
    "body of a GET": b"GET / HTTP/1.1\r\n%bContent-Length: 44\r\n\r\n",
    "chunked GET": b"GET / HTTP/1.1\r\n%bTransfer-Encoding: chunked\r\n\r\n",
    "POST with a body": b"POST / HTTP/1.1\r\n%bContent-Length: 44\r\n\r\n",
    "CONNECT": b"CONNECT localhost:22 HTTP/1.1\r\n%bContent-Length: 1\r\n\r\n",
    "preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}


@pytest.mark.parametrize("pair", SMUGGLED)
async def test_a_request_with_two_meanings_is_refused_and_is_the_last(
    tmp_path: Path, pair: str
) -> None:
    first = SMUGGLED[pair]
    first = first.replace(b"%b", HOST)
    async with serving(tmp_path, FILES) as server:
        answer = await server.exchange(first + BODY)
        statuses = re.findall(rb"HTTP/1\.1 (\d+) ", answer)
        assert len(statuses) == 1, statuses
        assert statuses[0] in (b"400", b"405", b"501", b"505")
        assert b"Connection: close\r\n" in answer


async def test_ranges_cost_no_more_than_the_file(tmp_path: Path) -> None:
    body = b"x" * 50_000
    async with serving(tmp_path, {"f": body}) as server:
        for value in (
            "bytes=" + ",".join(["0-"] * 1300),
            "bytes=" + ",".join(f"{n}-{n + 1}" for n in range(1000)),
            "bytes=0-0,0-0",
        ):
            reply = await server.get("/f", Range=value)
            assert (reply.status, len(reply.body)) == (200, 50_000)
            assert "multipart" not in reply.headers["content-type"]
        for value in ("bytes=50000-", "bytes=-0", f"bytes={'9' * 40}-"):
            assert (await server.get("/f", Range=value)).status == 416
        for value in ("bytes=0-" + "9" * 100, "bytes=--1", "bytes=1-0", "x" * 1000):
            assert (await server.get("/f", Range=value)).status == 200
        twice = (
            b"GET /f HTTP/1.1\r\nHost: localhost\r\nRange: bytes=0-1\r\nRange: bytes=2-3\r\n\r\n"
        )
        assert b"HTTP/1.1 400 " in await server.exchange(twice)


async def pour(server: Serving, start: bytes, total: int) -> bytes:
    """Send `total` bytes behind `start`, or as many as are taken; what was answered."""
    client = await server.connect()
    client.send(start)
    chunk = b"a" * 65536
    reading = asyncio.ensure_future(client.rest())
    try:
        for _ in range(total // len(chunk)):
            client.send(chunk)
            await client.writer.drain()
    except (ConnectionError, ssl.SSLError):
        pass
    return await reading


@pytest.mark.parametrize(
    ("start", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ", b"431"),
        (b"GET /", b"414"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: a\r\n" * 5000, b"431"),
        (b"", b"414"),
    ],
)
async def test_a_flood_of_64_mb_in_a_head_costs_no_memory(
    tmp_path: Path, start: bytes, status: bytes
) -> None:
    async with serving(tmp_path, FILES) as server:
        await server.get("/")
        tracemalloc.start()
        try:
            answer = await pour(server, start, 64 << 20)
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        # the client may lose the answer to the reset of what it goes on sending
        assert answer == b"" or answer.startswith(b"HTTP/1.1 " + status)
        assert most < 16 << 20
        assert (await server.get("/")).status == 200


async def test_a_head_that_is_just_too_long_is_told_so(tmp_path: Path) -> None:
    async with serving(tmp_path, FILES) as server:
        head = b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 16384 + b"\r\n\r\n"
        assert (await server.exchange(head)).startswith(b"HTTP/1.1 431 ")
        many = b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: a\r\n" * 101 + b"\r\n"
        assert (await server.exchange(many)).startswith(b"HTTP/1.1 431 ")
        line = b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"
        assert (await server.exchange(line)).startswith(b"HTTP/1.1 414 ")


async def ended(reader: asyncio.StreamReader) -> bytes:
    """What comes until the server ends the connection."""
    async with asyncio.timeout(10 * SLOW):
        try:
            return await reader.read()
        except (ConnectionError, ssl.SSLError):
            return b""


async def test_a_client_that_never_begins_its_handshake_is_let_go(tmp_path: Path) -> None:
    async with serving(tmp_path, FILES, limits=QUICK) as server:
        reader, writer = await asyncio.open_connection(*server.address)
        assert await ended(reader) == b""
        assert server.server.failures["handshake_timeout"] == 1
        writer.close()


async def test_a_client_that_stops_within_its_hello_is_let_go(tmp_path: Path) -> None:
    async with serving(tmp_path, FILES, limits=QUICK) as server:
        reader, writer = await asyncio.open_connection(*server.address)
        writer.write(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 20)
        assert await ended(reader) == b""
        assert server.server.failures["handshake_timeout"] == 1
        writer.close()


async def test_stalled_handshakes_hold_nobody_up(tmp_path: Path) -> None:
    async with serving(tmp_path, FILES) as server:
        stalled = [await asyncio.open_connection(*server.address) for _ in range(50)]
        assert (await server.get("/")).status == 200
        for _, writer in stalled:
            writer.close()


async def test_a_client_that_says_nothing_after_its_handshake_is_let_go(tmp_path: Path) -> None:
    async with serving(tmp_path, FILES, limits=QUICK) as server:
        client = await server.connect()
        assert await client.rest() == b""
        assert server.server.failures["head_timeout"] == 1


async def test_a_head_that_comes_byte_by_byte_has_its_time_too(tmp_path: Path) -> None:
    async with serving(tmp_path, FILES, limits=QUICK) as server:
        client = await server.connect()
        reading = asyncio.ensure_future(client.rest())
        client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ")
        while not reading.done():
            client.send(b"a")
            await asyncio.sleep(0.05)
        assert await reading == b""
        assert server.server.failures["head_timeout"] == 1


async def test_the_time_of_a_second_head_begins_with_its_first_byte(tmp_path: Path) -> None:
    limits = Limits(head_s=0.3, idle_s=60, linger_s=0.3)
    async with serving(tmp_path, FILES, limits=limits) as server:
        client = await server.connect()
        client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await client.reply()
        client.send(b"GET")
        assert await client.rest() == b""
        assert server.server.failures["head_timeout"] == 1


async def test_an_idle_connection_is_closed_in_order(tmp_path: Path) -> None:
    async with serving(tmp_path, FILES, limits=QUICK) as server:
        client = await server.connect()
        client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await client.reply()
        assert await client.rest() == b""
        assert not server.server.failures


async def test_a_client_that_does_not_read_is_let_go_and_holds_nobody_up(tmp_path: Path) -> None:
    async with serving(tmp_path, {"f": b"x" * 30_000_000, **FILES}, limits=QUICK) as server:
        client = await server.connect(limit=1024)
        client.send(b"GET /f HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await server.get("/")).status == 200
        await eventually(lambda: server.server.failures["write_stall_timeout"] == 1)
        await eventually(lambda: not server.server.connections)


async def test_pipelining_without_reading_takes_no_more_than_a_head(tmp_path: Path) -> None:
    async with serving(tmp_path, {"f": b"x" * 8_000_000}) as server:
        client = await server.connect(limit=1024)
        client.send(b"GET /f HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2000)
        await client.reader.readuntil(b"\r\n\r\n")
        await eventually(lambda: any(one.queued for one in server.server.connections))
        assert sum(one.queued for one in server.server.connections) <= 8_000_000


async def test_what_follows_a_refused_request_is_read_away_also_behind_a_slow_answer(
    tmp_path: Path,
) -> None:
    limits = Limits(linger_s=3600)
    async with serving(tmp_path, {"f": b"x" * 8_000_000}, limits=limits) as server:
        client = await server.connect(limit=1024)
        first = b"GET /f HTTP/1.1\r\nHost: localhost\r\n\r\n"
        second = b"POST /f HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60000\r\n\r\n"
        client.send(first + second + b"a" * 60_000)  # some of it decrypted, and not read yet
        assert b"\r\n\r\nonly GET and HEAD" in await client.rest()
        client.close()
        await eventually(lambda: not server.server.connections)


async def test_an_old_connection_ends_after_its_answer(tmp_path: Path) -> None:
    limits = Limits(age_s=0.2, idle_s=60, linger_s=0.2)
    async with serving(tmp_path, FILES, limits=limits) as server:
        client = await server.connect()
        statuses = set()
        while True:
            client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            try:
                reply = await client.reply()
            except (asyncio.IncompleteReadError, ConnectionError):
                break  # it was idle when its time came
            statuses.add(reply.status)
            if reply.headers.get("connection") == "close":
                assert await client.rest() == b""
                break
            await asyncio.sleep(0.02)
        assert statuses == {200}


async def test_connections_beyond_the_cap_are_closed_at_once(tmp_path: Path) -> None:
    async with serving(tmp_path, FILES, limits=Limits(connections=3)) as server:
        held = [await asyncio.open_connection(*server.address) for _ in range(3)]
        await eventually(lambda: len(server.server.connections) == 3)
        reader, writer = await asyncio.open_connection(*server.address)
        assert await ended(reader) == b""
        assert server.server.failures["too_many"] == 1
        for one in (writer, *(each for _, each in held)):
            one.close()
        await eventually(lambda: not server.server.connections)
        assert (await server.get("/")).status == 200


async def test_one_address_cannot_take_all_connections(tmp_path: Path) -> None:
    limits = Limits(connections_per_address=2)
    async with serving(tmp_path, FILES, limits=limits) as server:
        held = [await asyncio.open_connection(*server.address) for _ in range(2)]
        await eventually(lambda: len(server.server.connections) == 2)
        reader, writer = await asyncio.open_connection(*server.address)
        assert await ended(reader) == b""
        _, other = await asyncio.open_connection(*server.address, local_addr=("127.0.0.2", 0))
        await eventually(lambda: len(server.server.connections) == 3)
        assert server.server.failures["too_many_of_address"] == 1
        for one in (writer, other, *(each for _, each in held)):
            one.close()
        await eventually(lambda: not server.server.connections)


async def test_resets_and_half_open_connections_leave_nothing_behind(tmp_path: Path) -> None:
    async with serving(tmp_path, FILES, limits=QUICK) as server:
        for data in (b"", b"\x16\x03", b"GET / HTTP/1.1\r\n\r\n"):
            sock = socket.create_connection(server.address)
            sock.sendall(data)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()
        await eventually(lambda: server.server.accepted >= 3)
        await eventually(lambda: not server.server.connections)
        assert not server.server._per_address


async def test_a_connection_that_cannot_be_ended_is_not_counted_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def expire(_: Connection) -> None:
        raise ValueError("on purpose")

    monkeypatch.setattr(Connection, "expire", expire)
    async with serving(tmp_path, FILES, limits=QUICK) as server:
        client = await server.connect()
        await eventually(lambda: server.server.accepted == 1 and not server.server.connections)
        assert not server.server._per_address
        monkeypatch.undo()
        await server.connect()
        client.close()
        await eventually(lambda: not server.server.connections)
        assert not server.server._per_address


async def test_plain_http_is_told_that_this_is_tls(tmp_path: Path) -> None:
    async with serving(tmp_path, FILES, limits=QUICK) as server:
        reader, writer = await asyncio.open_connection(*server.address)
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = await ended(reader)
        assert answer.startswith(b"HTTP/1.1 400 ") and answer.endswith(b"not http://\n")
        length = re.search(rb"Content-Length: (\d+)", answer)
        assert length is not None and int(length[1]) == len(answer.partition(b"\r\n\r\n")[2])
        writer.close()


@pytest.mark.parametrize(
    "junk", [b"\0" * 1000, b"\xff" * 1000, b"SSH-2.0-x\r\n", b"\x16\x03\x01\0\0"]
)
async def test_junk_instead_of_a_handshake_ends_the_connection(tmp_path: Path, junk: bytes) -> None:
    async with serving(tmp_path, FILES, limits=QUICK) as server:
        reader, writer = await asyncio.open_connection(*server.address)
        writer.write(junk)
        await ended(reader)
        await eventually(lambda: not server.server.connections)
        assert sum(server.server.failures.values()) == 1
        writer.close()


SCENARIOS = [
    test_no_spelling_of_a_path_leads_out_or_to_what_is_hidden,
    test_ranges_cost_no_more_than_the_file,
    test_a_head_that_is_just_too_long_is_told_so,
    test_a_client_that_never_begins_its_handshake_is_let_go,
    test_a_head_that_comes_byte_by_byte_has_its_time_too,
    test_an_idle_connection_is_closed_in_order,
    test_a_client_that_does_not_read_is_let_go_and_holds_nobody_up,
    test_connections_beyond_the_cap_are_closed_at_once,
    test_resets_and_half_open_connections_leave_nothing_behind,
    test_plain_http_is_told_that_this_is_tls,
]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_same_on_the_loop_that_the_program_has(
    scenario: Callable[[Path], Awaitable[None]], tmp_path: Path
) -> None:
    run_on_uvloop(scenario(tmp_path))
