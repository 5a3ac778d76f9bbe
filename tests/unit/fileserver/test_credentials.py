"""Certificates: what cannot be served with, changes while serving, SNI, clients' certificates."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from tests.harness.eventually import SLOW, eventually
from tests.harness.static_server import Issuing, Serving, put, serving

from callboard.fileserver.credentials import Credentials, CredentialsError
from callboard.pki import certificates

FILES = {"index.html": b"hello"}
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


def refusal(*pair: Path, ca: Path | None = None, crl: Path | None = None) -> str:
    with pytest.raises(CredentialsError) as refused:
        Credentials([(pair[0], pair[1])], ca, crl)
    text = str(refused.value)
    assert "\n" not in text
    return text


def test_missing_files_name_the_command_that_makes_them(tmp_path: Path) -> None:
    certificate, key = Issuing(tmp_path).pair("server")
    nowhere = tmp_path / "nowhere.pem"
    for text in (refusal(nowhere, key), refusal(certificate, nowhere)):
        assert "nowhere.pem" in text
        assert "callboard tls cert create" in text and "make certs" in text


def test_a_mismatched_pair_is_told(tmp_path: Path) -> None:
    issuing = Issuing(tmp_path)
    certificate, key = issuing.pair("one")[0], issuing.pair("two")[1]
    assert refusal(certificate, key).endswith("are no pair: the key is another's")


def test_files_of_another_kind_are_told(tmp_path: Path) -> None:
    certificate, key = Issuing(tmp_path).pair("server")
    assert "is no certificate in PEM" in refusal(key, key)
    assert "is no private key in PEM" in refusal(certificate, certificate)
    assert "is no certificate in PEM" in refusal(put(tmp_path / "empty", b""), key)


def test_a_key_with_a_password_is_told_and_nobody_is_asked(tmp_path: Path) -> None:
    certificate, _ = Issuing(tmp_path).pair("server")
    locked = certificates.new_key().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"x"),
    )
    assert "has a passphrase" in refusal(certificate, put(tmp_path / "locked", locked))


def test_clients_files_that_are_none_are_told(tmp_path: Path) -> None:
    issuing = Issuing(tmp_path)
    certificate, key = issuing.pair("server")
    junk = put(tmp_path / "junk", b"junk")
    assert "junk" in refusal(certificate, key, ca=junk)
    assert "nowhere" in refusal(certificate, key, ca=tmp_path / "nowhere")
    assert "junk" in refusal(certificate, key, ca=issuing.path, crl=junk)


def served(server: Serving, name: str | None = "localhost") -> int:
    """The serial number of the certificate that a new connection gets."""
    context = ssl.create_default_context(cafile=str(server.issuing.path))
    context.check_hostname = False
    with (
        socket.create_connection(server.address, timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=name) as sock,
    ):
        der = sock.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der).serial_number


def serial(path: Path) -> int:
    return x509.load_pem_x509_certificate(path.read_bytes()).serial_number


async def test_a_renewed_certificate_is_taken_and_connections_go_on(tmp_path: Path) -> None:
    issuing = Issuing(tmp_path)
    pair = issuing.pair("server")
    async with serving(tmp_path, FILES, issuing=issuing, pairs=[pair]) as server:
        standing = await server.connect()
        standing.send(GET)
        assert (await standing.reply()).status == 200
        old = serial(pair[0])
        issuing.pair("server", "localhost", "new.callboard.org")
        await server.looked()
        assert await asyncio.to_thread(served, server) == serial(pair[0]) != old
        standing.send(GET)
        assert (await standing.reply()).status == 200
        assert (await server.get("/", host="new.callboard.org")).status == 200
        assert server.server.credentials.generation == 1


async def test_a_half_changed_pair_is_refused_and_the_old_one_stays(tmp_path: Path) -> None:
    issuing = Issuing(tmp_path)
    pair = issuing.pair("server")
    old = serial(pair[0])
    async with serving(tmp_path, FILES, issuing=issuing, pairs=[pair]) as server:
        before = pair[1].read_bytes()
        issuing.pair("server")
        after = pair[1].read_bytes()
        put(pair[1], before)
        await server.looked()
        assert await asyncio.to_thread(served, server) == old
        assert server.server.credentials.refusals == 1
        put(pair[1], after)
        await server.looked()
        assert await asyncio.to_thread(served, server) == serial(pair[0]) != old


async def test_a_certificate_that_is_gone_or_cut_off_does_not_end_the_service(
    tmp_path: Path,
) -> None:
    issuing = Issuing(tmp_path)
    pair = issuing.pair("server")
    old = serial(pair[0])
    async with serving(tmp_path, FILES, issuing=issuing, pairs=[pair]) as server:
        body = pair[0].read_bytes()
        for broken in (body[: len(body) // 2], b"", None):
            pair[0].unlink() if broken is None else put(pair[0], broken)
            await server.looked()
            assert await asyncio.to_thread(served, server) == old


async def test_certificates_are_told_apart_by_the_name_asked_for(tmp_path: Path) -> None:
    issuing = Issuing(tmp_path)
    first = issuing.pair("first", "localhost")
    second = issuing.pair("second", "www.callboard.org")
    wild = issuing.pair("wild", "*.stage.callboard.org")
    async with serving(tmp_path, FILES, issuing=issuing, pairs=[first, second, wild]) as server:
        for name, pair in (
            (None, first),
            ("localhost", first),
            ("www.callboard.org", second),
            ("WWW.Callboard.org", second),
            ("a.stage.callboard.org", wild),
            ("a.b.stage.callboard.org", first),
            ("elsewhere.org", first),
        ):
            assert await asyncio.to_thread(served, server, name) == serial(pair[0]), name
        assert (await server.get("/", host="www.callboard.org")).status == 200
        assert (await server.get("/", host="a.stage.callboard.org")).status == 200


def shaken(server: Serving, pair: tuple[Path, Path] | None, name: str = "localhost") -> str:
    """What a client with this certificate (or none) gets: the first line, or the TLS alert."""
    context = ssl.create_default_context(cafile=str(server.issuing.path))
    context.check_hostname = False
    if pair is not None:
        context.load_cert_chain(*pair)
    try:
        with (
            socket.create_connection(server.address, timeout=10) as plain,
            context.wrap_socket(plain, server_hostname=name) as sock,
        ):
            sock.sendall(GET)
            return sock.recv(15).decode()
    except ssl.SSLError as problem:
        return problem.reason or str(problem)


NOT_OURS = ("TLSV1_ALERT_UNKNOWN_CA", "SSLV3_ALERT_BAD_CERTIFICATE")
"""Alerts for a certificate of another CA."""


async def test_a_client_without_a_certificate_sees_the_alert_each_time(tmp_path: Path) -> None:
    issuing = Issuing(tmp_path)
    async with serving(tmp_path, FILES, issuing=issuing, client_ca=issuing.path) as server:
        for _ in range(50):
            seen = await asyncio.to_thread(shaken, server, None)
            assert seen == "TLSV13_ALERT_CERTIFICATE_REQUIRED"


async def test_a_certificate_of_another_ca_sees_the_alert(tmp_path: Path) -> None:
    issuing, other = Issuing(tmp_path / "a"), Issuing(tmp_path / "b")
    stranger = other.pair("stranger")
    async with serving(tmp_path, FILES, issuing=issuing, client_ca=issuing.path) as server:
        for _ in range(20):
            seen = await asyncio.to_thread(shaken, server, stranger)
            assert seen in NOT_OURS


async def test_sni_does_not_let_a_client_in_without_a_certificate(tmp_path: Path) -> None:
    issuing = Issuing(tmp_path)
    pairs = [issuing.pair("first"), issuing.pair("second", "www.callboard.org")]
    client = issuing.pair("client")
    async with serving(
        tmp_path, FILES, issuing=issuing, pairs=pairs, client_ca=issuing.path
    ) as server:
        for name in ("localhost", "www.callboard.org"):
            seen = await asyncio.to_thread(shaken, server, None, name)
            assert seen == "TLSV13_ALERT_CERTIFICATE_REQUIRED"
            assert await asyncio.to_thread(shaken, server, client, name) == "HTTP/1.1 200 OK"


class Visitor:
    """A client that resumes its first session, and keeps all connections: one that ends without a
    word takes its session along."""

    def __init__(
        self, server: Serving, pair: tuple[Path, Path], version: ssl.TLSVersion, kept: ExitStack
    ) -> None:
        self._address = server.address
        self._context = server.context(pair)
        self._context.maximum_version = version
        self._kept = kept
        self._session: ssl.SSLSession | None = None

    def _visit(self, *, resuming: bool) -> bool:
        plain = self._kept.enter_context(socket.create_connection(self._address, timeout=10))
        sock = self._kept.enter_context(
            self._context.wrap_socket(
                plain,
                server_hostname="localhost",
                session=self._session if resuming else None,
                do_handshake_on_connect=False,
            )
        )
        sock.do_handshake()
        sock.sendall(GET)
        assert sock.recv(15) == b"HTTP/1.1 200 OK"
        self._session = self._session or sock.session
        return bool(sock.session_reused)

    async def visit(self, *, resuming: bool = False) -> bool:
        """Ask for a file; whether a session was resumed. Raises OSError, or AssertionError when
        there is no answer."""
        return await asyncio.to_thread(self._visit, resuming=resuming)

    async def gets_in(self, *, resuming: bool = False) -> bool:
        """Whether it is answered at all."""
        try:
            await self.visit(resuming=resuming)
        except (OSError, AssertionError):
            return False
        return True


VERSIONS = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])


@VERSIONS
async def test_a_revoked_certificate_gets_in_no_more_not_even_by_a_resumed_session(
    tmp_path: Path, version: ssl.TLSVersion
) -> None:
    issuing = Issuing(tmp_path)
    client = issuing.pair("client")
    crl = issuing.revoke()
    with ExitStack() as kept:
        async with serving(
            tmp_path, FILES, issuing=issuing, client_ca=issuing.path, crl=crl
        ) as server:
            visitor = Visitor(server, client, version, kept)
            await visitor.visit()
            # 1.3 resumes nothing where certificates are asked for
            assert await visitor.visit(resuming=True) is (version is ssl.TLSVersion.TLSv1_2)
            issuing.revoke(client[0], number=2)
            await server.looked()
            for resuming in (True, False):
                with pytest.raises(ssl.SSLError, match="REVOKED"):
                    await visitor.visit(resuming=resuming)
            other = await asyncio.to_thread(shaken, server, issuing.pair("other"))
            assert other == "HTTP/1.1 200 OK"


@VERSIONS
async def test_an_expired_certificate_gets_in_no_more_not_even_by_a_resumed_session(
    tmp_path: Path, version: ssl.TLSVersion
) -> None:
    issuing = Issuing(tmp_path)
    life = timedelta(seconds=3 * SLOW)
    client = issuing.pair("client", life=life)
    ended = datetime.now(UTC) + life + timedelta(seconds=1)
    with ExitStack() as kept:
        async with serving(tmp_path, FILES, issuing=issuing, client_ca=issuing.path) as server:
            visitor = Visitor(server, client, version, kept)
            await visitor.visit()
            assert await visitor.visit(resuming=True) is (version is ssl.TLSVersion.TLSv1_2)
            await eventually(lambda: datetime.now(UTC) > ended, interval_s=0.1)
            assert not await visitor.gets_in()
            assert not await visitor.gets_in(resuming=True)
            by_session = server.server.failures["handshake_certificate_expired"]
            assert by_session == (1 if version is ssl.TLSVersion.TLSv1_2 else 0)


async def test_connections_that_stand_end_when_their_certificate_is_revoked(tmp_path: Path) -> None:
    issuing = Issuing(tmp_path)
    revoked, other = issuing.pair("client"), issuing.pair("other")
    crl = issuing.revoke()
    async with serving(tmp_path, FILES, issuing=issuing, client_ca=issuing.path, crl=crl) as server:
        clients = [await server.connect(pair=pair) for pair in (revoked, other)]
        for client in clients:
            client.send(GET)
            assert (await client.reply()).status == 200
        issuing.revoke(revoked[0], number=2)
        await server.looked()
        assert await clients[0].rest() == b""
        clients[1].send(GET)
        assert (await clients[1].reply()).status == 200
        assert server.server.failures["certificate"] == 1


async def test_a_ca_that_was_taken_out_lets_nobody_in(tmp_path: Path) -> None:
    issuing, other = Issuing(tmp_path / "a"), Issuing(tmp_path / "b")
    both = put(tmp_path / "both.pem", issuing.path.read_bytes() + other.path.read_bytes())
    visitor = other.pair("visitor")
    async with serving(tmp_path, FILES, issuing=issuing, client_ca=both) as server:
        assert await asyncio.to_thread(shaken, server, visitor) == "HTTP/1.1 200 OK"
        put(both, issuing.path.read_bytes())
        await server.looked()
        assert await asyncio.to_thread(shaken, server, visitor) in NOT_OURS


def test_days_left_are_those_of_the_first_to_end(tmp_path: Path) -> None:
    issuing = Issuing(tmp_path)
    pairs = [issuing.pair("long"), issuing.pair("short", life=timedelta(hours=6))]
    assert 0.2 < Credentials(pairs).days_left() < 0.26


def test_an_unreadable_key_is_told(tmp_path: Path) -> None:
    certificate, key = Issuing(tmp_path).pair("server")
    key.unlink()
    key.mkdir()
    assert "private key" in refusal(certificate, key)
    assert os.fspath(key) in refusal(certificate, key)
