"""DNS over TLS (RFC 7858) by a program's identity: who is answered, and what bounds the rest."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import dns.message
import pytest
from tests.harness.certified import CA, material
from tests.harness.dnscase import query
from tests.harness.eventually import eventually
from tests.harness.farm import article_farm

from callboard.dns.server import DnsServer
from callboard.dns.settings import DnsSettings
from callboard.pki.live import LiveIdentity
from callboard.pki.roles import names_for

WEB = query("web.service.consul", "A")
CLIENTS = 100
"""More than may shake hands at once."""


@pytest.fixture
def authority() -> CA:
    """Whom resolvers trust."""
    return CA()


@pytest.fixture
def identity(authority: CA, tmp_path: Path) -> LiveIdentity:
    """The name server's."""
    leaf = authority.leaf(names_for("nameserver", "agent-1"))
    return LiveIdentity(material(tmp_path, leaf, authority))


def trusting(identity: LiveIdentity) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(identity.material.authorities))


@contextlib.asynccontextmanager
async def serving(identity: LiveIdentity) -> AsyncIterator[DnsServer]:
    tls = identity.for_clients(client=ssl.CERT_NONE, alpn=("dot",))
    server = DnsServer(article_farm(), DnsSettings(), "127.0.0.1", 0, tls=tls, tls_port=0)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def ask(server: DnsServer, context: ssl.SSLContext, name: str) -> dns.message.Message:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", server.tls_port, ssl=context, server_hostname=name
    )
    packet = WEB.to_wire()
    writer.write(len(packet).to_bytes(2, "big") + packet)
    length = int.from_bytes(await reader.readexactly(2), "big")
    answer = dns.message.from_wire(await reader.readexactly(length))
    writer.close()
    return answer


@pytest.mark.parametrize("name", ["nameserver.service.consul", "localhost", "127.0.0.1"])
async def test_resolver_needs_the_ca_and_no_certificate(identity: LiveIdentity, name: str) -> None:
    async with serving(identity) as server:
        assert (await ask(server, trusting(identity), name)).answer


@pytest.mark.parametrize("offered", [["dot"], ["h2", "dot"], ["h2"]])
async def test_alpn_of_a_resolver_is_answered_or_passed_over(
    identity: LiveIdentity, offered: list[str]
) -> None:
    context = trusting(identity)
    context.set_alpn_protocols(offered)
    async with serving(identity) as server:
        assert (await ask(server, context, "localhost")).answer


async def test_resolver_that_does_not_know_the_ca_goes(identity: LiveIdentity) -> None:
    async with serving(identity) as server:
        with pytest.raises(ssl.SSLCertVerificationError):
            await ask(server, ssl.create_default_context(), "localhost")
        await eventually(lambda: server.figures()["handshakes_failed"] == 1)


async def test_renewed_certificate_is_shown_to_the_next_resolver(
    identity: LiveIdentity, authority: CA, tmp_path: Path
) -> None:
    async with serving(identity) as server:
        assert (await ask(server, trusting(identity), "localhost")).answer
        renewed = authority.leaf(names_for("nameserver", "agent-2"))
        for path in renewed.write(tmp_path / "next"):
            path.replace(tmp_path / path.name)
        assert identity.look()
        assert (await ask(server, trusting(identity), "agent-2")).answer


async def test_silent_and_plain_clients_end_and_hold_nobody_up(identity: LiveIdentity) -> None:
    async with serving(identity) as server:
        held = [await asyncio.open_connection("127.0.0.1", server.tls_port) for _ in range(CLIENTS)]
        for _, writer in held[::2]:
            writer.write(WEB.to_wire())
        assert (await ask(server, trusting(identity), "localhost")).answer
        async with asyncio.timeout(30):
            for reader, writer in held:
                with contextlib.suppress(ConnectionResetError):
                    await reader.read()
                writer.close()
        assert server.figures()["handshakes_failed"] == CLIENTS
