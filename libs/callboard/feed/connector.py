"""HTTP connections to agents, judged anew while they stand (`callboard.pki.standing`)."""

from __future__ import annotations

import asyncio
import logging
import ssl

import aiohttp
from aiohttp.client_reqrep import ClientRequest
from aiohttp.connector import Connection
from aiohttp.tracing import Trace

from callboard.pki.live import Judge

log = logging.getLogger(__name__)


class AgentConnector(aiohttp.TCPConnector):
    """Knows its TLS connections: those at work, parked or idle."""

    def __init__(self, tls: ssl.SSLContext | None, source: str, *, limit: int = 100) -> None:
        """`source` is the local address, "" lets the system choose; `limit` is of connections."""
        super().__init__(
            ssl=tls if tls is not None else True,
            local_addr=(source, 0) if source else None,
            limit=limit,
        )
        self._secured: set[asyncio.Transport] = set()

    async def connect(
        self, req: ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        """As TCPConnector's."""
        connection = await super().connect(req, traces, timeout)
        transport = connection.transport
        if transport is None or transport in self._secured:
            return connection
        if transport.get_extra_info("ssl_object") is not None:
            self._secured = {one for one in self._secured if not one.is_closing()}
            self._secured.add(transport)
        return connection

    def judge(self, judge: Judge) -> None:
        """Cut the connections to agents whose certificate (DER) is not accepted any more."""
        self._secured = {one for one in self._secured if not one.is_closing()}
        for transport in self._secured:
            end = transport.get_extra_info("ssl_object")
            reason = judge(end.getpeercert(True) or b"")
            if reason is not None:
                log.warning(
                    "an agent is left: its certificate is not accepted any more",
                    extra={"address": transport.get_extra_info("peername"), "reason": reason},
                )
                transport.abort()
