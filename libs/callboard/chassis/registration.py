"""A program announces itself in the catalog, and goes on doing so for its whole life.

At the first agent that answers, with a TTL check of 10 s and DeregisterCriticalServiceAfter 1m;
when that agent is gone, at the next one with the same ID. Readers keep the passing one of an ID. It
begins in the background: no program waits for the catalog in order to start.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from callboard.client import calls
from callboard.client.errors import ClientError
from callboard.client.keepalive import KeepAlive

if TYPE_CHECKING:
    from callboard.client.asynchronous import AsyncClient

log = logging.getLogger(__name__)

TTL_S = 10.0
DEREGISTER_TIMEOUT_S = 2.0
"""For saying goodbye; a program that stops does not wait longer."""


ROUTE_PROBE = ("192.0.2.1", 9)
"""An address that is nobody's (RFC 5737): a UDP socket connected to it sends nothing, and has the
address of the default route."""


class Registration:
    """One program's entry in the catalog, from `start` to `stop`."""

    def __init__(
        self,
        addresses: str,
        name: str,
        *,
        id: str,
        port: int,
        address: str = "",
        tags: Sequence[str] = (),
        meta: Mapping[str, str] | None = None,
        token: str = "",
        source: str = "",
        ttl_s: float = TTL_S,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`addresses` are agents, separated by commas; `id` must be the same after a restart and
        differ between instances ("nameserver-1"); `address` "" is the agent's node's."""
        self._addresses = addresses
        self._token = token
        self._source = source
        self._tls = tls
        self._id = id
        self._ttl_s = ttl_s
        self._call = calls.register(
            name, id=id, port=port, address=address, tags=tags, meta=meta, ttl_s=ttl_s
        )
        self._client: AsyncClient | None = None
        self._keeper: KeepAlive | None = None
        self._task: asyncio.Task[None] | None = None

    def problem(self) -> str | None:
        """Why we are not in the catalog; None while we are (a readiness check)."""
        return self._keeper.problem if self._keeper is not None else "not started"

    async def start(self) -> None:
        """Begin; returns at once."""
        from callboard.client.asynchronous import AsyncClient  # noqa: PLC0415 - aiohttp: 150 ms

        self._client = AsyncClient(
            self._addresses, token=self._token, source=self._source, tls=self._tls
        )
        self._keeper = KeepAlive(self._client.do, self._call, self._id, self._ttl_s)
        self._task = asyncio.get_running_loop().create_task(
            self._keeper.run(), name=f"registration {self._id}"
        )

    async def stop(self) -> None:
        """Deregister, if an agent still answers, and end."""
        if self._task is None or self._client is None:
            return
        self._task.cancel()
        await asyncio.wait([self._task])
        with contextlib.suppress(ClientError, TimeoutError):
            async with asyncio.timeout(DEREGISTER_TIMEOUT_S):
                await self._client.do(calls.deregister(self._id))
        await self._client.close()


def own_address(bind: str) -> str:
    """The address others reach us at: `bind`, or the default route's for a wildcard; "" unknown."""
    if bind not in ("0.0.0.0", "::"):
        return bind
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(ROUTE_PROBE)
        except OSError:
            return ""
        return str(sock.getsockname()[0])
