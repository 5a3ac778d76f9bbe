"""HTTP checks of services that answer oddly: the status code decides, as with Consul."""

import asyncio
import contextlib
import gzip
import random
from collections.abc import AsyncIterator

import pytest
from tests.harness.eventually import eventually

from callboard.agent.checks.clock import MovableClock
from callboard.agent.checks.runner import CheckRunner
from callboard.catalog.definitions import CheckDefinition

ANSWERS = {
    "whole": (b"Content-Length: 5\r\n\r\nhello", "hello"),
    "until the end": (b"\r\nhello", "hello"),
    "cut short": (b"Content-Length: 50\r\n\r\nhello", "hello"),
    "zipped": (b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b"hello"), "hello"),
    "zipped, and long": (
        b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b"x" * 9999),
        "x" * 4096,
    ),
    "not zipped at all": (b"Content-Encoding: gzip\r\n\r\nhello", ""),
    "of a strange coding": (b"Content-Encoding: br\r\n\r\nhello", "hello"),
    "a long header": (b"X-Long: " + b"y" * 20_000 + b"\r\n\r\nhello", "hello"),
}


@contextlib.asynccontextmanager
async def serving(answer: bytes) -> AsyncIterator[str]:
    """A server that sends these bytes after its status line, and hangs up; yields its URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n" + answer)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


@pytest.mark.parametrize("kind", ANSWERS)
async def test_status_code_decides_whatever_the_body(kind: str) -> None:
    answer, text = ANSWERS[kind]
    found: list[tuple[str, str]] = []
    clock = MovableClock(asyncio.get_running_loop())
    runner = CheckRunner(
        clock=clock,
        rng=random.Random(1),
        observe=lambda check_id, status, output: found.append((status, output)),
        status=lambda check_id: "critical",
    )
    async with serving(answer) as url:
        runner.start("c", CheckDefinition(id="c", http=url, interval_s=10))
        clock.advance(10)
        await eventually(lambda: found)
    await runner.close()
    assert found == [("passing", f"HTTP GET {url}: 200 OK Output: {text}")]
