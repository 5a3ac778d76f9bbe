"""The catalog for a client agent's DNS: the feed's frames, fetched by rpc from a server.

A client agent has no state store, and its servers' HTTP may listen anywhere; their rpc it knows.
Each call resumes where the copy stands and returns once there is something new, at the latest with
the next heartbeat; so a change is here at once, and an idle agent makes one small call a second.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from callboard.agent.ports import EngineError, NotReady
from callboard.agent.rpc import Peer, RpcError
from callboard.agent.rpc.wire import ENCODER, decode_body
from callboard.feed.copy import CatalogCopy, FeedSession
from callboard.feed.source import FeedSource, TooManyReaders
from callboard.feed.wire import Delta, FeedError, FrameReader, Heartbeat

log = logging.getLogger(__name__)

METHOD = "feed"
TIMEOUT_S = 30.0
RETRY_S = 0.5
SLICE_BYTES = 256 << 10
"""Of an answer, taken in between two turns of the loop."""
STALE_LEADER_S = 10.0
"""A server that heard no leader for so long is left for another."""
BEHIND_BEATS_MAX = 5
"""So is one that says this often in a row, once a second, that it is behind our copy."""


class Place(msgspec.Struct, array_like=True, frozen=True):
    """Where a copy stands. Only append fields, with defaults."""

    epoch: str
    index: int


_PLACE = msgspec.msgpack.Decoder(Place)


class _Collected:
    """A feed connection whose bytes are kept until there is something worth answering."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._reader = FrameReader()

    def write(self, data: bytes) -> bool:
        """Keep the bytes; a change or a heartbeat makes them worth answering."""
        self.data += data
        for received in self._reader.feed(data):
            if isinstance(received.frame, Delta | Heartbeat):
                self.close()
        return True

    def on_drain(self, callback: Callable[[], None]) -> None:
        """There is always room: one answer is bounded by the catalog's size."""
        asyncio.get_running_loop().call_soon(callback)

    def close(self) -> None:
        """The feed has ended."""
        if not self.done.done():
            self.done.set_result(None)

    abort = close


class FeedService:
    """The server's side."""

    def __init__(self, feed: FeedSource, ready: Callable[[], bool]) -> None:
        self._feed = feed
        self._ready = ready

    async def serve(self, peer: Peer, body: bytes) -> bytes:
        """Frames from the caller's place on, up to a change or a heartbeat."""
        if not self._ready():
            raise RpcError("the catalog is not loaded yet")
        place = decode_body(_PLACE, body)
        try:
            stream = self._feed.open(place.epoch, place.index)
        except TooManyReaders as problem:
            raise RpcError("too many readers of the feed") from problem
        collected = _Collected()
        stream.start(collected)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await collected.done
        finally:
            stream.cancel()
        return bytes(collected.data)


class Caller(Protocol):
    """What of `RpcClient` is needed here."""

    async def call(self, address: str, method: str, body: bytes, timeout_s: float) -> bytes: ...


class FeedReader:
    """The client agent's side: keeps a copy, from whichever server answers."""

    def __init__(
        self,
        copy: CatalogCopy,
        client: Caller,
        servers: Callable[[], Sequence[str]],
    ) -> None:
        self._copy = copy
        self._client = client
        self._servers = servers
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; call from within the event loop."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="feed-over-rpc")

    async def stop(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        while True:
            for address in self._servers():
                await self._follow(address)
            await asyncio.sleep(RETRY_S)

    async def _follow(self, address: str) -> None:
        """Ask one server for as long as it is of use."""
        behind = 0
        try:
            while behind < BEHIND_BEATS_MAX:
                beat = await self._ask(address)
                if beat is None:
                    continue
                if beat.last_contact_ms / 1000 >= STALE_LEADER_S:
                    return
                behind = behind + 1 if beat.applied_index < self._copy.applied_index else 0
        except (RpcError, FeedError, EngineError, TimeoutError) as problem:
            log.info("feed of a server ended", extra={"addr": address, "error": str(problem)})

    async def _ask(self, address: str) -> Heartbeat | None:
        """One call, and what the server says of itself, if it does."""
        place = Place(self._copy.epoch, self._copy.applied_index if self._copy.ready else 0)
        body = await self._client.call(address, METHOD, ENCODER.encode(place), TIMEOUT_S)
        now = asyncio.get_running_loop().time()
        session, beat = FeedSession(self._copy), None
        reader = FrameReader()
        for at in range(0, len(body), SLICE_BYTES):
            for received in reader.feed(body[at : at + SLICE_BYTES]):
                session.receive(received, now)
                if isinstance(received.frame, Heartbeat):
                    beat = received.frame
            await asyncio.sleep(0)  # a whole catalog must not hold the loop
        if not session.complete:
            raise NotReady("the snapshot was cut short")
        return beat
