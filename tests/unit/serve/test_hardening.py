"""What hostile, broken and absent clients get: an error or a closed door; the server serves on."""

from __future__ import annotations

import asyncio
import errno
import gc
import socket
import struct
from typing import TYPE_CHECKING

import pytest
from tests.harness.eventually import eventually
from tests.harness.raw_http import connect, request_bytes

from callboard.serve import Limits

if TYPE_CHECKING:
    from tests.unit.serve.conftest import Serve

HOST = b"Host: localhost\r\n"


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"GET /echo\r\n\r\n", id="http-0.9"),
        pytest.param(b"GET /echo HTTP/3.1\r\n" + HOST + b"\r\n", id="version"),
        pytest.param(b"GET /echo HTTP/1.1\n" + HOST + b"\n\n", id="bare-lf"),
        pytest.param(b"GET /echo HTTP/1.1\r\nHost : localhost\r\n\r\n", id="space-before-colon"),
        pytest.param(b"GET /echo HTTP/1.1\r\nX: a\r\n folded\r\n\r\n", id="folded"),
        pytest.param(b"GET /echo HTTP/1.1\r\nX: a\0b\r\n\r\n", id="nul"),
        pytest.param(b"GET /a b HTTP/1.1\r\n" + HOST + b"\r\n", id="space-in-target"),
        pytest.param(b"GET /%zz HTTP/1.1\r\n" + HOST + b"\r\n", id="bad-escape"),
        pytest.param(b"GET /%ff HTTP/1.1\r\n" + HOST + b"\r\n", id="not-utf-8"),
        pytest.param(b"GET echo HTTP/1.1\r\n" + HOST + b"\r\n", id="relative"),
        pytest.param(b"GET /echo HTTP/1.1\r\n\r\n", id="no-host"),
        pytest.param(b"GET /echo HTTP/1.1\r\n" + HOST + HOST + b"\r\n", id="two-hosts"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", id="tls-hello"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="http-2"),
        pytest.param(b"\0" * 100, id="zeros"),
    ],
)
async def test_malformed_head_is_refused_and_the_connection_closed(
    serve: Serve, raw: bytes
) -> None:
    async with serve() as site:
        async with connect(site.port) as client:
            await client.send(raw)
            answer = await client.answer()
            assert answer.status in (400, 405, 505)
            assert answer.header("Connection") == "close"
            await client.closed(3.0)
        async with connect(site.port) as client:
            assert (await client.request("GET", "/echo")).status == 200
    assert len(site.requests) == 1


@pytest.mark.parametrize(
    "fields",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: 5\r\nContent-Length: 5\r\n",
        b"Content-Length: 5, 6\r\n",
        b"Content-Length: +5\r\n",
        b"Content-Length: -5\r\n",
        b"Content-Length: 0x5\r\n",
        b"Content-Length: 99999999999999999999999\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Transfer-Encoding: identity\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"Transfer-Encoding:\x0bchunked\r\n",
    ],
)
async def test_ambiguous_framing_is_refused_and_nothing_is_smuggled(
    serve: Serve, fields: bytes
) -> None:
    smuggled = request_bytes("GET", "/below/smuggled")
    async with serve() as site, connect(site.port) as client:
        await client.send(
            b"PUT /below/first HTTP/1.1\r\n" + HOST + fields + b"\r\n0\r\n\r\n" + smuggled
        )
        assert (await client.answer()).status in (400, 501)
        await client.closed(3.0)
    assert not site.requests


async def test_chunked_http_1_0_request_is_refused(serve: Serve) -> None:
    async with serve() as site, connect(site.port) as client:
        await client.send(b"PUT /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
        assert (await client.answer()).status == 400


@pytest.mark.parametrize("method", ["FROB", "get", "CONNECT"])
async def test_unknown_method_is_405(serve: Serve, method: str) -> None:
    async with serve() as site, connect(site.port) as client:
        await client.send(f"{method} /echo HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        answer = await client.answer()
        assert answer.status == 405
        assert answer.header("Allow") == "OPTIONS,GET,HEAD,POST,PUT,DELETE,PATCH"


async def test_head_above_the_limit_is_431(serve: Serve) -> None:
    async with serve() as site, connect(site.port) as client:
        await client.send(request_bytes("GET", "/echo", None, {"X-Long": "x" * 33_000}))
        assert (await client.answer()).status == 431


async def test_head_just_below_the_limit_is_served(serve: Serve) -> None:
    async with serve() as site, connect(site.port) as client:
        answer = await client.request("GET", "/echo", None, {"X-Long": "x" * 32_000})
        assert answer.status == 200


async def test_header_without_an_end_is_431(serve: Serve) -> None:
    async with serve() as site, connect(site.port) as client:
        await client.send(b"GET /echo HTTP/1.1\r\nX: ")
        client.writer.write(b"y" * 200_000)
        assert (await client.answer()).status == 431


async def test_endless_trailers_are_refused(serve: Serve) -> None:
    async with serve() as site, connect(site.port) as client:
        fields = {"Transfer-Encoding": "chunked"}
        await client.send(request_bytes("PUT", "/echo", None, fields) + b"0\r\n")
        client.writer.write(b"X-Trailer: aaaaaaaaaaaaaaaaaaaa\r\n" * 2_000)
        assert (await client.answer()).status == 431


async def test_chunked_body_above_the_limit_is_413_before_it_ends(serve: Serve) -> None:
    async with serve() as site, connect(site.port) as client:
        fields = {"Transfer-Encoding": "chunked"}
        await client.send(request_bytes("PUT", "/echo", None, fields))
        client.writer.write((b"10000\r\n" + bytes(0x10000) + b"\r\n") * 9)
        answer = await client.answer()
    assert answer.status == 413
    assert answer.text == "Request body too large, max size: 524288 bytes"
    assert not site.requests


async def test_announced_body_above_the_limit_is_413_at_once(serve: Serve) -> None:
    async with serve() as site, connect(site.port) as client:
        await client.send(request_bytes("PUT", "/echo", None, {"Content-Length": str(1 << 40)}))
        assert (await client.answer()).status == 413


async def test_slow_head_is_408(serve: Serve) -> None:
    async with serve(Limits(head_timeout_s=0.1)) as site, connect(site.port) as client:
        await client.send(b"GET /echo HTTP/1.1\r\nHost: loc")
        assert (await client.answer(timeout_s=3.0)).status == 408
        await client.closed(3.0)


async def test_dripping_head_is_408_all_the_same(serve: Serve) -> None:
    async with serve(Limits(head_timeout_s=0.2)) as site, connect(site.port) as client:
        answer = asyncio.ensure_future(client.answer())
        client.writer.write(b"GET /echo HTTP/1.1\r\n")
        while not answer.done():
            client.writer.write(b"X: y\r\n")
            await asyncio.sleep(0.02)
        assert (await answer).status == 408


async def test_slow_body_is_408(serve: Serve) -> None:
    async with serve(Limits(body_timeout_s=0.1)) as site, connect(site.port) as client:
        await client.send(request_bytes("PUT", "/echo", None, {"Content-Length": "10"}) + b"half")
        assert (await client.answer(timeout_s=3.0)).status == 408


async def test_bare_line_ends_do_not_keep_a_connection_open(serve: Serve) -> None:
    async with serve(Limits(idle_timeout_s=0.1)) as site, connect(site.port) as client:
        ended = asyncio.ensure_future(client.closed())
        while not ended.done():
            client.writer.write(b"\r\n")
            await asyncio.sleep(0.02)
        await ended


async def test_reader_that_stalls_is_cut(serve: Serve) -> None:
    limits = Limits(write_timeout_s=0.2)
    async with serve(limits) as site, connect(site.port) as client:
        await client.send(request_bytes("GET", "/large?size=30000000"))
        await eventually(lambda: site.server.connections == 1)
        await eventually(lambda: site.server.connections == 0)
        assert client is not None


async def test_slow_reader_that_reads_on_gets_everything(serve: Serve) -> None:
    async with serve(Limits(write_timeout_s=0.2)) as site, connect(site.port) as client:
        await client.send(request_bytes("GET", "/large?size=8000000"))
        await client.reader.readuntil(b"\r\n\r\n")
        left = 8_000_000
        while left:
            left -= len(await client.reader.read(min(left, 1 << 19)))
            await asyncio.sleep(0.03)


async def test_disconnect_frees_a_parked_request_within_a_second(serve: Serve) -> None:
    async with serve() as site:
        async with connect(site.port) as client:
            await client.send(request_bytes("GET", "/park"))
            await eventually(lambda: site.parked)
        await eventually(lambda: site.parked[0].cancelled, timeout_s=1.0)


async def test_reset_frees_a_parked_request_within_a_second(serve: Serve) -> None:
    async with serve() as site, connect(site.port) as client:
        await client.send(request_bytes("GET", "/park"))
        await eventually(lambda: site.parked)
        raw = client.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.writer.transport.abort()
        await eventually(lambda: site.parked[0].cancelled, timeout_s=1.0)


async def test_disconnect_is_seen_though_requests_are_pipelined_behind_a_parked_one(
    serve: Serve,
) -> None:
    async with serve() as site:
        async with connect(site.port) as client:
            await client.send(request_bytes("GET", "/park") + request_bytes("GET", "/echo") * 500)
            await eventually(lambda: site.parked)
        await eventually(lambda: site.parked[0].cancelled, timeout_s=1.0)


async def test_client_that_pipelines_without_end_behind_a_parked_request_is_cut(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve(Limits(pipeline_bytes_max=100_000)) as site, connect(site.port) as client:
        await client.send(request_bytes("GET", "/park"))
        await eventually(lambda: site.parked)
        client.writer.write(request_bytes("GET", "/echo") * 20_000)
        await eventually(lambda: site.parked[0].cancelled)
    assert "pipelined too far ahead" in caplog.text


async def test_client_that_pipelines_bodies_behind_a_parked_request_is_cut(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve() as site, connect(site.port) as client:
        await client.send(request_bytes("GET", "/park"))
        await eventually(lambda: site.parked)
        client.writer.write(request_bytes("PUT", "/echo", bytes(400_000)) * 10)
        await eventually(lambda: site.parked[0].cancelled)
    assert "pipelined too far ahead" in caplog.text


async def test_bodies_pipelined_behind_a_slow_request_are_all_answered(serve: Serve) -> None:
    async with serve() as site, connect(site.port) as client:
        body = bytes(400_000)
        await client.send(request_bytes("GET", "/slow"))
        client.writer.write(request_bytes("PUT", "/echo", body) * 10)
        await eventually(lambda: site.requests)
        site.gate.set()
        assert (await client.answer()).body == b"slow"
        for _ in range(10):
            assert (await client.answer()).body == body


async def test_connections_that_are_reset_at_once_do_not_count_for_ever(serve: Serve) -> None:
    async with serve(Limits(connections_per_client_max=2)) as site:
        for _ in range(8):
            with socket.create_connection(("127.0.0.1", site.port)) as raw:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        async def status() -> int:
            async with connect(site.port) as client:
                return (await client.request("GET", "/echo")).status

        asked = asyncio.get_running_loop().time()
        while await status() != 200:
            assert asyncio.get_running_loop().time() < asked + 5.0


async def test_parked_requests_cost_no_task(serve_fast: Serve) -> None:
    async with serve_fast() as site:
        before = len(asyncio.all_tasks())
        writers = []
        for _ in range(50):
            _, writer = await asyncio.open_connection("127.0.0.1", site.port)
            writer.write(request_bytes("GET", "/park"))
            writers.append(writer)
        await eventually(lambda: len(site.parked) == 50)
        assert len(asyncio.all_tasks()) <= before
        for writer in writers:
            writer.close()
            await writer.wait_closed()


async def test_connections_above_the_limit_wait_until_others_end(serve: Serve) -> None:
    async with (
        serve(Limits(connections_max=2)) as site,
        connect(site.port) as first,
        connect(site.port) as second,
    ):
        await first.request("GET", "/echo")
        await second.request("GET", "/echo")
        async with connect(site.port) as third:
            await third.send(request_bytes("GET", "/below/third"))
            first.writer.close()
            assert (await third.answer()).body == b"/below/third"


async def test_too_many_connections_of_one_client_are_429(serve: Serve) -> None:
    async with serve(Limits(connections_per_client_max=1)) as site:
        async with connect(site.port) as first:
            await first.request("GET", "/echo")
            async with connect(site.port) as second:
                assert (await second.answer()).status == 429
        await eventually(lambda: site.server.connections == 0)
        async with connect(site.port) as third:
            assert (await third.request("GET", "/echo")).status == 200


class Exhausted(socket.socket):
    """A listener whose first accepts find no file descriptor free (EMFILE)."""

    failures = 2

    def accept(self) -> tuple[socket.socket, object]:
        if self.failures:
            self.failures -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return super().accept()


async def test_server_out_of_file_descriptors_logs_backs_off_and_serves_on(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve(Limits(accept_backoff_s=0.05)) as site:
        listener = site.server._listeners[0]
        site.server._pause(listener)
        exhausted = Exhausted(listener.family, listener.type, 0, listener.detach())
        site.server._listeners[0] = exhausted
        site.server._resume(exhausted)
        async with connect(site.port) as client:
            assert (await client.request("GET", "/echo")).status == 200
    refusals = [r for r in caplog.records if r.message == "cannot accept connections"]
    assert len(refusals) == 2


async def test_stop_ends_parked_requests_and_waits_for_the_others(serve: Serve) -> None:
    async with serve() as site, connect(site.port) as parked, connect(site.port) as slow:
        await parked.send(request_bytes("GET", "/park"))
        await slow.send(request_bytes("GET", "/slow"))
        await eventually(lambda: site.parked and site.requests)
        stopping = asyncio.ensure_future(site.server.stop(drain_s=5.0))
        await parked.closed()
        await eventually(lambda: site.parked[0].cancelled)
        assert not stopping.done()
        site.gate.set()
        answer = await slow.answer()
        assert answer.body == b"slow" and answer.header("Connection") == "close"
        await stopping


async def test_stop_does_not_wait_beyond_its_deadline(serve: Serve) -> None:
    async with serve() as site, connect(site.port) as client:
        await client.send(request_bytes("GET", "/slow"))
        await eventually(lambda: site.requests)
        await asyncio.wait_for(site.server.stop(drain_s=0.05), 5.0)


async def test_connections_leave_nothing_behind(serve: Serve) -> None:
    async with serve() as site:
        for _ in range(20):
            async with connect(site.port) as client:
                await client.request("GET", "/echo")
        await eventually(lambda: site.server.connections == 0)
        gc.collect()
        core = site.server._core
        assert core is not None and not core.tasks
