"""Contexts that follow their files: what is new is taken whole, or not at all."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop
from tests.harness.certified import CA, Leaf, material
from tests.harness.memory_tls import Connection, connect

from callboard.pki import certificates
from callboard.pki.contexts import Material, client_context
from callboard.pki.live import LiveContext, LiveIdentity
from callboard.pki.roles import names_for

SERVER = "server.dc1.consul"


class Pair:
    """A server whose identity is live, and a client with a certificate of its own."""

    def __init__(self, directory: Path) -> None:
        self.ca = CA()
        self.server, self.hub = self.ca.leaf(), self.ca.leaf(names_for("hub", "hub-1"))
        self.files = material(directory / "server", self.server, self.ca)
        self.live = LiveIdentity(self.files)
        self.listener = self.live.for_clients()
        self.caller = client_context(material(directory / "hub", self.hub, self.ca))

    def connect(
        self, caller: ssl.SSLContext | None = None, session: ssl.SSLSession | None = None
    ) -> Connection:
        """Connect the client, or another one, to the server."""
        return connect(self.listener, caller or self.caller, SERVER, session)

    def revoke(self, *leaves: Leaf) -> None:
        """Put leaves on the list that the server reads."""
        assert self.files.revoked is not None
        self.files.revoked.write_bytes(certificates.pem(self.ca.list(*leaves, number=2)))


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    """A server and a client."""
    return Pair(tmp_path)


def serial(made: Connection) -> int:
    shown = made.client.getpeercert()
    assert shown is not None
    return int(str(shown["serialNumber"]), 16)


def test_files_that_are_as_they_were_are_not_taken_again(pair: Pair) -> None:
    inside = pair.listener.current
    assert not pair.live.look()
    assert pair.listener.current is inside
    assert pair.live.generation == 0


def test_a_renewed_certificate_is_shown_to_the_next_connection(pair: Pair) -> None:
    stands = pair.connect()
    renewed = pair.ca.leaf(key=pair.server.key)
    pair.files.certificate.write_bytes(certificates.pem(renewed.certificate))
    assert pair.live.look()
    assert serial(pair.connect()) == renewed.certificate.serial_number
    stands.exchange()
    assert pair.live.generation == 1


def test_a_mismatched_pair_is_refused_and_the_old_one_stays(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    other = pair.ca.leaf()
    pair.files.certificate.write_bytes(certificates.pem(other.certificate))
    with caplog.at_level(logging.WARNING):
        assert not pair.live.look()
        assert not pair.live.look()
    assert len(caplog.records) == 1, "one line for one set of files"
    assert "the old ones stay" in caplog.text and "are no pair" in caplog.text
    assert serial(pair.connect()) == pair.server.certificate.serial_number
    pair.files.key.write_bytes(certificates.key_pem(other.key))
    assert pair.live.look()
    assert serial(pair.connect()) == other.certificate.serial_number


@pytest.mark.parametrize("body", [b"", b"rubbish", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
@pytest.mark.parametrize("which", ["certificate", "key", "authorities", "revoked"])
def test_rubbish_is_refused_and_the_old_files_stay(pair: Pair, which: str, body: bytes) -> None:
    getattr(pair.files, which).write_bytes(body)
    assert not pair.live.look()
    pair.connect()


@pytest.mark.parametrize("which", ["certificate", "key", "authorities", "revoked"])
def test_a_file_that_is_gone_is_told_and_the_old_ones_stay(
    pair: Pair, which: str, caplog: pytest.LogCaptureFixture
) -> None:
    path: Path = getattr(pair.files, which)
    body = path.read_bytes()
    path.unlink()
    with caplog.at_level(logging.WARNING):
        assert not pair.live.look()
        assert not pair.live.look()
    assert len(caplog.records) == 1, "one line for one set of files"
    assert str(path) in caplog.text
    pair.connect()
    path.write_bytes(body)
    assert pair.live.look()


def test_a_revoked_client_is_refused(pair: Pair) -> None:
    pair.connect()
    pair.revoke(pair.hub)
    assert pair.live.look()
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate revoked"):
        pair.connect()


def test_a_revoked_client_is_refused_with_its_old_session_too(pair: Pair) -> None:
    pair.caller.maximum_version = ssl.TLSVersion.TLSv1_2  # (1.3 resumes nothing here)
    first = pair.connect()  # kept: a connection that ends without a word takes its session along
    session = first.client.session
    assert pair.connect(session=session).client.session_reused, "or this test shows nothing"
    pair.revoke(pair.hub)
    assert pair.live.look()
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate revoked"):
        pair.connect(session=session)


def test_while_the_ca_changes_both_are_believed_and_then_the_new_one_alone(
    pair: Pair, tmp_path: Path
) -> None:
    following = CA("next CA")
    theirs = material(tmp_path / "next", following.leaf(names_for("hub", "hub-1")), following)
    new_caller = client_context(theirs)
    for file in (pair.files.authorities, pair.files.revoked):
        new_caller.load_verify_locations(file)
    old = certificates.pem(pair.ca.certificate), certificates.pem(pair.ca.list(number=2))
    new = certificates.pem(following.certificate), certificates.pem(following.list())
    assert pair.files.authorities is not None and pair.files.revoked is not None

    with pytest.raises(ssl.SSLCertVerificationError):
        pair.connect(new_caller)
    pair.files.authorities.write_bytes(old[0] + new[0])
    pair.files.revoked.write_bytes(old[1] + new[1])
    assert pair.live.look()
    pair.connect(new_caller)
    pair.connect()

    pair.files.authorities.write_bytes(new[0])
    pair.files.revoked.write_bytes(new[1])
    assert pair.live.look()
    with pytest.raises(ssl.SSLCertVerificationError):
        pair.connect()
    pair.connect(new_caller)


def test_a_client_follows_its_files_too(pair: Pair, tmp_path: Path) -> None:
    files = material(tmp_path / "caller", pair.hub, pair.ca)
    live = LiveIdentity(files)
    caller = live.for_servers()
    pair.connect(caller)
    other = CA("other CA")
    assert files.authorities is not None and files.revoked is not None
    files.authorities.write_bytes(certificates.pem(other.certificate))
    files.revoked.write_bytes(certificates.pem(other.list()))
    assert live.look()
    with pytest.raises(ssl.SSLCertVerificationError):
        pair.connect(caller)


def test_files_that_do_not_load_at_first_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        LiveIdentity(Material(tmp_path / "certificate.pem", tmp_path / "key.pem"))


@pytest.mark.parametrize("loop_of", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_event_loops_take_the_newest_files(
    pair: Pair, loop_of: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def scenario() -> None:
        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.readline())
            await writer.drain()

        server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=pair.listener)
        port = server.sockets[0].getsockname()[1]

        async def ask() -> bytes:
            async with asyncio.timeout(10):
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", port, ssl=pair.caller, server_hostname=SERVER
                )
                writer.write(b"hello\n")
                said = await reader.readline()
                writer.transport.abort()
                return said

        assert await ask() == b"hello\n"
        pair.revoke(pair.hub)
        assert pair.live.look()
        try:
            assert await ask() == b"", "a revoked client gets no answer"
        except (ssl.SSLError, ConnectionError):
            pass
        server.close()

    assert isinstance(pair.listener, LiveContext)
    with asyncio.Runner(loop_factory=loop_of) as runner:
        runner.run(scenario())
