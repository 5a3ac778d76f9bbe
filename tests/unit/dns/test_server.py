"""The sockets: UDP, TCP (RFC 7766), TLS (RFC 7858), and what is forwarded."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import random
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import dns.message
import dns.rcode
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.harness.dnscase import lines, query
from tests.harness.eventually import eventually
from tests.harness.farm import Farm, article_farm

from callboard.dns import tcp as tcp_module
from callboard.dns.responder import Condition
from callboard.dns.server import DnsServer, Forwarder, is_private
from callboard.dns.settings import DnsSettings
from callboard.dns.tcp import TcpListener


@contextlib.asynccontextmanager
async def serving(
    farm: Farm | None = None,
    *,
    forwarder: Forwarder | None = None,
    age: list[float] | None = None,
) -> AsyncIterator[DnsServer]:
    ages = age if age is not None else [0.0]
    server = DnsServer(
        farm or article_farm(),
        DnsSettings(max_stale_s=60.0),
        "127.0.0.1",
        0,
        forwarder=forwarder,
        age_s=lambda: ages[0],
        rng=random.Random(5),
    )
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def over_udp(server: DnsServer, packet: bytes, timeout_s: float = 5.0) -> bytes:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect(("127.0.0.1", server.udp_port))
        await loop.sock_sendall(sock, packet)
        async with asyncio.timeout(timeout_s):
            return await loop.sock_recv(sock, 65535)


def framed(*packets: bytes) -> bytes:
    return b"".join(len(packet).to_bytes(2, "big") + packet for packet in packets)


async def read_message(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(5):
        length = int.from_bytes(await reader.readexactly(2), "big")
        return await reader.readexactly(length)


@contextlib.asynccontextmanager
async def connected(
    server: DnsServer,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.tcp_port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


WEB = query("web.service.consul", "A")


async def test_udp_is_answered() -> None:
    async with serving() as server:
        reply = dns.message.from_wire(await over_udp(server, WEB.to_wire()))
        assert len(lines(reply.answer)) == 2


async def test_udp_and_tcp_have_one_number() -> None:
    async with serving() as server:
        assert server.udp_port == server.tcp_port


async def test_garbage_does_not_stop_the_listener() -> None:
    async with serving() as server:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for size in (0, 1, 11, 12, 4096, 9000):
                sock.sendto(b"\xff" * size, ("127.0.0.1", server.udp_port))
        assert await over_udp(server, WEB.to_wire())


async def test_answer_to_a_socket_that_is_gone_does_not_stop_the_listener() -> None:
    async with serving() as server:
        for _ in range(3):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.sendto(WEB.to_wire(), ("127.0.0.1", server.udp_port))
        assert await over_udp(server, WEB.to_wire())


async def test_pipelined_queries_are_all_answered() -> None:
    packets = [query("web.service.consul", "A").to_wire() for _ in range(300)]
    async with serving() as server, connected(server) as (reader, writer):
        writer.write(framed(*packets))
        answers = [await read_message(reader) for _ in packets]
        assert [a[:2] for a in answers] == [p[:2] for p in packets]


async def test_query_split_at_every_octet_is_answered() -> None:
    async with serving() as server, connected(server) as (reader, writer):
        for octet in framed(WEB.to_wire()):
            writer.write(bytes((octet,)))
            await writer.drain()
            await asyncio.sleep(0)
        assert (await read_message(reader))[:2] == WEB.to_wire()[:2]


async def test_length_of_zero_closes() -> None:
    async with serving() as server, connected(server) as (reader, writer):
        writer.write(b"\0\0")
        async with asyncio.timeout(5):
            assert await reader.read() == b""


async def test_client_that_shut_its_side_gets_its_answers_and_the_end() -> None:
    async with serving() as server, connected(server) as (reader, writer):
        writer.write(framed(WEB.to_wire(), WEB.to_wire()))
        writer.write_eof()
        async with asyncio.timeout(5):
            data = await reader.read()
        assert data.count(WEB.to_wire()[12:]) == 2


async def test_malformed_message_is_answered_and_the_connection_stays() -> None:
    async with serving() as server, connected(server) as (reader, writer):
        writer.write(framed(b"\x12\x34" + b"\0" * 10, WEB.to_wire()))
        assert dns.message.from_wire(await read_message(reader)).rcode() == dns.rcode.FORMERR
        assert (await read_message(reader))[:2] == WEB.to_wire()[:2]


async def test_client_that_does_not_read_is_not_buffered_for() -> None:
    farm = Farm()
    for number in range(400):
        farm.node_at(f"n{number}", f"10.0.{number >> 8}.{number & 255}")
        farm.service_on(f"n{number}", "web")
    async with serving(farm) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.tcp_port, limit=1024)
        packets = framed(*[query("web.service.consul", "SRV").to_wire()] * 20)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                for _ in range(1000):
                    writer.write(packets)
                    await writer.drain()
        assert server.figures()["queries_tcp"] < 2000
        writer.transport.abort()


async def test_idle_connection_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp_module, "SWEEP_INTERVAL_S", 0.02)
    listener = TcpListener(lambda packet, client, send: packet, idle_timeout_s=0.1)
    await listener.start("127.0.0.1", 0)
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(b"\0")  # a trickle is no activity
        async with asyncio.timeout(5):
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
        writer.close()
        await eventually(lambda: listener.connections == 0)
    finally:
        await listener.stop()


@pytest.mark.parametrize("caps", [{"connections_max": 2}, {"per_client_max": 2}], ids=str)
async def test_connections_above_the_cap_are_closed(caps: dict[str, int]) -> None:
    listener = TcpListener(lambda packet, client, send: packet, **caps)
    await listener.start("127.0.0.1", 0)
    try:
        opened = [await asyncio.open_connection("127.0.0.1", listener.port) for _ in range(3)]
        await eventually(lambda: listener.refused == 1)
        assert listener.connections == 2
        opened[0][1].transport.abort()
        opened[1][1].transport.abort()
        await eventually(lambda: listener.connections == 0)
        opened.append(await asyncio.open_connection("127.0.0.1", listener.port))
        await eventually(lambda: listener.connections == 1)
        for _, writer in opened:
            writer.transport.abort()
    finally:
        await listener.stop()


async def test_age_of_the_catalog_decides_what_is_answered() -> None:
    age = [0.0]
    async with serving(age=age) as server:
        message = query("web.service.consul", "A", use_edns=0)

        async def reply() -> dns.message.Message:
            return dns.message.from_wire(await over_udp(server, message.to_wire()))

        assert (await reply()).options == ()
        age[0] = 30.0
        await eventually(lambda: server.condition is Condition.STALE)
        stale = await reply()
        assert len(stale.answer) == 1
        assert stale.options
        age[0] = 61.0
        await eventually(lambda: server.condition is Condition.EXPIRED)
        assert (await reply()).rcode() == dns.rcode.SERVFAIL


class Upstream:
    """A forwarder that answers from a table, when it is let."""

    def __init__(self, answers: dict[str, str]) -> None:
        self.answers = answers
        self.open = asyncio.Event()
        self.open.set()

    async def ask(self, packet: bytes, *, tcp: bool) -> bytes | None:
        await self.open.wait()
        asked = dns.message.from_wire(packet)
        text = self.answers.get(asked.question[0].name.to_text())
        if text is None:
            return None
        reply = dns.message.make_response(asked)
        name = asked.question[0].name
        reply.answer.append(dns.rrset.from_text(name, 60, "IN", "A", text))
        return reply.to_wire()


async def test_other_names_are_forwarded() -> None:
    upstream = Upstream({"example.com.": "192.0.2.7"})
    async with serving(forwarder=upstream) as server:
        packet = query("example.com", "A").to_wire()
        reply = dns.message.from_wire(await over_udp(server, packet))
        assert lines(reply.answer) == ["example.com. 60 IN A 192.0.2.7"]
        ours = dns.message.from_wire(await over_udp(server, WEB.to_wire()))
        assert ours.flags & dns.flags.RA


async def test_recursor_that_is_silent_is_a_server_failure() -> None:
    async with serving(forwarder=Upstream({})) as server:
        reply = dns.message.from_wire(await over_udp(server, query("x.example", "A").to_wire()))
        assert reply.rcode() == dns.rcode.SERVFAIL


async def test_alias_to_a_name_outside_comes_with_its_addresses() -> None:
    farm = article_farm()
    farm.node_at("ext", "www.example.com")
    async with serving(farm, forwarder=Upstream({"www.example.com.": "192.0.2.8"})) as server:
        packet = query("ext.node.consul", "A").to_wire()
        reply = dns.message.from_wire(await over_udp(server, packet))
        assert lines(reply.answer) == [
            "ext.node.consul. 0 IN CNAME www.example.com.",
            "www.example.com. 60 IN A 192.0.2.8",
        ]


async def test_answers_overtake_a_forwarded_query_on_one_connection() -> None:
    upstream = Upstream({"example.com.": "192.0.2.7"})
    upstream.open.clear()
    slow, fast = query("example.com", "A").to_wire(), WEB.to_wire()
    async with serving(forwarder=upstream) as server, connected(server) as (reader, writer):
        writer.write(framed(slow, fast))
        writer.write_eof()
        assert (await read_message(reader))[:2] == fast[:2]
        upstream.open.set()
        assert (await read_message(reader))[:2] == slow[:2]
        async with asyncio.timeout(5):
            assert await reader.read() == b""


async def test_stop_gives_up_forwarded_queries() -> None:
    upstream = Upstream({})
    upstream.open.clear()
    async with serving(forwarder=upstream) as server:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            packet = query("example.com", "A").to_wire()
            sock.sendto(packet, ("127.0.0.1", server.udp_port))
            await eventually(lambda: server.figures()["forwarded"] == 1)


async def test_taken_port_is_an_error() -> None:
    async with serving() as server:
        second = DnsServer(article_farm(), DnsSettings(), "127.0.0.1", server.udp_port)
        with pytest.raises(OSError, match="ddress already in use"):
            await second.start()


@pytest.mark.parametrize(
    ("client", "private"),
    [("127.0.0.1", True), ("10.1.2.3", True), ("172.20.0.3", True), ("::1", True),
     ("fe80::1%eth0", True), ("8.8.8.8", False), ("2a00::1", False), ("", False),
     ("::ffff:10.1.2.3", True), ("::ffff:8.8.8.8", False)],
)  # fmt: skip
def test_only_private_networks_are_forwarded_for(client: str, private: bool) -> None:
    assert is_private(client) is private


def certificate(directory: Path) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "front")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .sign(key, hashes.SHA256())
    )
    paths = directory / "cert.pem", directory / "key.pem"
    paths[0].write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return paths


async def test_tls_is_answered(tmp_path: Path) -> None:
    chain, key = certificate(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(chain, key)
    server = DnsServer(article_farm(), DnsSettings(), "127.0.0.1", 0, tls=tls, tls_port=0)
    await server.start()
    try:
        trusting = ssl.create_default_context(cafile=str(chain))
        reader, writer = await asyncio.open_connection("127.0.0.1", server.tls_port, ssl=trusting)
        writer.write(framed(WEB.to_wire(), WEB.to_wire()))
        for _ in range(2):
            assert dns.message.from_wire(await read_message(reader)).answer
        assert server.figures()["queries_tls"] == 2
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    finally:
        await server.stop()
