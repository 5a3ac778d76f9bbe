"""DNS over TLS as `dig +tls` and `openssl s_client` see it (RFC 7858, RFC 8310)."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.harness.capabilities import require
from tests.harness.certified import CA, material
from tests.harness.farm import article_farm

from callboard.dns.server import DnsServer
from callboard.dns.settings import DnsSettings
from callboard.pki.live import LiveIdentity
from callboard.pki.roles import names_for

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Front:
    """A name server with a certificate, and the CA of it."""

    port: int
    authority: Path

    async def run(self, program: str, *arguments: str) -> str:
        """Run a program and return what it said."""
        found = shutil.which(program)
        assert found is not None
        process = await asyncio.create_subprocess_exec(
            found,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await asyncio.wait_for(process.communicate(), 30)
        return output.decode()

    async def dig(self, *arguments: str) -> str:
        """Ask for web.service.consul over TLS."""
        where = ("@127.0.0.1", "-p", str(self.port), "+tls", "+tries=1", "+time=5")
        return await self.run("dig", *where, *arguments, "web.service.consul", "A")


@contextlib.asynccontextmanager
async def front(place: Path) -> AsyncIterator[Front]:
    authority = CA()
    leaf = authority.leaf(names_for("nameserver", "agent-1"))
    identity = LiveIdentity(material(place, leaf, authority))
    tls = identity.for_clients(client=ssl.CERT_NONE, alpn=("dot",))
    server = DnsServer(article_farm(), DnsSettings(), "127.0.0.1", 0, tls=tls, tls_port=0)
    await server.start()
    try:
        yield Front(server.tls_port, place / "ca.pem")
    finally:
        await server.stop()


@pytest.mark.parametrize("name", ["nameserver.service.consul", "agent-1", "localhost"])
async def test_dig_is_answered_by_whom_it_trusts(tmp_path: Path, name: str) -> None:
    require("dig")
    async with front(tmp_path) as one:
        said = await one.dig(f"+tls-ca={one.authority}", f"+tls-hostname={name}", "+short")
        assert sorted(said.split()) == ["10.0.0.1", "10.0.0.4"]


async def test_dig_refuses_a_name_that_the_certificate_has_not(tmp_path: Path) -> None:
    require("dig")
    async with front(tmp_path) as one:
        said = await one.dig(f"+tls-ca={one.authority}", "+tls-hostname=elsewhere.example")
        assert "hostname mismatch" in said
        assert "ANSWER SECTION" not in said


async def test_dig_keeps_a_connection_for_several_questions(tmp_path: Path) -> None:
    require("dig")
    async with front(tmp_path) as one:
        questions = ("+keepopen", "agent-1.node.consul", "A", "agent-2.node.consul", "A")
        said = await one.dig("+short", *questions)
        assert {"10.0.0.1", "10.0.0.2"} <= set(said.split())


async def test_openssl_sees_dot_tls_1_3_and_no_question_for_a_certificate(tmp_path: Path) -> None:
    require("openssl")
    async with front(tmp_path) as one:
        where = ("-connect", f"127.0.0.1:{one.port}", "-CAfile", str(one.authority))
        said = await one.run("openssl", "s_client", *where, "-alpn", "dot", "-x509_strict")
        assert "ALPN protocol: dot" in said
        assert "Verify return code: 0 (ok)" in said
        assert "TLSv1.3" in said
        assert "No client certificate CA names sent" in said
        old = await one.run("openssl", "s_client", *where, "-tls1_1")
        assert "Cipher is (NONE)" in old
