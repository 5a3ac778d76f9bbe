"""A real file server in the test's own loop, on an ephemeral port, and raw clients for it."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import uvloop
from tests.harness.eventually import SLOW, eventually

from callboard.fileserver.access import AccessLog
from callboard.fileserver.credentials import Credentials
from callboard.fileserver.folder import Folder
from callboard.fileserver.limits import Limits
from callboard.fileserver.ports import Router
from callboard.fileserver.server import Server
from callboard.pki import certificates
from callboard.pki.roles import LOOPBACK, Names

ANSWER_TIMEOUT_S = 10.0 * SLOW
QUICK = Limits(handshake_s=0.3, head_s=0.3, idle_s=0.3, write_stall_s=0.3, linger_s=0.3)
"""For tests of what happens when time is over."""


def put(path: Path, body: bytes) -> Path:
    """Write a file of a test, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".new")
    fresh.write_bytes(body)
    fresh.replace(path)
    return path


@dataclass
class Issuing:
    """A CA in a folder of the test."""

    folder: Path
    key: certificates.Key = field(default_factory=certificates.new_key)

    def __post_init__(self) -> None:
        self.certificate = certificates.authority(self.key, "test", datetime.now(UTC))
        self.path = put(self.folder / "ca.pem", certificates.pem(self.certificate))

    def pair(self, name: str, *dns: str, life: timedelta = timedelta(days=1)) -> tuple[Path, Path]:
        """A certificate and its key, as files `name.crt.pem` and `name.private_key.pem`."""
        key = certificates.new_key()
        leaf = certificates.leaf(
            key.public_key(),
            Names(dns or ("localhost",), LOOPBACK),
            self.certificate,
            self.key,
            datetime.now(UTC),
            common_name=name,
            life=life,
        )
        return (
            put(self.folder / f"{name}.crt.pem", certificates.pem(leaf)),
            put(self.folder / f"{name}.private_key.pem", certificates.key_pem(key)),
        )

    def revoke(self, *paths: Path, number: int = 1) -> Path:
        """A revocation list with these certificates, as crl.pem."""
        from cryptography import x509  # noqa: PLC0415 - few tests need it

        now = datetime.now(UTC)
        revoked = [
            certificates.Revoked(
                x509.load_pem_x509_certificate(path.read_bytes()).serial_number, now
            )
            for path in paths
        ]
        made = certificates.revocation_list(self.certificate, self.key, revoked, now, number=number)
        return put(self.folder / "crl.pem", certificates.pem(made))


@dataclass(frozen=True)
class Reply:
    """One answer: status, header lines by lower-case name, body as it came."""

    status: int
    headers: dict[str, str]
    body: bytes


class Raw:
    """A client that sends the bytes it is told to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        """Send without waiting."""
        self.writer.write(data)

    async def reply(self, *, method: str = "GET") -> Reply:
        """Read one answer, with its body by Content-Length."""
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            head = await self.reader.readuntil(b"\r\n\r\n")
            line, *lines = head.decode("latin-1").split("\r\n")[:-2]
            status = int(line.split()[1])
            headers: dict[str, str] = {}
            for one in lines:
                name, _, value = one.partition(": ")
                assert name.lower() not in headers, f"{name} twice"
                headers[name.lower()] = value
            size = int(headers.get("content-length", 0))
            bodiless = method == "HEAD" or status in (204, 304)
            body = b"" if bodiless else await self.reader.readexactly(size)
        return Reply(status, headers, body)

    async def rest(self) -> bytes:
        """Everything until the server ends the connection; a reset ends it too."""
        data = b""
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            try:
                while part := await self.reader.read(65536):
                    data += part
            except (ConnectionError, ssl.SSLError):
                pass
        return data

    def close(self) -> None:
        """Close without waiting."""
        self.writer.transport.abort()


class Serving:
    """A running server and its folder."""

    def __init__(self, server: Server, root: Path, issuing: Issuing) -> None:
        self.server = server
        self.root = root
        self.issuing = issuing
        self._clients: list[Raw] = []

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        return "127.0.0.1", self.server.port

    def context(self, pair: tuple[Path, Path] | None = None) -> ssl.SSLContext:
        """A client's context that trusts the CA; `pair` is the client's certificate."""
        context = ssl.create_default_context(cafile=str(self.issuing.path))
        if pair is not None:
            context.load_cert_chain(*pair)
        return context

    async def connect(
        self,
        *,
        name: str = "localhost",
        pair: tuple[Path, Path] | None = None,
        limit: int = 1 << 20,
    ) -> Raw:
        """A new connection, shaken hands."""
        reader, writer = await asyncio.open_connection(
            *self.address, ssl=self.context(pair), server_hostname=name, limit=limit
        )
        self._clients.append(Raw(reader, writer))
        return self._clients[-1]

    async def close_clients(self) -> None:
        """Close what tests left open."""
        for client in self._clients:
            client.close()
            with suppress(OSError, TimeoutError):
                await asyncio.wait_for(client.writer.wait_closed(), ANSWER_TIMEOUT_S)

    async def get(
        self, path: str, *, method: str = "GET", host: str = "localhost", **headers: str
    ) -> Reply:
        """One request on a connection of its own; `_` in header names is `-`."""
        client = await self.connect()
        lines = "".join(f"{name.replace('_', '-')}: {text}\r\n" for name, text in headers.items())
        client.send(f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n".encode())
        try:
            return await client.reply(method=method)
        finally:
            client.close()

    async def exchange(self, data: bytes) -> bytes:
        """Everything the server says to these bytes, until it ends the connection."""
        client = await self.connect()
        client.send(data)
        try:
            return await client.rest()
        finally:
            client.close()

    async def looked(self) -> None:
        """Take changed files in, now."""
        before = self.server.looks
        self.server.look_now()
        await eventually(lambda: self.server.looks > before, interval_s=0.005)


def run_on_uvloop(scenario: Awaitable[None]) -> None:
    """Run a test on the loop that the program has."""
    loop = uvloop.new_event_loop()
    try:
        loop.run_until_complete(scenario)
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()


@asynccontextmanager
async def serving(
    folder: Path,
    files: dict[str, bytes] | None = None,
    *,
    pairs: list[tuple[Path, Path]] | None = None,
    issuing: Issuing | None = None,
    client_ca: Path | None = None,
    crl: Path | None = None,
    limits: Limits | None = None,
    router: Router | None = None,
    allowed_hosts: tuple[str, ...] = (),
    access_log: Path | None = None,
    spa: bool = False,
    listings: bool = False,
) -> AsyncIterator[Serving]:
    """A server over `folder`/www with `files`, until the block's end."""
    root = folder / "www"
    root.mkdir(exist_ok=True)
    for name, body in (files or {}).items():
        put(root / name, body)
    issuing = issuing or Issuing(folder)
    credentials = Credentials(pairs or [issuing.pair("server")], client_ca, crl)
    descriptor = os.open(access_log, os.O_WRONLY | os.O_CREAT, 0o600) if access_log else None
    server = Server(
        Folder(os.fsencode(root), spa=spa, listings=listings),
        credentials,
        host="127.0.0.1",
        port=0,
        limits=limits,
        allowed_hosts=allowed_hosts,
        access=AccessLog(descriptor) if descriptor is not None else None,
        router=router,
        asks_certificates=client_ca is not None,
        look_s=3600.0,
    )
    await server.start()
    made = Serving(server, root, issuing)
    try:
        yield made
    finally:
        await made.close_clients()
        await server.stop()
        if descriptor is not None and server.access is not None:
            server.access.stop()
            os.close(descriptor)
