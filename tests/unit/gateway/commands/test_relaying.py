"""Requests to what is no TURN server; real ones are in tests/conformance/turn."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aioice import stun
from tests.harness.certified import CA, material
from tests.harness.sockets import free_port

from callboard.gateway.commands.ice_findings import (
    ADDRESS_MISMATCH,
    UNKNOWN_CA,
    Fate,
    IceServer,
    Tried,
)
from callboard.gateway.commands.relaying import ask, ask_all, trusting
from callboard.pki.contexts import server_context
from callboard.pki.roles import Names

HOST = "127.0.0.1"
SHORTLY_S = 0.3
PATIENT_S = 10.0


def server(scheme: str, transport: str, port: int, host: str = HOST) -> IceServer:
    return IceServer(f"{scheme}:{host}", scheme, host, port, transport, "user", "password")


async def tried(asked: IceServer, within_s: float = PATIENT_S) -> Tried:
    return await ask(asked, trusting(), within_s)


@pytest.mark.parametrize(
    ("scheme", "transport"), [("turn", "udp"), ("turn", "tcp"), ("turns", "tcp"), ("stun", "udp")]
)
async def test_a_port_that_nobody_has_refuses(scheme: str, transport: str) -> None:
    assert (await tried(server(scheme, transport, free_port()))).fate is Fate.REFUSED


async def test_a_name_without_address_is_told() -> None:
    found = await tried(server("turn", "udp", 3478, "nowhere.invalid"))
    assert found.fate is Fate.UNRESOLVED and found.why


async def test_the_other_address_of_a_name_is_tried_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """localhost, of a server that listens by IPv4 alone."""
    async with stun_server() as port:

        async def both(*_: object, **__: object) -> list[tuple[object, ...]]:
            return [
                (family, socket.SOCK_DGRAM, 17, "", (host, port))
                for family, host in ((socket.AF_INET6, "::1"), (socket.AF_INET, HOST))
            ]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", both, raising=False)
        found = await tried(server("stun", "udp", port, "localhost"))
    assert found.fate is Fate.ANSWERED


@pytest.mark.slow
async def test_a_port_that_says_nothing_is_silent_by_udp_and_a_stranger_by_tcp() -> None:
    with contextlib.ExitStack() as open:
        ports = {}
        for kind, transport in ((socket.SOCK_DGRAM, "udp"), (socket.SOCK_STREAM, "tcp")):
            silent = open.enter_context(socket.socket(socket.AF_INET, kind))
            silent.bind((HOST, 0))
            if transport == "tcp":
                silent.listen()
            ports[transport] = silent.getsockname()[1]
        for scheme, transport, fate in (
            ("turn", "udp", Fate.SILENT),
            ("turn", "tcp", Fate.STRANGER),
            ("turns", "tcp", Fate.NO_TLS),
        ):
            found = await tried(server(scheme, transport, ports[transport]), SHORTLY_S)
            assert found.fate is fate, found


@contextlib.asynccontextmanager
async def saying(what: bytes) -> AsyncIterator[int]:
    """A server at TCP that says this, and closes; its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(what)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, HOST, 0) as made:
        yield made.sockets[0].getsockname()[1]


@pytest.mark.parametrize("what", [b"", b"SSH-2.0-x\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
async def test_a_server_of_something_else_is_told(what: bytes) -> None:
    async with saying(what) as port:
        assert (await tried(server("turn", "tcp", port))).fate is Fate.STRANGER
        assert (await tried(server("turns", "tcp", port))).fate is Fate.NO_TLS


async def test_certificates_are_judged_by_the_file_and_by_the_name_asked_for(
    tmp_path: Path,
) -> None:
    authority = CA(constraints=None)
    files = material(tmp_path, authority.leaf(Names(("localhost",), (), ())), authority)

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(serve, HOST, 0, ssl=server_context(files)) as made:
        port = made.sockets[0].getsockname()[1]
        trust = trusting(str(files.authorities))
        by_name, by_address = (server("turns", "tcp", port, host) for host in ("localhost", HOST))
        unknown = await ask(by_name, trusting(), PATIENT_S)
        another = await ask(by_address, trust, PATIENT_S)
        fitting = await ask(by_name, trust, PATIENT_S)
    assert unknown.fate is another.fate is Fate.UNTRUSTED
    assert unknown.code in UNKNOWN_CA and another.code == ADDRESS_MISMATCH
    assert fitting.fate is Fate.STRANGER  # (which is told after the handshake)


class _Answering(asyncio.DatagramProtocol):
    """Answers what `make` makes of a request."""

    transport: Any

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        request = stun.parse_message(data)
        self.transport.sendto(b"\x01\x01\x00\x04garbage", addr)
        answer = stun.Message(request.message_method, stun.Class.RESPONSE, request.transaction_id)
        if request.message_method is stun.Method.BINDING:
            answer.attributes["XOR-MAPPED-ADDRESS"] = addr
        else:
            answer.message_class = stun.Class.ERROR
            answer.attributes["ERROR-CODE"] = (486, "Allocation Quota Reached")
        self.transport.sendto(bytes(answer), addr)


@contextlib.asynccontextmanager
async def stun_server() -> AsyncIterator[int]:
    """It answers Bindings, has no allocation for anybody, and says garbage before; its port."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(_Answering, local_addr=(HOST, 0))
    try:
        yield transport.get_extra_info("sockname")[1]
    finally:
        transport.close()


async def test_bindings_and_errors_are_told() -> None:
    async with stun_server() as port:
        servers = [server("stun", "udp", port), server("turn", "udp", port), IceServer("nonsense")]
        bound, denied = await ask_all(servers, trusting())
    assert bound.fate is Fate.ANSWERED
    assert bound.address is not None and bound.address[0] == HOST
    assert (denied.fate, denied.code, denied.why) == (Fate.DENIED, 486, "Allocation Quota Reached")
