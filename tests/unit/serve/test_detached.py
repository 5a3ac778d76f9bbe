"""Connections that belong to a sink: in the fast lane, behind a framework, and by plain ASGI."""

from __future__ import annotations

import asyncio
import fcntl
import gc
import socket
import ssl
import struct
import sys
import time
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from tests.harness.certified import CA, material
from tests.harness.eventually import eventually
from tests.harness.raw_http import RawClient, request_bytes
from tests.unit.serve.conftest import RecordingSink, Site, serving

from callboard.pki.contexts import client_context, server_context
from callboard.pki.roles import names_for
from callboard.serve import Limits
from callboard.serve.connection import Connection
from callboard.serve.core import TURN_S
from callboard.serve.detached import IGNORED_BYTES_MAX
from callboard.serve.wire import LAST_CHUNK, chunk

GET = request_bytes("GET", "/detach")
SIOCOUTQNSD = 0x894B
"""Bytes that were written and are not sent yet (linux/sockios.h)."""


@dataclass
class Ends:
    """Contexts of both ends; None: plain."""

    server: ssl.SSLContext | None = None
    client: ssl.SSLContext | None = None

    @asynccontextmanager
    async def connect(self, site: Site) -> AsyncIterator[RawClient]:
        """A client's connection."""
        name = "server.dc1.consul" if self.client is not None else None
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", site.port, ssl=self.client, server_hostname=name
        )
        try:
            yield RawClient(reader, writer)
        finally:
            writer.transport.abort()


@pytest.fixture(params=["plain", "tls"])
def ends(request: pytest.FixtureRequest, tmp_path: Path) -> Ends:
    """Plain, and TLS with certificates of both."""
    if request.param == "plain":
        return Ends()
    authority = CA()
    server = material(tmp_path / "agent", authority.leaf(), authority)
    client = material(tmp_path / "hub", authority.leaf(names_for("hub", "hub-1")), authority)
    return Ends(server_context(server, client=ssl.CERT_REQUIRED), client_context(client))


Start = Callable[..., AbstractAsyncContextManager[Site]]
WAYS: dict[str, Start] = {
    "fast-lane": partial(serving, fast_lane=True),
    "framework": partial(serving, fast_lane=False),
    "fallback": partial(serving, fast_lane=False, detach=False),
}


@pytest.fixture(params=WAYS)
def any_way(request: pytest.FixtureRequest, ends: Ends) -> Start:
    """`async with any_way(limits) as site`: however the connection comes to its sink."""
    way = WAYS[request.param]
    return lambda limits=None: way(limits, ssl_context=ends.server)


@pytest.fixture(params=WAYS)
def plain_way(request: pytest.FixtureRequest) -> Start:
    """However the connection comes to its sink, without TLS."""
    way = WAYS[request.param]
    return lambda limits=None: way(limits)


@pytest.fixture(params=["fast-lane", "framework"])
def plainly_detaching(request: pytest.FixtureRequest) -> Start:
    """Where the connection is really detached, without TLS."""
    way = WAYS[request.param]
    return lambda limits=None: way(limits)


@pytest.fixture(params=["fast-lane", "framework"])
def detaching(request: pytest.FixtureRequest, ends: Ends) -> Start:
    """The same where the connection is really detached."""
    way = WAYS[request.param]
    return lambda limits=None: way(limits, ssl_context=ends.server)


async def open_sink(site: Site, client: RawClient, request: bytes = GET) -> RecordingSink:
    """Send a request and wait until its sink has the connection."""
    before = len(site.sinks)
    await client.send(request)
    await eventually(lambda: len(site.sinks) > before and site.sinks[-1].connection)
    return site.sinks[-1]


async def last_of(client: RawClient) -> bytes:
    """What comes until the end of a chunked body."""
    return await asyncio.wait_for(client.reader.readuntil(LAST_CHUNK), 10.0)


async def head_of(client: RawClient) -> bytes:
    return await asyncio.wait_for(client.reader.readuntil(b"\r\n\r\n"), 10.0)


async def fill(sink: RecordingSink) -> int:
    """Write until the client is behind; how many chunks of 64 KiB."""
    count = 0

    def one_more() -> bool:
        nonlocal count
        count += 1
        sink.write(bytes(65_536))
        return "behind" in sink.told

    await eventually(one_more, interval_s=0.0)
    return count


# ---------------------------------------------------------------------- what a client gets


async def test_client_gets_the_head_and_then_what_the_sink_writes(
    any_way: Start, ends: Ends
) -> None:
    async with any_way() as site, ends.connect(site) as client:
        sink = await open_sink(site, client)
        head = await head_of(client)
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"Content-Type: text/event-stream\r\n" in head
        assert b"Cache-Control: no-store\r\n" in head
        assert b"Transfer-Encoding: chunked\r\n" in head
        assert b"Content-Length" not in head
        for number in range(3):
            sink.write(b"data: %d\n\n" % number)
            assert await client.chunk() == b"data: %d\n\n" % number
        sink.at.close(sink.framed(b"last"))
        assert await last_of(client) == chunk(b"last") + LAST_CHUNK
        await eventually(lambda: sink.told == ["start", "gone"])


async def test_connection_ends_with_its_stream(detaching: Start, ends: Ends) -> None:
    async with detaching() as site, ends.connect(site) as client:
        sink = await open_sink(site, client)
        assert b"Connection: close\r\n" in await head_of(client)
        sink.at.close(sink.framed(b"last"))
        assert await client.closed() == chunk(b"last") + LAST_CHUNK
        await eventually(lambda: site.server.connections == 0)


async def test_body_of_the_head_is_sent_first(any_way: Start, ends: Ends) -> None:
    async with any_way() as site, ends.connect(site) as client:
        sink = await open_sink(site, client, request_bytes("GET", "/detach?size=5"))
        sink.write(b"x")
        await head_of(client)
        assert await client.chunk() == bytes(5)
        assert await client.chunk() == b"x"


async def test_http_1_0_stream_is_not_chunked_and_ends_with_the_connection(
    any_way: Start, ends: Ends
) -> None:
    async with any_way() as site, ends.connect(site) as client:
        sink = await open_sink(site, client, b"GET /detach?size=3 HTTP/1.0\r\n\r\n")
        assert not sink.at.chunked
        sink.at.write(b"all")
        sink.at.close(b".")
        answer = await client.closed()
        assert b"Transfer-Encoding" not in answer
        assert answer.endswith(b"\r\n\r\n" + bytes(3) + b"all.")


@pytest.mark.parametrize(
    "request_", [request_bytes("HEAD", "/detach"), request_bytes("GET", "/detach?status=204")]
)
async def test_answer_without_a_body_has_no_stream_and_the_connection_serves_on(
    any_way: Start, ends: Ends, request_: bytes
) -> None:
    async with any_way() as site, ends.connect(site) as client:
        await client.send(request_)
        answer = await client.answer(method="HEAD")
        assert answer.status in (200, 204)
        assert answer.header("Cache-Control") == "no-store"
        assert site.sinks[0].told == ["gone"]
        assert (await client.request("GET", "/echo")).body == b"/echo"


async def test_answers_before_the_stream_come_first(any_way: Start, ends: Ends) -> None:
    async with any_way() as site, ends.connect(site) as client:
        asked = request_bytes("GET", "/slow") + request_bytes("GET", "/echo") + GET
        await client.send(asked)
        await eventually(lambda: site.requests)
        assert not site.sinks
        site.gate.set()
        assert (await client.answer()).body == b"slow"
        assert (await client.answer()).body == b"/echo"
        await eventually(lambda: site.sinks and site.sinks[-1].connection)
        await head_of(client)
        site.sinks[-1].at.close()
        assert await last_of(client) == LAST_CHUNK
        assert [request.path for request in site.requests] == ["/slow", "/echo"]


async def test_request_behind_a_stream_is_never_handled(detaching: Start, ends: Ends) -> None:
    async with detaching() as site, ends.connect(site) as client:
        sink = await open_sink(site, client, GET + request_bytes("GET", "/echo"))
        await client.send(request_bytes("GET", "/echo"))
        await head_of(client)
        sink.at.close()
        assert await client.closed() == LAST_CHUNK
        assert not site.requests


async def test_abort_cuts_the_body_short(any_way: Start, ends: Ends) -> None:
    async with any_way() as site, ends.connect(site) as client:
        sink = await open_sink(site, client)
        await head_of(client)
        sink.at.abort()
        assert await client.closed() == b""
        await eventually(lambda: sink.told == ["start", "gone"])


# ---------------------------------------------------------------------- what a sink is told


async def test_sink_is_told_when_the_client_is_behind_and_when_it_has_caught_up(
    any_way: Start, ends: Ends
) -> None:
    async with any_way() as site, ends.connect(site) as client:
        sink = await open_sink(site, client)
        count = await fill(sink)
        assert sink.told == ["start", "behind"]
        assert sink.at.waiting_bytes() > 65_536
        await head_of(client)
        for _ in range(count):
            assert len(await client.chunk()) == 65_536
        await eventually(lambda: sink.told == ["start", "behind", "drained"])
        await eventually(lambda: sink.at.waiting_bytes() == 0)


async def test_sink_learns_that_a_large_head_alone_has_filled_the_buffer(
    plainly_detaching: Start,
) -> None:
    async with plainly_detaching() as site, Ends().connect(site) as client:
        size = 64 << 20
        sink = await open_sink(site, client, request_bytes("GET", f"/detach?size={size}"))
        assert sink.told == ["start", "behind"]
        await head_of(client)
        assert len(await client.chunk()) == size
        await eventually(lambda: sink.told == ["start", "behind", "drained"])


async def test_sink_learns_that_the_client_has_gone(any_way: Start, ends: Ends) -> None:
    async with any_way() as site:
        async with ends.connect(site) as client:
            sink = await open_sink(site, client)
        await eventually(lambda: sink.told == ["start", "gone"])
        await eventually(lambda: site.server.connections == 0)
        assert not site.server._clients


async def test_client_that_was_not_read_from_before_its_stream_is_seen_to_go(
    detaching: Start, ends: Ends
) -> None:
    async with detaching() as site:
        async with ends.connect(site) as client:
            behind = request_bytes("GET", "/echo") * 2_000
            await client.send(request_bytes("GET", "/slow") + GET + behind)
            await eventually(lambda: site.requests)
            core = site.server._core
            assert core is not None
            (one,) = core.connections
            assert isinstance(one, Connection)
            await eventually(lambda: one._reading_paused)
            site.gate.set()
            await eventually(lambda: site.sinks and site.sinks[-1].connection)
        await eventually(lambda: site.sinks[-1].told == ["start", "gone"])


async def test_half_closed_client_of_a_stream_has_gone(plain_way: Start) -> None:
    async with plain_way() as site, Ends().connect(site) as client:
        sink = await open_sink(site, client)
        client.writer.write_eof()
        await eventually(lambda: sink.told == ["start", "gone"])


async def test_client_that_half_closed_before_its_stream_began_gets_none(
    plainly_detaching: Start,
) -> None:
    async with plainly_detaching() as site, Ends().connect(site) as client:
        await client.send(request_bytes("GET", "/slow") + GET)
        client.writer.write_eof()
        await eventually(lambda: site.requests)
        site.gate.set()
        answers = await client.closed()
        assert answers.count(b"HTTP/1.1 ") == 1
        await eventually(lambda: site.server.connections == 0)
        assert all(sink.told == ["gone"] for sink in site.sinks)


async def test_writing_to_a_client_that_has_reset_its_connection_is_no_error(
    any_way: Start, ends: Ends, caplog: pytest.LogCaptureFixture
) -> None:
    async with any_way() as site, ends.connect(site) as client:
        sink = await open_sink(site, client)
        await head_of(client)
        end = client.writer.get_extra_info("socket")
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.writer.transport.abort()

        def write() -> bool:
            if "gone" not in sink.told:
                sink.write(b"data: x\n\n")
            return "gone" in sink.told

        await eventually(write, interval_s=0.001)
        sink.at.close(b"late")
        sink.at.abort()
        assert sink.told.count("gone") == 1
        await eventually(lambda: site.server.connections == 0)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize("call", ["start", "behind", "drained"])
async def test_sink_that_fails_is_logged_and_cut_and_the_server_serves_on(
    any_way: Start, ends: Ends, call: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with any_way() as site, ends.connect(site) as client:
        site.next_sink = RecordingSink(fails=call)
        sink = await open_sink(site, client)
        if call in ("behind", "drained"):
            await fill(sink)
        await client.closed()
        await eventually(lambda: sink.told[-1] == "gone")
        async with ends.connect(site) as other:
            assert (await other.request("GET", "/echo")).status == 200
    assert "stream failed" in caplog.messages


async def test_sink_that_fails_when_its_client_has_gone_is_counted_off(
    any_way: Start, ends: Ends, caplog: pytest.LogCaptureFixture
) -> None:
    async with any_way() as site:
        async with ends.connect(site) as client:
            site.next_sink = RecordingSink(fails="gone")
            await open_sink(site, client)
        await eventually(lambda: site.server.connections == 0)
    assert "stream failed at its end" in caplog.messages


async def test_client_that_takes_little_is_seen_to_take_it(detaching: Start, ends: Ends) -> None:
    async with detaching() as site, ends.connect(site) as client:
        sink = await open_sink(site, client)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await fill(sink)
        end = client.writer.get_extra_info("socket").dup()
        end.setblocking(False)
        seen = [sink.at.acknowledged_bytes() or 0]

        def read() -> bool:
            end.recv(1 << 20)
            seen.append(sink.at.acknowledged_bytes() or 0)
            return seen[-1] > seen[0]

        await eventually(read)
        end.close()
        assert sink.told == ["start", "behind"]
        assert seen == sorted(seen)


# ---------------------------------------------------------------------- bounds and counts


async def test_client_may_send_little_behind_its_request_and_no_more(
    detaching: Start, ends: Ends
) -> None:
    async with detaching() as site, ends.connect(site) as client:
        sink = await open_sink(site, client)
        await client.send(bytes(IGNORED_BYTES_MAX))
        sink.write(b"still here")
        await head_of(client)
        assert await client.chunk() == b"still here"
        await client.send(b"x")
        await eventually(lambda: sink.told == ["start", "gone"])


async def test_closed_stream_whose_client_takes_nothing_more_is_cut(
    detaching: Start, ends: Ends
) -> None:
    async with detaching(Limits(write_timeout_s=0.2)) as site, ends.connect(site) as client:
        sink = await open_sink(site, client)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await fill(sink)
        sink.at.close()
        await eventually(lambda: sink.told[-1] == "gone")
        await eventually(lambda: site.server.connections == 0)


async def test_dead_client_is_left_to_the_kernel_to_find(detaching: Start, ends: Ends) -> None:
    async with detaching() as site, ends.connect(site) as client:
        sink = await open_sink(site, client)
        end = sink.at.transport.get_extra_info("socket")  # type: ignore[attr-defined]
        assert end.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert end.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 120_000
        assert end.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30


async def test_client_that_is_behind_is_left_to_the_sink(detaching: Start, ends: Ends) -> None:
    """The kernel would count a shut window as silence, also of one that gets on."""
    async with detaching() as site, ends.connect(site) as client:
        sink = await open_sink(site, client)
        end = sink.at.transport.get_extra_info("socket")  # type: ignore[attr-defined]
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        count = await fill(sink)
        assert end.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 0
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        await head_of(client)
        for _ in range(count):
            await client.chunk()
        await eventually(lambda: sink.told[-1] == "drained")
        assert end.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 120_000


async def test_the_kernel_takes_little_for_a_client_that_does_not_read(
    detaching: Start, ends: Ends
) -> None:
    async with detaching() as site, ends.connect(site) as client:
        sink = await open_sink(site, client)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await fill(sink)
        end = sink.at.transport.get_extra_info("socket")  # type: ignore[attr-defined]
        unsent = fcntl.ioctl(end.fileno(), SIOCOUTQNSD, bytes(4))
        assert int.from_bytes(unsent, sys.byteorder) <= 512 * 1024


async def test_detached_connections_count_for_the_limits_until_they_are_lost(
    any_way: Start, ends: Ends
) -> None:
    async with any_way(Limits(connections_max=2)) as site:
        async with ends.connect(site) as first, ends.connect(site) as second:
            await open_sink(site, first)
            await open_sink(site, second)
            assert site.server.connections == 2
            waiting = socket.create_connection(("127.0.0.1", site.port))
            assert site.server.connections == 2
        await eventually(lambda: [sink.told[-1] for sink in site.sinks] == ["gone", "gone"])
        waiting.close()
        async with ends.connect(site) as third:
            assert (await third.request("GET", "/echo")).status == 200


async def test_detached_connections_count_for_the_limit_of_their_client(
    any_way: Start, ends: Ends
) -> None:
    async with any_way(Limits(connections_per_client_max=1)) as site:
        async with ends.connect(site) as client:
            await open_sink(site, client)
            async with Ends().connect(site) as refused:
                assert b" 429 " in await refused.closed()
        await eventually(lambda: not site.server._clients)
        async with ends.connect(site) as client:
            await open_sink(site, client)


async def test_detached_connection_is_judged(any_way: Start, ends: Ends) -> None:
    async with any_way() as site, ends.connect(site) as client:
        sink = await open_sink(site, client)
        site.server.judge(lambda der: None)
        assert sink.told == ["start"]
        site.server.judge(lambda der: "revoked")
        if ends.server is not None:
            await eventually(lambda: sink.told == ["start", "gone"])
        assert site.server.cut == (ends.server is not None)


async def test_answer_is_observed_when_its_head_is_written(detaching: Start, ends: Ends) -> None:
    async with detaching() as site, ends.connect(site) as client:
        sink = await open_sink(site, client)
        assert site.observed == [("GET", "/detach", 200)]
        sink.at.close()
        await client.closed()
        assert len(site.observed) == 1


async def test_nothing_of_the_request_stays(detaching: Start, ends: Ends) -> None:
    async with detaching() as site, ends.connect(site) as client:
        core = site.server._core
        assert core is not None
        await eventually(lambda: core.connections)
        connection = weakref.ref(next(iter(core.connections)))
        gc.disable()
        try:
            await open_sink(site, client)
            await eventually(lambda: connection() is None)
        finally:
            gc.enable()
        await eventually(lambda: not core.tasks)
        assert [type(one).__name__ for one in core.connections] == ["DetachedConnection"]
        assert not site.server._state.connections
        assert len(core.wheel) == 0


# ---------------------------------------------------------------------- the server's stop


async def test_every_stream_says_good_bye_and_ends_properly_when_the_server_stops(
    plainly_detaching: Start,
) -> None:
    async with plainly_detaching() as site:
        opened = [await asyncio.open_connection("127.0.0.1", site.port) for _ in range(500)]
        for _, writer in opened:
            writer.write(GET)
        await eventually(lambda: sum(sink.connection is not None for sink in site.sinks) == 500)
        await site.server.stop(drain_s=10.0)
        for reader, writer in opened:
            assert (await reader.read()).endswith(chunk(b"bye") + LAST_CHUNK)
            writer.close()
        assert {tuple(sink.told) for sink in site.sinks} == {("start", "stopping", "gone")}


async def test_loop_turns_while_very_many_streams_are_told_to_end(
    plainly_detaching: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = 0

    def dawdle(sink: RecordingSink) -> None:
        sink.told.append(f"turn {turns}")
        until = time.monotonic() + TURN_S / 4
        while time.monotonic() < until:
            pass
        sink.at.close()

    async with plainly_detaching() as site:
        opened = [await asyncio.open_connection("127.0.0.1", site.port) for _ in range(50)]
        for _, writer in opened:
            writer.write(GET)
        await eventually(lambda: sum(sink.connection is not None for sink in site.sinks) == 50)
        monkeypatch.setattr(RecordingSink, "stopping", dawdle)
        stopping = asyncio.ensure_future(site.server.stop(drain_s=10.0))
        while not stopping.done():
            turns += 1
            await asyncio.sleep(0)
        told = Counter(sink.told[1] for sink in site.sinks)
        assert len(told) >= 10
        assert max(told.values()) <= 5
        for _, writer in opened:
            writer.close()


async def test_sink_that_fails_at_the_stop_is_logged_and_cut(
    detaching: Start, ends: Ends, caplog: pytest.LogCaptureFixture
) -> None:
    async with detaching() as site, ends.connect(site) as client:
        site.next_sink = RecordingSink(fails="stopping")
        sink = await open_sink(site, client)
        await site.server.stop(drain_s=1.0)
        await client.closed()
        assert sink.told == ["start", "stopping", "gone"]
    assert "stream failed" in caplog.messages


async def test_tls_stream_says_good_bye_when_the_server_stops(detaching: Start, ends: Ends) -> None:
    async with detaching() as site, ends.connect(site) as client:
        sink = await open_sink(site, client)
        ending = asyncio.ensure_future(client.closed())
        await site.server.stop(drain_s=5.0)
        assert (await ending).endswith(chunk(b"bye") + LAST_CHUNK)
        assert sink.told == ["start", "stopping", "gone"]


async def test_stream_that_does_not_end_is_cut_when_the_time_is_over(
    detaching: Start, ends: Ends
) -> None:
    async with detaching() as site, ends.connect(site) as client:
        site.next_sink = RecordingSink(good_bye=None)
        sink = await open_sink(site, client)
        await site.server.stop(drain_s=0.1)
        assert sink.told == ["start", "stopping", "gone"]
        assert LAST_CHUNK not in await client.closed()
