"""A feed served by hand: a source behind the smallest HTTP server that streams."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from urllib.parse import parse_qs, urlsplit

from tests.harness.farm import Farm

from callboard.feed.source import FeedCluster, FeedSource, FeedStream
from callboard.feed.wire import Member


class FakeCluster:
    """What an agent would know of its cluster; a test changes the fields."""

    def __init__(self, agent: str = "agent-1", epoch: str = "epoch-1") -> None:
        self.agent = agent
        self.epoch = epoch
        self.leader = "10.0.0.1:8300"
        self.last_contact_s = 0.0
        self.members: Sequence[Member] = (Member("agent-1", "10.0.0.1", "alive", True),)

    def seam(self) -> FeedCluster:
        """The callables a source takes."""
        return FeedCluster(
            agent=self.agent,
            epoch=lambda: self.epoch,
            leader=lambda: self.leader,
            term=lambda: 3,
            last_contact_s=lambda: self.last_contact_s,
            members=lambda: self.members,
        )


class RecordingConnection:
    """A stream connection that keeps what is written, and is full when told."""

    def __init__(self) -> None:
        self.octets = bytearray()
        self.full = False
        self.closed = ""
        self._callback: Callable[[], None] | None = None

    def write(self, data: bytes) -> bool:
        self.octets += data
        return not self.full

    def on_drain(self, callback: Callable[[], None]) -> None:
        self._callback = callback

    def drain(self) -> None:
        """The client has read."""
        self.full = False
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()

    def close(self) -> None:
        self.closed = "closed"

    def abort(self) -> None:
        self.closed = "aborted"


class _HttpConnection:
    """A stream connection over asyncio's writer, chunked."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    def write(self, data: bytes) -> bool:
        self._writer.write(b"%x\r\n%s\r\n" % (len(data), data))
        return True

    def on_drain(self, callback: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_soon(callback)

    def close(self) -> None:
        self._writer.write(b"0\r\n\r\n")
        self._writer.close()

    def abort(self) -> None:
        self._writer.transport.abort()


class FeedServer:
    """One agent: answers GET /v1/internal/feed, and counts how it was asked."""

    def __init__(self, farm: Farm, cluster: FakeCluster, *, heartbeat_s: float = 0.05) -> None:
        self.source = FeedSource(farm, cluster.seam(), heartbeat_s=heartbeat_s)
        self.asked: list[str] = []
        self.port = 0
        self.status = 200
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[object]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Listen, on the same port as before if there was one."""
        self.source.start()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """As a killed agent: every connection is cut."""
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        self.source.stop()
        await self._server.wait_closed()
        await asyncio.gather(*self._tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        stream: FeedStream | None = None
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            target = head.split(b" ")[1].decode()
            self.asked.append(target)
            writer.write(b"HTTP/1.1 %d X\r\nTransfer-Encoding: chunked\r\n\r\n" % self.status)
            if self.status == 200:
                stream = self.source.open_for(parse_qs(urlsplit(target).query))
                stream.start(_HttpConnection(writer))
                await reader.read()
            else:
                writer.write(b"4\r\nnope\r\n0\r\n\r\n")
        if stream is not None:
            stream.cancel()
        self._writers.discard(writer)
        writer.close()


@contextlib.asynccontextmanager
async def feeding(*pairs: tuple[Farm, FakeCluster]) -> AsyncIterator[list[FeedServer]]:
    """One server for each farm."""
    servers = [FeedServer(farm, cluster) for farm, cluster in pairs]
    for server in servers:
        await server.start()
    try:
        yield servers
    finally:
        for server in servers:
            if server._server is not None and server._server.is_serving():
                await server.stop()
