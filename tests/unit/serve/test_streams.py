"""Streamed answers: chunks, high water, drain, cut, cancel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.harness.eventually import eventually
from tests.harness.raw_http import RawClient, connect, request_bytes

if TYPE_CHECKING:
    from tests.unit.serve.conftest import RecordingStream, Serve, Site


async def open_stream(site: Site, client: RawClient) -> RecordingStream:
    """Ask for the stream and wait until it has a connection."""
    await client.send(request_bytes("GET", "/stream"))
    await eventually(lambda: site.streams and site.streams[-1].connection)
    return site.streams[-1]


async def test_stream_is_sent_in_chunks_as_written(serve: Serve) -> None:
    async with serve() as site, connect(site.port) as client:
        stream = await open_stream(site, client)
        assert stream.connection is not None
        assert stream.connection.write(b"data: 1\n\n")
        head = await client.reader.readuntil(b"\r\n\r\n")
        assert b"Transfer-Encoding: chunked" in head and b"Cache-Control: no-store" in head
        assert await client.chunk() == b"data: 1\n\n"
        stream.connection.write(b"data: 2\n\n")
        assert await client.chunk() == b"data: 2\n\n"


async def test_closed_stream_ends_properly_and_the_connection_serves_on(serve: Serve) -> None:
    async with serve() as site, connect(site.port) as client:
        stream = await open_stream(site, client)
        assert stream.connection is not None
        stream.connection.write(b"all")
        stream.connection.close()
        assert (await client.answer()).body == b"all"
        assert (await client.request("GET", "/echo")).body == b"/echo"
    assert not stream.cancelled


async def test_http_1_0_stream_ends_with_the_connection(serve: Serve) -> None:
    async with serve() as site, connect(site.port) as client:
        await client.send(b"GET /stream HTTP/1.0\r\n\r\n")
        await eventually(lambda: site.streams and site.streams[-1].connection)
        connection = site.streams[-1].connection
        assert connection is not None
        connection.write(b"all")
        connection.close()
        assert (await client.closed()).endswith(b"\r\n\r\nall")


async def test_stream_is_cancelled_when_the_client_goes(serve: Serve) -> None:
    async with serve() as site:
        async with connect(site.port) as client:
            stream = await open_stream(site, client)
        await eventually(lambda: stream.cancelled, timeout_s=1.0)


async def test_stream_is_cancelled_when_the_server_stops(serve: Serve) -> None:
    async with serve() as site, connect(site.port) as client:
        stream = await open_stream(site, client)
        await site.server.stop(drain_s=0.5)
        assert stream.cancelled


async def test_write_says_when_the_client_is_behind_and_drain_when_it_has_caught_up(
    serve: Serve,
) -> None:
    async with serve() as site, connect(site.port) as client:
        stream = await open_stream(site, client)
        connection = stream.connection
        assert connection is not None
        written, drained = 0, []

        def fill() -> bool:
            nonlocal written
            written += 50_000
            return not connection.write(bytes(50_000))

        await eventually(fill, interval_s=0.001)
        connection.on_drain(lambda: drained.append(True))
        await client.reader.readuntil(b"\r\n\r\n")
        while written:
            written -= len(await client.chunk())
        await eventually(lambda: drained)
        assert not stream.cancelled


async def test_stream_far_above_high_water_is_cut(serve: Serve) -> None:
    async with serve() as site, connect(site.port) as client:
        stream = await open_stream(site, client)
        connection = stream.connection
        assert connection is not None

        def flood() -> bool:
            connection.write(bytes(1 << 20))
            return stream.cancelled

        await eventually(flood, interval_s=0.001)
        await eventually(lambda: site.server.connections == 0)


async def test_aborted_stream_ends_without_a_last_chunk(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve() as site, connect(site.port) as client:
        stream = await open_stream(site, client)
        assert stream.connection is not None
        stream.connection.write(b"half")
        await client.reader.readuntil(b"\r\n\r\n")
        assert await client.chunk() == b"half"
        stream.connection.abort()
        assert await client.closed() == b""


async def test_head_of_a_stream_has_no_body(serve: Serve) -> None:
    async with serve() as site, connect(site.port) as client:
        await client.send(request_bytes("HEAD", "/stream"))
        if site.server._fast_lane:
            assert (await client.answer(method="HEAD")).status == 200
            assert site.streams[0].cancelled
