"""What an idle subscriber costs, in a process of its own on uvloop, and what others do not pay."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.harness.capabilities import require
from tests.harness.raw_http import request_bytes
from tests.unit.serve.test_tls_and_tools import self_signed

PROGRAM = Path(__file__).with_name("subscribers.py")
WARM = 200
"""Subscribers before the first look: what a program allocates once is not theirs."""

Connect = Callable[[], socket.socket]


def measure(connect: Connect, count: int, ends: contextlib.ExitStack) -> float:
    """Bytes that each of `count` more subscribers adds."""

    def subscribe(many: int) -> None:
        opened = []
        for _ in range(many):
            opened.append(ends.enter_context(connect()))
            opened[-1].sendall(request_bytes("GET", "/detach"))
        for one in opened:
            assert one.recv(4096).startswith(b"HTTP/1.1 200 OK\r\n")

    asking = ends.enter_context(connect())

    def size(subscribers: int) -> int:
        asking.sendall(request_bytes("GET", "/memory"))
        told = asking.recv(4096).rpartition(b"\r\n\r\n")[2].split()
        assert int(told[1]) == subscribers
        return int(told[0])

    subscribe(WARM)
    before = size(WARM)
    subscribe(count)
    return (size(WARM + count) - before) / count


@pytest.mark.parametrize("way", ["fast-lane", "framework"])
@pytest.mark.parametrize(("secure", "bytes_max"), [(False, 5_000), (True, 35_000)])
def test_idle_subscriber_costs_five_kilobytes_or_thirty_five_over_tls(
    way: str, secure: bool, bytes_max: int, tmp_path: Path
) -> None:
    require("linux")
    pem = self_signed(tmp_path)
    context = ssl.create_default_context(cafile=str(pem))
    with contextlib.ExitStack() as ends:
        arguments = [str(PROGRAM), way, *([str(pem)] if secure else [])]
        program = ends.enter_context(
            subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, text=True)
        )
        ends.callback(program.kill)
        assert program.stdout is not None
        port = int(program.stdout.readline())

        def connect() -> socket.socket:
            made = socket.create_connection(("127.0.0.1", port), timeout=10.0)
            return context.wrap_socket(made, server_hostname="localhost") if secure else made

        each = measure(connect, 600 if secure else 2_000, ends)
    assert each <= bytes_max


LARGE_ANSWERS = """
import asyncio, resource, ssl
from callboard.serve import Answer, Route, RouteTable, Server

async def main():
    table = RouteTable(Route(lambda request: Answer(200)))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    await Server(None, handlers=table, ssl_context=context).start()
    size = 1 << 20
    b"x" * (8 * size)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(100):
        b"x" * size
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

asyncio.run(main())
"""


def test_server_over_tls_leaves_large_answers_on_the_heap() -> None:
    require("linux")
    told = subprocess.run(
        [sys.executable, "-c", LARGE_ANSWERS], capture_output=True, text=True, check=True
    )
    assert int(told.stdout) < 1_000  # (mapped anew each time they would fault on 25,600 pages)
