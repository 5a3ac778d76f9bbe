"""The end of a connection over TLS: who takes the rest slowly gets it, who takes nothing is cut."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.harness.certified import CA, material
from tests.harness.eventually import eventually
from tests.harness.raw_http import request_bytes
from tests.unit.serve.conftest import starlette_app

from callboard.pki.accepting import SHUTDOWN_TIMEOUT_S
from callboard.pki.contexts import Material, client_context, server_context
from callboard.serve import Answer, Limits, Route, RouteTable, Server

BODY = bytes(24 << 20)
"""Much more than the kernel keeps for a connection."""
PART_BYTES = 16 << 10
PAUSE_S = 1.8 * SHUTDOWN_TIMEOUT_S / (len(BODY) / PART_BYTES)
ASKED = request_bytes("GET", "/", headers={"Connection": "close"})


@pytest.fixture
def files(tmp_path: Path) -> Material:
    """Of both ends."""
    authority = CA()
    return material(tmp_path / "server", authority.leaf(), authority)


@asynccontextmanager
async def serving(files: Material, body: bytes, limits: Limits) -> AsyncIterator[Server]:
    table = RouteTable(Route(lambda request: Answer(200, body)))
    context = server_context(files, client=ssl.CERT_REQUIRED)
    server = Server(starlette_app(table), handlers=table, ssl_context=context, limits=limits)
    await server.start()
    try:
        yield server
    finally:
        await server.stop(drain_s=1.0)


def asking(port: int, files: Material) -> ssl.SSLSocket:
    """Ask for the body, with little room for it here. Blocks."""
    raw = socket.socket()
    raw.settimeout(20.0)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
    raw.connect(("127.0.0.1", port))
    connection = client_context(files).wrap_socket(raw, server_hostname="server.dc1.consul")
    connection.sendall(ASKED)
    return connection


def slowly(port: int, files: Material) -> tuple[int, float]:
    """Take the answer in small parts: its bytes, and how long it took. Blocks."""
    size, begun = 0, time.monotonic()
    with asking(port, files) as connection:
        while part := connection.recv(PART_BYTES):
            size += len(part)
            time.sleep(PAUSE_S)
    return size, time.monotonic() - begun


async def test_reader_that_takes_the_last_answer_slowly_gets_all_of_it(files: Material) -> None:
    async with serving(files, BODY, Limits()) as server:
        size, took_s = await asyncio.to_thread(slowly, server.port, files)
        assert size > len(BODY)
        assert took_s > 1.5 * SHUTDOWN_TIMEOUT_S, "or this test shows nothing"
        await eventually(lambda: server.connections == 0)


@pytest.mark.parametrize("body", [b"taken at once", BODY], ids=["small", "large"])
async def test_reader_that_never_ends_its_connection_is_cut_by_the_write_timeout(
    files: Material, body: bytes
) -> None:
    async with serving(files, body, Limits(write_timeout_s=0.3)) as server:
        connection = await asyncio.to_thread(asking, server.port, files)
        with connection:
            await asyncio.to_thread(connection.recv, 1)
            await eventually(lambda: server.connections == 0, timeout_s=1.5)
