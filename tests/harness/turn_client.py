"""A client of TURN (RFC 8656): aioice's, with the credentials of a gateway's Link fields."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import ClientSession, ClientTimeout
from aioice import stun
from aioice.turn import TurnClientTcpProtocol, TurnClientUdpProtocol

TIMEOUT_S = 20.0
LIFETIME_S = 600
_LINK = re.compile(
    r'<(turns?):([^:]+):(\d+)\?transport=(udp|tcp)>; rel="ice-server"; username="([^"]+)"; '
    r'credential="([^"]+)"; credential-type="password"'
)


@dataclass(frozen=True, slots=True)
class TurnAccess:
    """A server, and what it is shown."""

    scheme: str
    host: str
    port: int
    transport: str
    username: str
    credential: str


async def told(whep: str) -> list[TurnAccess]:
    """The turn: servers of an OPTIONS request's Link fields."""
    async with (
        ClientSession(timeout=ClientTimeout(TIMEOUT_S)) as session,
        session.options(whep) as answer,
    ):
        found = [_LINK.fullmatch(field) for field in answer.headers.getall("Link", [])]
    return [TurnAccess(one[1], one[2], int(one[3]), *one.group(4, 5, 6)) for one in found if one]


class TurnClient(asyncio.DatagramProtocol):
    """An allocation; made by `allocated`."""

    def __init__(self, protocol: TurnClientUdpProtocol | TurnClientTcpProtocol) -> None:
        self._protocol = protocol
        self._channel = 0x4800  # (the library counts from 0x4000)
        self._received: asyncio.Queue[bytes] = asyncio.Queue(16)
        protocol.receiver = self
        self.relayed: tuple[str, int] = ("", 0)
        """Where peers see it."""

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        """Keep what a peer sent; what is more than sixteen packets is dropped."""
        if not self._received.full():
            self._received.put_nowait(data)

    async def bind(self, peer: tuple[str, int]) -> None:
        """Ask for a channel to a peer (RFC 8656, 12), which is not used. Raises
        stun.TransactionFailed where it is refused."""
        self._channel += 1
        await self._protocol.channel_bind(self._channel, peer)

    async def binding(self, peer: tuple[str, int]) -> tuple[str, int]:
        """As whom a peer that speaks STUN sees the allocation."""
        request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
        await self._protocol.send_data(bytes(request), peer)
        answer = stun.parse_message(await asyncio.wait_for(self._received.get(), TIMEOUT_S))
        mapped: tuple[str, int] = answer.attributes["XOR-MAPPED-ADDRESS"]
        return mapped


@asynccontextmanager
async def allocated(
    access: TurnAccess, trusting: ssl.SSLContext | None = None
) -> AsyncIterator[TurnClient]:
    """An allocation until the block's end; over TLS for turns: servers, which `trusting` judges.

    Raises stun.TransactionFailed where it is refused, OSError where nobody answers.
    """
    loop, server = asyncio.get_running_loop(), (access.host, access.port)
    given = (server, access.username, access.credential, LIFETIME_S, LIFETIME_S)
    protocol: TurnClientUdpProtocol | TurnClientTcpProtocol
    if access.transport == "udp":
        made = loop.create_datagram_endpoint(
            lambda: TurnClientUdpProtocol(*given), remote_addr=server
        )
        _, protocol = await asyncio.wait_for(made, TIMEOUT_S)
    else:
        context = trusting if access.scheme == "turns" else None
        made_too = loop.create_connection(
            lambda: TurnClientTcpProtocol(*given), *server, ssl=context
        )
        _, protocol = await asyncio.wait_for(made_too, TIMEOUT_S)
    try:
        client = TurnClient(protocol)
        client.relayed = await asyncio.wait_for(protocol.connect(), TIMEOUT_S)
        yield client
        await asyncio.wait_for(protocol.delete(), TIMEOUT_S)
    finally:
        if protocol.refresh_task is not None:
            protocol.refresh_task.cancel()
        protocol.transport.close()
        await asyncio.sleep(0)
