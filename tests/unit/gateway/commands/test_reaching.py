"""Binding requests to the real media port, and to what is none."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest
from aioice import stun
from hypothesis import given
from hypothesis import strategies as st
from tests.harness.sockets import free_port

from callboard.gateway.commands.findings import Candidate, IceAnswer, Reach, parse_ice
from callboard.gateway.commands.reaching import binding_request, reach, reach_all, read_answer
from callboard.gateway.peer.transports import MediaTransports

HOST = "127.0.0.1"
ANSWER = IceAnswer("abcd", "0123456789abcdefghijkl", ())
TRANSPORTS = pytest.mark.parametrize("transport", ["udp", "tcp"])


@contextlib.asynccontextmanager
async def media_port() -> AsyncIterator[IceAnswer]:
    """A real one, and what a session at it says."""
    transports = MediaTransports(HOST, 0)
    await transports.start()
    peer = transports.peer()
    try:
        lines = "".join(f"\na={line}" for line in transports.candidates(loopback=True))
        yield parse_ice(f"a=ice-ufrag:{peer.ufrag}\na=ice-pwd:{peer.password}{lines}")
    finally:
        peer.close()
        await transports.stop()


async def test_the_media_port_answers_by_udp_and_tcp() -> None:
    async with media_port() as answer:
        found = await reach_all(answer)
    assert [(each.candidate.transport, each.reach) for each in found] == [
        ("udp", Reach.ANSWERED),
        ("tcp", Reach.ANSWERED),
    ]


@TRANSPORTS
async def test_a_gateway_that_does_not_know_the_session_is_a_stranger(transport: str) -> None:
    async with media_port() as answer:
        (candidate,) = (each for each in answer.candidates if each.transport == transport)
        found = await reach(candidate, IceAnswer(answer.ufrag, "not" + answer.password, ()))
    assert found.reach is Reach.STRANGER


@TRANSPORTS
async def test_a_port_that_nobody_has_refuses(transport: str) -> None:
    found = await reach(Candidate(transport, HOST, free_port()), ANSWER)
    assert found.reach is Reach.REFUSED


@pytest.mark.slow
async def test_a_port_that_says_nothing_is_silent() -> None:
    kinds = ((socket.SOCK_DGRAM, "udp"), (socket.SOCK_STREAM, "tcp"))
    with contextlib.ExitStack() as open:
        candidates = []
        for kind, transport in kinds:
            silent = open.enter_context(socket.socket(socket.AF_INET, kind))
            silent.bind((HOST, 0))
            if transport == "tcp":
                silent.listen()
            candidates.append(Candidate(transport, HOST, silent.getsockname()[1]))
        found = await reach_all(IceAnswer("abcd", "password", tuple(candidates)))
    assert [each.reach for each in found] == [Reach.SILENT, Reach.SILENT]
    assert all(2000 < each.took_ms < 20_000 for each in found)


async def _said(what: bytes) -> Reach:
    """What comes of a server that says this, and closes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(what)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, HOST, 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        return (await reach(Candidate("tcp", HOST, port), ANSWER)).reach


async def test_a_server_of_something_else_is_no_answer() -> None:
    assert await _said(b"") is Reach.SILENT
    assert await _said(b"SSH-2.0-x\r\n") is Reach.STRANGER  # 0x5353 is longer than any frame


def _answer(request: stun.Message, key: bytes | None) -> bytes:
    message = stun.Message(stun.Method.BINDING, stun.Class.RESPONSE, request.transaction_id)
    message.attributes["XOR-MAPPED-ADDRESS"] = (HOST, 9)
    if key is not None:
        message.add_message_integrity(key)
    return bytes(message)


def test_an_answer_is_proven_by_the_password() -> None:
    request = binding_request(ANSWER)
    for key, found in (
        (ANSWER.password.encode(), Reach.ANSWERED),
        (b"another", Reach.STRANGER),
        (None, Reach.STRANGER),
    ):
        assert read_answer(_answer(request, key), request, ANSWER) is found
    other = binding_request(ANSWER)
    assert read_answer(_answer(other, ANSWER.password.encode()), request, ANSWER) is None


@given(st.binary(max_size=200), st.data())
def test_no_datagram_is_an_error(data: bytes, draw: st.DataObject) -> None:
    request = binding_request(ANSWER)
    assert read_answer(data, request, ANSWER) is None
    damaged = bytearray(_answer(request, ANSWER.password.encode()))
    signed = len(damaged) - 8  # FINGERPRINT is behind it, and nobody's word
    at = draw.draw(st.integers(0, signed - 1))
    damaged[at] ^= draw.draw(st.integers(1, 255))
    assert read_answer(bytes(damaged), request, ANSWER) is not Reach.ANSWERED
