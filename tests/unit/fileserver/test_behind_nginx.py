"""nginx in front, by the very configuration that docs/fileserver.md shows."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

from tests.harness.capabilities import require
from tests.harness.front_nginx import NAME, nginx
from tests.harness.static_server import Issuing, Raw, serving

from callboard.fileserver.head import Head
from callboard.fileserver.ports import ClientConnection, PeerInfo, Refusal, Relayed, Route


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
        nginx(
            tmp_path, f"127.0.0.1:{server.server.port}", issuing.pair("front", NAME), issuing.path
        ) as port,
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
