"""nginx in front, by the very configuration that docs/fileserver.md shows."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.harness.capabilities import require
from tests.harness.eventually import eventually
from tests.harness.sources import ROOT
from tests.harness.static_server import Issuing, Raw, serving

from callboard.fileserver.head import Head
from callboard.fileserver.ports import ClientConnection, PeerInfo, Refusal, Relayed, Route

NAME = "www.example.org"
FRAME = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr;
events {{ }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
{inside}
}}
"""


class Events:
    """A route that sends an event when it is told to."""

    def __init__(self) -> None:
        self.go: asyncio.Queue[bytes] = asyncio.Queue()

    def route(self, head: Head, peer: PeerInfo) -> Route | Refusal | None:
        return self if head.path == b"/hub/events" else None

    async def relay(self, connection: ClientConnection, head: Head, leftover: bytes) -> Relayed:
        connection.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n")
        connection.write(b"Connection: close\r\n\r\n")
        while event := await self.go.get():
            connection.write(event)
            await connection.drain()
        return Relayed(None, 200)


def documented(kind: str) -> str:
    """The first block of this kind in the document."""
    text = (ROOT / "docs/fileserver.md").read_text("utf-8")
    found = re.search(rf"```{kind}\n(.*?)```", text, re.S)
    assert found is not None
    return found[1]


@asynccontextmanager
async def nginx(folder: Path, upstream: int, issuing: Issuing) -> AsyncIterator[int]:
    """nginx as documented, at other addresses; its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    certificate, key = issuing.pair("front", NAME)
    inside = documented("nginx")
    for old, new in (
        ("127.0.0.1:1443", f"127.0.0.1:{upstream}"),
        ("listen 443 ", f"listen 127.0.0.1:{port} "),
        (f"/etc/nginx/{NAME}.crt", str(certificate)),
        (f"/etc/nginx/{NAME}.key", str(key)),
        ("/etc/nginx/callboard-ca.pem", str(issuing.path)),
    ):
        assert old in inside
        inside = inside.replace(old, new)
    conf = folder / "nginx.conf"
    conf.write_text(FRAME.format(folder=folder, inside=inside))
    process = await asyncio.create_subprocess_exec(
        "nginx", "-p", str(folder), "-c", str(conf), stderr=asyncio.subprocess.DEVNULL
    )
    try:

        def listens() -> bool:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return True

        await eventually(listens)
        yield port
    finally:
        process.terminate()
        await process.wait()


async def ask(port: int, issuing: Issuing, path: str, **headers: str) -> Raw:
    """Send a request to nginx."""
    context = ssl.create_default_context(cafile=str(issuing.path))
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname=NAME
    )
    lines = "".join(f"{name.replace('_', '-')}: {text}\r\n" for name, text in headers.items())
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {NAME}\r\n{lines}\r\n".encode())
    return Raw(reader, writer)


async def test_files_and_event_streams_come_through_nginx(tmp_path: Path) -> None:
    require("nginx", "curl")
    issuing = Issuing(tmp_path)
    router = Events()
    body = b"x" * 3_000_000
    async with (
        serving(
            tmp_path, {"f": body}, issuing=issuing, router=router, allowed_hosts=(NAME,)
        ) as server,
        nginx(tmp_path, server.server.port, issuing) as port,
    ):
        client = await ask(port, issuing, "/f")
        whole = await client.reply()
        assert whole.body == body
        client.close()
        client = await ask(port, issuing, "/f", If_None_Match=whole.headers["etag"])
        assert (await client.reply()).status == 304
        client.close()
        client = await ask(port, issuing, "/f", Range="bytes=5-9")
        part = await client.reply()
        assert (part.status, part.body) == (206, b"xxxxx")
        client.close()

        client = await ask(port, issuing, "/hub/events")
        await client.reader.readuntil(b"\r\n\r\n")
        for number in range(3):
            event = f"data: {number}\n\n".encode()
            router.go.put_nowait(event)
            async with asyncio.timeout(10):
                await client.reader.readuntil(event)
        router.go.put_nowait(b"")
        async with asyncio.timeout(10):
            await client.reader.readuntil(b"\r\n0\r\n\r\n")
        client.close()

        done = await asyncio.create_subprocess_exec(
            "curl", "-s", "--http2", "--cacert", str(issuing.path), "-o", "/dev/null",
            "--resolve", f"{NAME}:{port}:127.0.0.1", "-w", "%{http_version} %{http_code}",
            f"https://{NAME}:{port}/f", stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        printed, _ = await done.communicate()
        assert printed == b"2 200"
