"""One run of a check over the network: HTTP and TCP. Each answers (status, output), never raises.

Outputs are worded as Consul's, because people grep for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from callboard.catalog.objects import CRITICAL, PASSING, WARNING

if TYPE_CHECKING:
    import aiohttp

OUTPUT_BYTES_MAX = 4096
"""Consul's BufSize: what is kept of a check's output."""
READ_BYTES_MAX = 64 * 1024
"""How much of an HTTP answer is read at most before the connection is dropped."""


@dataclass(frozen=True, slots=True)
class Result:
    """What one run of a check found."""

    status: str
    output: str


@dataclass(frozen=True, slots=True)
class HttpProbe:
    """GET (or `method`) a URL: 2xx passes, 429 warns, all else is critical."""

    url: str
    timeout_s: float = 10.0
    method: str = "GET"
    headers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    body: str = ""
    tls_skip_verify: bool = False
    disable_redirects: bool = False
    output_bytes_max: int = OUTPUT_BYTES_MAX

    async def run(self, session: aiohttp.ClientSession) -> Result:
        """Ask once, within the time limit."""
        import aiohttp  # noqa: PLC0415 - 150 ms of imports that an agent without checks saves

        headers = [(name, value) for name, values in self.headers.items() for value in values]
        try:
            async with (
                asyncio.timeout(self.timeout_s),
                session.request(
                    self.method or "GET",
                    self.url,
                    headers=headers,
                    data=self.body.encode() or None,
                    ssl=not self.tls_skip_verify,
                    allow_redirects=not self.disable_redirects,
                ) as response,
            ):
                text = await _read(response.content, self.output_bytes_max)
                status, reason = response.status, response.reason or ""
        except TimeoutError:
            return Result(CRITICAL, f'Get "{self.url}": context deadline exceeded')
        except (aiohttp.ClientError, OSError, ValueError) as problem:
            return Result(CRITICAL, f'{self.method.capitalize()} "{self.url}": {problem}')
        output = f"HTTP {self.method} {self.url}: {status} {reason} Output: {text}"
        return Result(_http_status(status), output)


async def _read(stream: aiohttp.StreamReader, limit: int) -> str:
    kept = bytearray()
    while len(kept) < READ_BYTES_MAX:
        chunk = await stream.read(16384)
        if not chunk:
            break
        kept += chunk
    return bytes(kept[:limit]).decode("utf-8", "replace")


def _http_status(code: int) -> str:
    if 200 <= code <= 299:
        return PASSING
    return WARNING if code == 429 else CRITICAL


@dataclass(frozen=True, slots=True)
class TcpProbe:
    """Connect to "host:port": connected passes, all else is critical."""

    address: str
    timeout_s: float = 10.0

    async def run(self) -> Result:
        """Connect once, within the time limit."""
        host, _, port = self.address.rpartition(":")
        host = host.strip("[]") or "127.0.0.1"
        try:
            number = int(port)
            async with asyncio.timeout(self.timeout_s):
                _, writer = await asyncio.open_connection(host, number)
        except TimeoutError:
            return Result(CRITICAL, f"dial tcp {self.address}: i/o timeout")
        except (OSError, ValueError, OverflowError) as problem:
            return Result(CRITICAL, f"dial tcp {self.address}: connect: {_reason(problem)}")
        writer.transport.abort()
        return Result(PASSING, f"TCP connect {self.address}: Success")


def _reason(problem: Exception) -> str:
    if isinstance(problem, ConnectionRefusedError):
        return "connection refused"
    return str(problem)
