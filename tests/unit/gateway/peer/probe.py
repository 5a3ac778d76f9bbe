"""A socket that sends checks made by hand."""

from __future__ import annotations

import asyncio
import secrets
from typing import cast

from aioice import stun


def check(
    ufrag: str,
    password: str,
    *,
    nominate: bool = False,
    controlled: bool = False,
    transaction: bytes | None = None,
) -> bytes:
    """A Binding request as a browser sends it."""
    message = stun.Message(
        stun.Method.BINDING, stun.Class.REQUEST, transaction or secrets.token_bytes(12)
    )
    message.attributes["USERNAME"] = f"{ufrag}:them"
    message.attributes["PRIORITY"] = 1_845_501_695
    message.attributes["ICE-CONTROLLED" if controlled else "ICE-CONTROLLING"] = 77
    if nominate:
        message.attributes["USE-CANDIDATE"] = None
    message.add_message_integrity(password.encode())
    return bytes(message)


class Probe(asyncio.DatagramProtocol):
    """Sends to one port, and keeps what comes."""

    def __init__(self) -> None:
        self.came: list[bytes] = []
        self._transport: asyncio.DatagramTransport | None = None
        self._lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @classmethod
    async def open(cls, port: int, host: str = "127.0.0.1") -> Probe:
        """Of a port of its own."""
        loop = asyncio.get_running_loop()
        _, probe = await loop.create_datagram_endpoint(cls, remote_addr=(host, port))
        return probe

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.came.append(data)

    def error_received(self, exc: Exception) -> None:
        """The port is closed."""

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost.set_result(None)

    @property
    def port(self) -> int:
        """Its own."""
        assert self._transport is not None
        return int(self._transport.get_extra_info("sockname")[1])

    def send(self, data: bytes) -> None:
        """Send one datagram."""
        assert self._transport is not None
        self._transport.sendto(data)

    @property
    def answers(self) -> list[stun.Message]:
        """What came and is STUN."""
        return [stun.parse_message(data) for data in self.came if data[0] < 4]

    @property
    def media(self) -> list[bytes]:
        """What came and is not."""
        return [data for data in self.came if data[0] >= 4]

    async def close(self) -> None:
        """Close its socket."""
        assert self._transport is not None
        self._transport.close()
        await self._lost
