"""HTTPS clients that people write programs with, each asked for one URL, and what came of it."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp
import httpx
import requests

from callboard.testing import TLSServer
from callboard.testing.credentials import Credential

PATIENCE_S = 20.0
"""What a client waits for an answer that comes."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request of a client."""

    server: TLSServer
    timeout_s: float = PATIENCE_S
    """Of each read, as these clients count; curl counts all of it."""
    credential: Credential | None = None
    revocation: bool = False

    def context(self) -> ssl.SSLContext:
        """The context that a client of Python is given."""
        return self.server.ssl_context(self.credential, revocation=self.revocation)


def by_urllib(asked: Asked) -> int:
    """`urllib.request`."""
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=asked.context())
    )
    opener.addheaders = [("Connection", "close")]
    try:
        with opener.open(asked.server.url, timeout=asked.timeout_s) as answer:
            answer.read()
            status: int = answer.status
    except urllib.error.HTTPError as problem:
        with problem:
            return problem.code
    return status


def by_requests(asked: Asked) -> int:
    """`requests`, by paths: it takes no context."""
    with requests.Session() as session:
        session.trust_env = False
        answer = session.get(
            asked.server.url,
            verify=asked.server.ca.path,
            cert=asked.credential.path if asked.credential else None,
            timeout=asked.timeout_s,
        )
    return answer.status_code


def by_httpx(asked: Asked) -> int:
    """`httpx`."""
    with httpx.Client(verify=asked.context(), timeout=asked.timeout_s, trust_env=False) as client:
        return client.get(asked.server.url).status_code


def by_aiohttp(asked: Asked) -> int:
    """`aiohttp`; its limit of reading is per read, as the others'."""

    async def ask() -> int:
        limits = aiohttp.ClientTimeout(
            total=None, sock_read=asked.timeout_s, sock_connect=asked.timeout_s
        )
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(end_transports)
            session = await stack.enter_async_context(aiohttp.ClientSession(timeout=limits))
            asking = session.get(asked.server.url, ssl=asked.context())
            answer = await stack.enter_async_context(asking)
            await answer.read()
            return answer.status

    return asyncio.run(ask())


async def end_transports() -> None:
    """End what asyncio still holds.

    A transport of TLS that a time limit closed waits for the server's close_notify, and a server
    that dawdles sends none.
    """
    for transport in list(getattr(asyncio.get_running_loop(), "_transports", {}).values()):
        transport.abort()
    await asyncio.sleep(0)


class CurlError(Exception):
    """curl's exit code and what it wrote."""


def by_curl(asked: Asked) -> int:
    """The command curl."""
    command = [*asked.server.curl, "--max-time", str(asked.timeout_s)]
    command += ["--output", "-", "--write-out", "%{stderr}%{http_code}"]
    if asked.credential is not None:
        command += ["--cert", asked.credential.path]
    if asked.revocation:
        command += ["--crlfile", asked.server.ca.crl_path]
    done = subprocess.run([*command, asked.server.url], capture_output=True, text=True, check=False)
    if done.returncode:
        raise CurlError(f"exit {done.returncode}: {done.stderr}")
    return int(done.stderr)


CLIENTS: dict[str, Callable[[Asked], int]] = {
    "urllib": by_urllib,
    "requests": by_requests,
    "httpx": by_httpx,
    "aiohttp": by_aiohttp,
    "curl": by_curl,
}


FAILURES = (
    OSError,
    ValueError,
    http.client.HTTPException,
    httpx.HTTPError,
    aiohttp.ClientError,
    CurlError,
)


def outcome(client: str, asked: Asked) -> str:
    """The status, or the exception's name and text."""
    try:
        return str(CLIENTS[client](asked))
    except FAILURES as problem:
        return f"{type(problem).__name__}: {problem}"
