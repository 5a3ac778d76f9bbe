"""Connections to programs behind, kept for the next request: a mutual TLS handshake costs more than
a request. Bounded per instance and in time; the newest is taken first."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import deque

from callboard.fileserver.routes.instances import Instance
from callboard.fileserver.routes.upstream import Upstream
from callboard.pki.live import Judge

log = logging.getLogger(__name__)

IDLE_MAX = 32
"""Kept per instance."""
INSTANCES_MAX = 256
IDLE_S = 30.0
"""Shorter than what our programs allow (they keep an idle connection 120 s)."""
CONNECT_S = 3.0
"""For connection and handshake."""
AGE_S = 3600.0
"""No connection is used longer: what its certificate allowed may have been revoked since."""


class Pool:
    """Idle connections by instance."""

    def __init__(
        self, tls: ssl.SSLContext | None, *, source: str = "", idle_s: float = IDLE_S
    ) -> None:
        """`tls` is for instances that are secure; `source` the local address, "" the system's."""
        self._tls = tls
        self._idle_s = idle_s
        self._local = (source, 0) if source else None
        self._idle: dict[Instance, deque[tuple[float, Upstream]]] = {}
        self._born: dict[Upstream, float] = {}
        self._closed = False

    async def take(self, instance: Instance, *, fresh: bool = False) -> Upstream:
        """A connection, an idle one unless `fresh`. Raises OSError (TimeoutError among them)."""
        loop = asyncio.get_running_loop()
        kept = self._idle.get(instance)
        while kept and not fresh:
            since, connection = kept.pop()
            if connection.idle and loop.time() - since < self._idle_s and not self._old(connection):
                connection.fresh = False
                return connection
            self.drop(connection)
        async with asyncio.timeout(CONNECT_S):
            _, made = await loop.create_connection(
                Upstream,
                instance.host,
                instance.port,
                ssl=self._tls if instance.secure else None,
                server_hostname=instance.server_name if instance.secure else None,
                local_addr=self._local,
            )
        self._born[made] = loop.time()
        return made

    def give(self, instance: Instance, connection: Upstream) -> None:
        """Keep a connection whose last answer is over."""
        if self._closed or not connection.idle or self._old(connection):
            self.drop(connection)
            return
        kept = self._idle.get(instance)
        if kept is None:
            if len(self._idle) >= INSTANCES_MAX:
                self._forget_one()
            kept = self._idle.setdefault(instance, deque())
        kept.append((asyncio.get_running_loop().time(), connection))
        if len(kept) > IDLE_MAX:
            self.drop(kept.popleft()[1])

    def drop(self, connection: Upstream) -> None:
        """Close a connection."""
        self._born.pop(connection, None)
        connection.close()

    def sweep(self) -> None:
        """Close those that were idle for long; called from time to time."""
        limit = asyncio.get_running_loop().time() - self._idle_s
        for instance, kept in list(self._idle.items()):
            while kept and (kept[0][0] < limit or not kept[0][1].idle):
                self.drop(kept.popleft()[1])
            if not kept:
                del self._idle[instance]

    def judge(self, judge: Judge) -> None:
        """End connections, also those in use, whose certificate is not accepted any more."""
        for connection in list(self._born):
            certificate = connection.certificate
            reason = judge(certificate) if certificate else None
            if reason is not None:
                log.warning(
                    "a connection is ended: its certificate is not accepted any more",
                    extra={"reason": reason},
                )
                self.drop(connection)

    def close(self) -> None:
        """Close all idle ones, and those that are given back from now on."""
        self._closed = True
        while self._idle:
            self._forget_one()

    def _forget_one(self) -> None:
        _, kept = self._idle.popitem()
        for _, connection in kept:
            self.drop(connection)

    def _old(self, connection: Upstream) -> bool:
        born = self._born.get(connection, 0.0)
        return asyncio.get_running_loop().time() - born > AGE_S
