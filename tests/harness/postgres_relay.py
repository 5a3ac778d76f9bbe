"""A relay before a server, which loses what it is told to lose: requests, or answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from enum import Enum
from urllib.parse import urlsplit

PIECE = 1 << 16


class Loses(Enum):
    """What happens to the next request that has a text in it."""

    NOTHING = "nothing"
    REQUEST = "request"
    """It never comes to the server, and the connection is cut."""
    ANSWER = "answer"
    """The server answers, but the connection is cut before that comes back."""
    BOTH = "both"
    """Nothing comes through any more, either way, and nothing is cut."""


class Relay:
    """Listens on `port`."""

    def __init__(self, server_port: int) -> None:
        """Listen nowhere yet."""
        self._server_port = server_port
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0
        self.loses = Loses.NOTHING
        self.text = b""
        self.lost = 0
        """How often something was lost."""
        self.refuses = False
        """Connections that come are cut at once."""
        self._then_refuses = False

    def lose(self, what: Loses, text: str, *, then_refuse: bool = False) -> None:
        """Lose the next request with this text, or its answer."""
        self.loses, self.text, self._then_refuses = what, text.encode(), then_refuse

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take one connection."""
        if self.refuses:
            writer.close()
            return
        try:
            there_reader, there = await asyncio.open_connection("127.0.0.1", self._server_port)
        except OSError:
            writer.close()
            return
        self._writers |= {writer, there}
        doomed: list[Loses] = []
        with suppress(OSError):
            await asyncio.gather(
                self._forth(reader, there, doomed), self._back(there_reader, writer, doomed)
            )
        for end in (writer, there):
            end.close()
            self._writers.discard(end)

    async def _forth(
        self, reader: asyncio.StreamReader, there: asyncio.StreamWriter, doomed: list[Loses]
    ) -> None:
        while piece := await reader.read(PIECE):
            if self.loses is not Loses.NOTHING and self.text in piece:
                doomed.append(self.loses)
                self.loses = Loses.NOTHING
                self.lost += 1
                self.refuses = self._then_refuses
                if doomed[0] is Loses.REQUEST:
                    raise ConnectionAbortedError
            if doomed and doomed[0] is Loses.BOTH:
                continue
            there.write(piece)
            await there.drain()
        there.close()

    async def _back(
        self, reader: asyncio.StreamReader, here: asyncio.StreamWriter, doomed: list[Loses]
    ) -> None:
        while piece := await reader.read(PIECE):
            if doomed and doomed[0] is Loses.ANSWER:
                raise ConnectionAbortedError
            if not doomed:
                here.write(piece)
                await here.drain()
        here.close()

    def cut(self) -> None:
        """Cut all connections."""
        for writer in list(self._writers):
            writer.transport.abort()


@asynccontextmanager
async def relayed(url: str) -> AsyncIterator[tuple[str, Relay]]:
    """Put a relay before a server; its address, and the relay."""
    parts = urlsplit(url)
    assert parts.port is not None
    relay = Relay(parts.port)
    listener = await asyncio.start_server(relay.serve, "127.0.0.1", 0)
    relay.port = listener.sockets[0].getsockname()[1]
    try:
        yield url.replace(f":{parts.port}/", f":{relay.port}/"), relay
    finally:
        listener.close()
        relay.cut()
        await listener.wait_closed()
