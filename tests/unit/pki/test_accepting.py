"""Handshakes over real sockets: what fails is told to both ends, and what hangs is ended."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest
import uvloop
from tests.harness.certified import CA, material
from tests.harness.eventually import eventually

from callboard.pki import certificates, contexts
from callboard.pki.accepting import TlsListener
from callboard.pki.contexts import Material, client_context, server_context
from callboard.pki.reasons import explain
from callboard.pki.roles import names_for

SERVER = "server.dc1.consul"
LOOPS = {"stock": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(params=list(LOOPS))
def run(request: pytest.FixtureRequest) -> Iterator[Callable[..., None]]:
    """Run a coroutine on each kind of loop."""
    with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
        yield runner.run


class _Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)  # type: ignore[attr-defined]


@dataclass
class Listening:
    """A listener and what it said."""

    listener: TlsListener
    failures: list[str] = field(default_factory=list)


@pytest.fixture
def authority() -> CA:
    """The CA of both ends."""
    return CA()


@pytest.fixture
def files(authority: CA, tmp_path: Path) -> Material:
    """A server's files."""
    return material(tmp_path / "server", authority.leaf(), authority)


@asynccontextmanager
async def listening(files: Material, **settings: float) -> AsyncIterator[Listening]:
    made: list[str] = []
    context = server_context(files, client=ssl.CERT_REQUIRED)
    listener = TlsListener(
        _Echo,
        context,
        failed=lambda address, why: made.append(why),
        **settings,  # type: ignore[arg-type]
    )
    await listener.start("127.0.0.1", 0)
    try:
        yield Listening(listener, made)
    finally:
        await listener.stop()


def speak(port: int, context: ssl.SSLContext) -> bytes:
    """Blocking, as a plain SSLSocket: it shows alerts as OpenSSL gives them."""
    with (
        socket.create_connection(("127.0.0.1", port), 5) as raw,
        context.wrap_socket(raw, server_hostname=SERVER) as connection,
    ):
        connection.sendall(b"ping")
        return connection.recv(4)


def test_peer_with_a_certificate_is_served(run: Callable[..., None], files: Material) -> None:
    async def story() -> None:
        async with listening(files) as server:
            answer = await asyncio.to_thread(speak, server.listener.port, client_context(files))
            assert answer == b"ping"
            assert server.failures == []

    run(story())


def test_certificate_that_has_expired_resumes_no_session(
    run: Callable[..., None], files: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenSSL would take it: it judges certificates in full handshakes only."""
    context = client_context(files)
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # (1.3 resumes nothing here)

    with ExitStack() as kept:  # a connection that ends without a word takes its session along

        def visit(port: int, session: ssl.SSLSession | None) -> ssl.SSLSocket:
            raw = socket.create_connection(("127.0.0.1", port), 5)
            connection = context.wrap_socket(
                kept.enter_context(raw),
                server_hostname=SERVER,
                session=session,
                do_handshake_on_connect=False,
            )
            kept.enter_context(connection)
            connection.do_handshake()
            connection.sendall(b"ping")
            assert connection.recv(4) == b"ping"
            return connection

        async def story() -> None:
            async with listening(files) as server:
                port = server.listener.port
                first = await asyncio.to_thread(visit, port, None)
                second = await asyncio.to_thread(visit, port, first.session)
                assert second.session_reused, "or this test shows nothing"
                later = time.time() + certificates.LEAF_LIFE.total_seconds() + 60
                monkeypatch.setattr(contexts, "time", SimpleNamespace(time=lambda: later))
                with pytest.raises((OSError, AssertionError)):
                    await asyncio.to_thread(visit, port, first.session)
                expected = ["its certificate has expired since its session began"]
                await eventually(lambda: server.failures == expected)

        run(story())


@pytest.mark.parametrize("turn", range(5))
def test_peer_without_a_certificate_is_told_so_and_so_are_we(
    run: Callable[..., None], files: Material, turn: int
) -> None:
    async def story() -> None:
        context = ssl.create_default_context(cafile=str(files.authorities))
        async with listening(files) as server:
            with pytest.raises(ssl.SSLError) as caught:
                await asyncio.to_thread(speak, server.listener.port, context)
            assert explain(caught.value) == "it wants a certificate of us, and we showed none"
            await eventually(lambda: server.failures == ["it showed no certificate"])

    run(story())


def test_peer_of_another_ca_is_told_so_and_so_are_we(
    run: Callable[..., None], files: Material, tmp_path: Path
) -> None:
    stranger = CA("another CA")
    own = material(tmp_path / "stranger", stranger.leaf(), stranger)

    async def story() -> None:
        context = client_context(Material(own.certificate, own.key, files.authorities))
        async with listening(files) as server:
            with pytest.raises(ssl.SSLError) as caught:
                await asyncio.to_thread(speak, server.listener.port, context)
            assert explain(caught.value) == "it does not know the CA of our certificate"
            await eventually(lambda: len(server.failures) == 1)
            assert "unable to get local issuer certificate" in server.failures[0]

    run(story())


def test_revoked_peer_is_told_so_and_so_are_we(
    run: Callable[..., None], authority: CA, tmp_path: Path
) -> None:
    revoked = authority.leaf(names_for("agent", "agent-2"))
    files = material(tmp_path / "server", authority.leaf(), authority, revoked)
    own = material(tmp_path / "revoked", revoked, authority)

    async def story() -> None:
        async with listening(files) as server:
            with pytest.raises(ssl.SSLError) as caught:
                await asyncio.to_thread(speak, server.listener.port, client_context(own))
            assert explain(caught.value) == "our certificate was revoked"
            await eventually(
                lambda: server.failures == ["its certificate is not accepted: certificate revoked"]
            )

    run(story())


@pytest.mark.parametrize("said", [b"GET / HTTP/1.0\r\n\r\n", b"CBR1" + bytes(60), b"\x16\x03\x01"])
def test_plain_bytes_are_hung_up_on(run: Callable[..., None], files: Material, said: bytes) -> None:
    async def story() -> None:
        async with listening(files, timeout_s=0.3) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.listener.port)
            writer.write(said)
            async with asyncio.timeout(10):
                await reader.read()
            writer.close()
            await eventually(lambda: len(server.failures) == 1)

    run(story())


def test_silent_peers_end_by_the_time_limit_and_hold_nobody_up(
    run: Callable[..., None], files: Material
) -> None:
    async def story() -> None:
        async with listening(files, timeout_s=0.5) as server:
            port = server.listener.port
            silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(20)]
            assert await asyncio.to_thread(speak, port, client_context(files)) == b"ping"
            async with asyncio.timeout(10):
                assert await asyncio.gather(*(reader.read() for reader, _ in silent)) == [b""] * 20
            await eventually(lambda: len(server.failures) == 20)
            for _, writer in silent:
                writer.close()

    run(story())


def test_more_handshakes_than_allowed_end_the_oldest(
    run: Callable[..., None], files: Material
) -> None:
    async def story() -> None:
        async with listening(files, timeout_s=60.0, handshakes_max=3) as server:
            port = server.listener.port
            silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(4)]
            async with asyncio.timeout(10):
                assert await silent[0][0].read() == b""
            assert server.failures == ["too many handshakes at once"]
            assert await asyncio.to_thread(speak, port, client_context(files)) == b"ping"
            for _, writer in silent:
                writer.close()

    run(story())


def test_handshakes_that_come_all_at_once_are_no_more_than_allowed(
    run: Callable[..., None], files: Material
) -> None:
    async def story() -> None:
        async with listening(files, timeout_s=60.0, handshakes_max=3) as server:
            port = server.listener.port
            silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(50)]
            try:
                await eventually(lambda: len(server.failures) == 47)
                assert set(server.failures) == {"too many handshakes at once"}
                assert await asyncio.to_thread(speak, port, client_context(files)) == b"ping"
            finally:
                for one in silent:
                    one.close()

    run(story())
