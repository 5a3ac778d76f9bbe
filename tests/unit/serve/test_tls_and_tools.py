"""Over TLS with a client certificate, and with curl's offer of HTTP/2."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.harness.capabilities import require
from tests.harness.eventually import eventually
from tests.harness.raw_http import RawClient, request_bytes
from tests.unit.serve.conftest import ParkedWait, Serve, starlette_app

from callboard.pki.roles import Peer
from callboard.serve import Answer, Limits, Outcome, Request, Route, RouteTable, Server

NAMES = (
    x509.DNSName("localhost"),
    x509.UniformResourceIdentifier("spiffe://dc1.consul/svc/hub"),
    x509.UniformResourceIdentifier("spiffe://dc1.consul/node/hub-1"),
)


def self_signed(directory: Path) -> Path:
    """A certificate and its key in one file, good for localhost and for a client."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(NAMES), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = directory / "localhost.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path


async def test_tls_request_carries_its_body_and_whom_the_certificate_names(tmp_path: Path) -> None:
    pem = self_signed(tmp_path)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(pem)
    serving.load_verify_locations(pem)
    serving.verify_mode = ssl.CERT_REQUIRED
    asking = ssl.create_default_context(cafile=str(pem))
    asking.load_cert_chain(pem)
    seen: list[Request] = []
    parked: list[ParkedWait] = []

    def handler(request: Request) -> Outcome:
        seen.append(request)
        if request.path == "/park":
            parked.append(ParkedWait())
            return parked[-1]
        return Answer(200, request.body)

    table = RouteTable(Route(handler))
    server = Server(starlette_app(table), handlers=table, ssl_context=serving, trust="dc1.consul")
    await server.start()
    try:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", server.port, ssl=asking, server_hostname="localhost"
        )
        client = RawClient(reader, writer)
        assert (await client.request("PUT", "/", b"x" * 100_000)).body == b"x" * 100_000
        assert seen[0].peer == Peer(frozenset({"hub"}), "hub-1")
        await client.send(request_bytes("GET", "/park"))
        await eventually(lambda: parked)
        writer.transport.abort()
        await eventually(lambda: parked[0].cancelled, timeout_s=1.0)
    finally:
        await server.stop(drain_s=1.0)


async def test_plain_bytes_on_a_tls_port_do_not_stop_the_server(tmp_path: Path) -> None:
    pem = self_signed(tmp_path)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(pem)
    table = RouteTable(Route(lambda request: Answer(200, b"ok")))
    limits = Limits(head_timeout_s=0.2)
    server = Server(starlette_app(table), handlers=table, ssl_context=serving, limits=limits)
    await server.start()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(request_bytes("GET", "/"))
        await asyncio.wait_for(reader.read(), 5.0)
        writer.close()
        silent = await asyncio.open_connection("127.0.0.1", server.port)
        await asyncio.wait_for(silent[0].read(), 5.0)
        silent[1].close()
        asking = ssl.create_default_context(cafile=str(pem))
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", server.port, ssl=asking, server_hostname="localhost"
        )
        assert (await RawClient(reader, writer).request("GET", "/")).body == b"ok"
        writer.close()
        await writer.wait_closed()
    finally:
        await server.stop(drain_s=1.0)


@pytest.mark.parametrize("body", ["short", "x" * 100_000])
async def test_curl_offering_http_2_stores_its_body(
    serve: Serve, tmp_path: Path, body: str
) -> None:
    require("curl")
    sent = tmp_path / "body"
    sent.write_text(body)
    async with serve() as site:
        url = f"http://127.0.0.1:{site.port}/echo"
        curl = await asyncio.create_subprocess_exec(
            *("curl", "-sS", "--http2", "-m", "10", "-T", str(sent), url, url),
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await curl.communicate()
    assert site.requests and site.requests[0].body.decode() == body
    assert output.decode().startswith(body)


async def test_ten_times_the_work_of_a_turn_lets_the_loop_turn_between(serve_fast: Serve) -> None:
    """What comes in at once from many clients is worked off in slices (Core.admits)."""
    loop = asyncio.get_running_loop()
    turns: list[int] = []

    def look() -> None:
        turns.append(len(site.requests))
        if len(site.requests) < 3_000:
            loop.call_soon(look)

    async with serve_fast() as site:
        opened = [await asyncio.open_connection("127.0.0.1", site.port) for _ in range(300)]
        for _, writer in opened:
            writer.write(request_bytes("GET", "/echo") * 10)
        loop.call_soon(look)
        await eventually(lambda: len(site.requests) == 3_000)
        for _, writer in opened:
            writer.close()
            await writer.wait_closed()
    assert len({seen for seen in turns if 0 < seen < 3_000}) >= 3
