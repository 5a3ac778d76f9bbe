"""One run of a check over the network: HTTP and TCP. Each answers (status, output), never raises.

Outputs are worded as Consul's, because people grep for them.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import socket
import ssl
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from callboard.catalog.objects import CRITICAL, PASSING, WARNING

if TYPE_CHECKING:
    import aiohttp

log = logging.getLogger(__name__)

OUTPUT_BYTES_MAX = 4096
"""Consul's BufSize: what is kept of a check's output."""
HEAD_LINE_BYTES_MAX = 64 * 1024
"""Of one line of an HTTP answer's head."""
READ_BYTES_MAX = 64 * 1024
"""How much of an HTTP answer is read at most before the connection is dropped."""


CLIENT_HEADERS = {
    "User-Agent": "Consul Health Check",
    "Accept": "text/plain, text/*, */*",
    "Accept-Encoding": "gzip",
}
"""What Consul's HTTP checks send: services tell them apart by it."""


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
    tls_server_name: str = ""
    """Whom the certificate must name; "" is the URL's host."""
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
                    server_hostname=self.tls_server_name or None,
                    allow_redirects=not self.disable_redirects,
                ) as response,
            ):
                status, reason = response.status, response.reason or ""
                zipped = response.headers.get("Content-Encoding", "").lower() == "gzip"
                text = await _read(response.content, self.output_bytes_max, zipped)
        except TimeoutError:
            return Result(CRITICAL, f"{self._asked()}: context deadline exceeded")
        except (aiohttp.ClientError, OSError, ValueError) as problem:
            return Result(CRITICAL, f"{self._asked()}: {_http_problem(problem, self.url)}")
        output = f"HTTP {self.method} {self.url}: {status} {reason} Output: {text}"
        return Result(_http_status(status), output)

    def _asked(self) -> str:
        """How Go's client begins its errors."""
        return f'{self.method.capitalize()} "{self.url}"'


def _http_problem(problem: Exception, url: str) -> str:
    """Why no answer came, in the words of Go's client where it has some."""
    import aiohttp  # noqa: PLC0415 - imported by the caller already

    scheme, separator, _ = url.partition("://")
    if not separator or scheme.lower() not in ("http", "https"):
        return f'unsupported protocol scheme "{scheme.lower() if separator else ""}"'
    if isinstance(problem, aiohttp.ClientConnectorError):
        address = f"{problem.host}:{problem.port}"
        return _dial_problem(problem.os_error, problem.host, address)
    return str(problem)


async def _read(stream: aiohttp.StreamReader, limit: int, zipped: bool) -> str:
    """The beginning of a body. One that is cut short or garbled is what was read of it: the
    status code alone decides the check, as Consul's."""
    import aiohttp  # noqa: PLC0415 - imported by the caller already

    kept = bytearray()
    unzip = zlib.decompressobj(wbits=31) if zipped else None
    read = 0
    try:
        while read < READ_BYTES_MAX:
            chunk = await stream.read(16384)
            if not chunk:
                break
            read += len(chunk)
            kept += chunk if unzip is None else unzip.decompress(chunk, max(1, limit - len(kept)))
    except (aiohttp.ClientError, zlib.error) as problem:
        log.info("a check's answer has a broken body", extra={"error": str(problem)})
    return bytes(kept[:limit]).decode("utf-8", "replace")


def _http_status(code: int) -> str:
    if 200 <= code <= 299:
        return PASSING
    return WARNING if code == 429 else CRITICAL


@dataclass(frozen=True, slots=True)
class TcpProbe:
    """Connect to "host:port": connected passes, all else is critical; with `tls`, only if a TLS
    session came about as well."""

    address: str
    timeout_s: float = 10.0
    tls: bool = False
    tls_skip_verify: bool = False
    tls_server_name: str = ""
    """Whom the certificate must name; "" is the host."""

    async def run(self) -> Result:
        """Connect once, within the time limit."""
        host, colon, port = self.address.rpartition(":")
        if not colon:
            return Result(CRITICAL, f"dial tcp: address {self.address}: missing port in address")
        host = host.strip("[]") or "127.0.0.1"
        try:
            number = int(port) if port.isdecimal() else socket.getservbyname(port, "tcp")
            async with asyncio.timeout(self.timeout_s):
                _, writer = await asyncio.open_connection(
                    host,
                    number,
                    ssl=_tls_context(self.tls_skip_verify) if self.tls else None,
                    server_hostname=(self.tls_server_name or host) if self.tls else None,
                )
        except TimeoutError:
            return Result(CRITICAL, f"dial tcp {self.address}: i/o timeout")
        except ssl.SSLError as problem:
            return Result(CRITICAL, f"tls: {problem.reason or problem}")
        except (OSError, ValueError, OverflowError) as problem:
            return Result(CRITICAL, _dial_problem(problem, host, self.address))
        writer.transport.abort()
        return Result(PASSING, f"TCP connect {self.address}: Success")


@functools.cache
def _tls_context(skip_verify: bool) -> ssl.SSLContext:
    """Made once: it takes milliseconds to read the machine's authorities."""
    context = ssl.create_default_context()
    if skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _dial_problem(problem: Exception, host: str, address: str) -> str:
    """Why no connection came about, in the words of Go's net package."""
    if isinstance(problem, socket.gaierror):
        return f"dial tcp: lookup {host}: no such host"
    if isinstance(problem, OverflowError):
        return f"dial tcp: address {address}: invalid port"
    if isinstance(problem, OSError) and not problem.errno:  # as getservbyname says it
        return f"dial tcp: lookup tcp/{address.rpartition(':')[2]}: unknown port"
    reason = "connection refused" if isinstance(problem, ConnectionRefusedError) else str(problem)
    return f"dial tcp {address}: connect: {reason}"
