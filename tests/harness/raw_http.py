"""A raw HTTP/1.1 client for tests: sends any bytes, reads answers one by one, hides nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class RawAnswer:
    """An answer as it came: header names in the case of the wire."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """The first value of a header, looked up without regard to case."""
        for key, value in self.headers:
            if key.lower() == name.lower():
                return value
        return None

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()

    @property
    def json(self) -> object:
        """The body as JSON."""
        return json.loads(self.body)


class RawClient:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, *, method: str = "GET", timeout_s: float = 10.0) -> RawAnswer:
        """Read one answer; raises IncompleteReadError if the connection ends within it."""
        return await asyncio.wait_for(self._answer(method), timeout_s)

    async def closed(self, timeout_s: float = 10.0) -> bytes:
        """Wait for the end of the connection; what still came."""
        try:
            return await asyncio.wait_for(self.reader.read(), timeout_s)
        except ConnectionResetError:
            return b""

    async def request(
        self,
        method: str,
        target: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        timeout_s: float = 10.0,
    ) -> RawAnswer:
        """Send one request and read its answer."""
        await self.send(request_bytes(method, target, body, headers))
        return await self.answer(method=method, timeout_s=timeout_s)

    async def _answer(self, method: str) -> RawAnswer:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("utf-8")
        first, *lines = head[:-4].split("\r\n")
        status = int(first.split(" ")[1])
        headers = [(name, value) for name, _, value in (line.partition(": ") for line in lines)]
        found = {name.lower(): value for name, value in headers}
        body = b""
        if method == "HEAD" or status in (204, 304) or status < 200:
            return RawAnswer(status, headers, body)
        if found.get("transfer-encoding") == "chunked":
            while chunk := await self.chunk():
                body += chunk
        elif "content-length" in found:
            body = await self.reader.readexactly(int(found["content-length"]))
        else:
            body = await self.reader.read()
        return RawAnswer(status, headers, body)

    async def chunk(self) -> bytes:
        """Read one chunk of a chunked body; b"" is the last."""
        size = int(await self.reader.readline(), 16)
        data = await self.reader.readexactly(size)
        assert await self.reader.readexactly(2) == b"\r\n"
        return data


def request_bytes(
    method: str, target: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> bytes:
    """A request as bytes; Host and Content-Length are added where missing."""
    fields = {"Host": "localhost", **(headers or {})}
    if body is not None and "Transfer-Encoding" not in fields:
        fields["Content-Length"] = str(len(body))
    lines = [f"{method} {target} HTTP/1.1", *(f"{n}: {v}" for n, v in fields.items() if v)]
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


@asynccontextmanager
async def connect(port: int, host: str = "127.0.0.1") -> AsyncIterator[RawClient]:
    """Open a connection, and close it at the end."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        yield RawClient(reader, writer)
    finally:
        writer.close()
        try:
            await writer.wait_closed()
        except OSError:
            pass
