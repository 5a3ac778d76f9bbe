"""A lasting one-way link to one peer: dials, redials with back-off and jitter, drops when full.

The peer is known by its node id; its address is asked for at every dial, for all addresses may
have changed since. Whoever answers with another id is hung up on.
Policy when full or not connected: the NEW message is dropped and `send` says so; Raft sends again.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable

from callboard.agent.rpc.connection import FramedConnection
from callboard.agent.rpc.dialing import Dialer
from callboard.agent.rpc.errors import RpcUnreachable
from callboard.agent.rpc.wire import Channel, FrameKind

log = logging.getLogger(__name__)

BACKOFF_MIN_S = 0.05
BACKOFF_MAX_S = 0.5
AGE_LOOK_S = 5.0
"""Between two looks at a TLS connection's age."""
UNKNOWN_S = 0.1
"""How often an address that is not known yet is asked for: that costs nothing."""
UNSENT_BYTES_MAX = {Channel.RAFT: 32 << 20, Channel.HEARTBEAT: 256 << 10}
"""Bytes waiting for the kernel; what comes on top is dropped."""


class PeerLink:
    """One channel to one peer. `start()` it, `send()` on it, `stop()` it."""

    def __init__(
        self,
        dialer: Dialer,
        peer: str,
        channel: Channel,
        address_of: Callable[[str], str | None],
        rng: random.Random,
    ) -> None:
        """`address_of(node id)` answers "ip:port", or None while unknown."""
        self._dialer = dialer
        self._peer = peer
        self._channel = channel
        self._address_of = address_of
        self._rng = rng
        self._limit = UNSENT_BYTES_MAX[channel]
        self._connection: FramedConnection | None = None
        self._address: str | None = None
        """Where the connection goes."""
        self._lost = asyncio.Event()
        self._hurry = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._wrong_peer_logged = ""

    def start(self) -> None:
        """Begin to dial."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Hang up after what is queued, and dial no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._connection is not None:
            self._connection.close("the agent stops")

    def hurry(self) -> None:
        """The peer gave a sign of life: do not wait for the end of the back-off."""
        self._hurry.set()

    @property
    def connected(self) -> bool:
        """Whether messages can go out now."""
        return self._connection is not None

    def send(self, body: bytes) -> bool:
        """Queue a MESSAGE frame. False: dropped."""
        connection = self._connection
        if connection is None or connection.pending_bytes > self._limit:
            return False
        if self._address_of(self._peer) != self._address:
            # A host that lost its power resets nothing: the kernel would wait for ten seconds.
            connection.abort("the peer is elsewhere now")
            return False
        connection.send(FrameKind.MESSAGE, body)
        if self._channel is Channel.HEARTBEAT:
            # At once: an answer to a heartbeat waits for nothing else that this tick does.
            connection.flush()
        return True

    # FrameReceiver: the other side never speaks on a one-way link -----------------------------

    def frame_received(self, kind: int, body: bytes) -> None:
        """Ignored: a later version may say something here."""

    def connection_lost(self, reason: str) -> None:
        log.info(
            "link lost",
            extra={"peer": self._peer, "channel": str(self._channel), "reason": reason},
        )
        self._connection = None
        self._lost.set()

    async def _run(self) -> None:
        backoff_s = BACKOFF_MIN_S
        while True:
            if await self._connect():
                backoff_s = BACKOFF_MIN_S
                if self._dialer.renews and await self._renewed():
                    continue
                await self._lost.wait()
            elif self._address_of(self._peer) is None:
                backoff_s = UNKNOWN_S
            # Half to one and a half of the back-off: the survivors must not redial in step.
            if await self._hurried(backoff_s * self._rng.uniform(0.5, 1.5)):
                backoff_s = BACKOFF_MIN_S
            else:
                backoff_s = min(backoff_s * 2, BACKOFF_MAX_S)

    async def _renewed(self) -> bool:
        """Wait until the connection is lost, or hang up when it is old: whether that was it."""
        while not self._lost.is_set():
            # Not all links at the same moment: what is sent meanwhile is dropped, and sent again.
            try:
                async with asyncio.timeout(AGE_LOOK_S * self._rng.uniform(0.5, 1.5)):
                    await self._lost.wait()
            except TimeoutError:
                connection = self._connection
                if connection is not None and connection.is_old():
                    connection.receiver = self._connection = None
                    connection.close("old")
                    return True
        return False

    async def _hurried(self, wait_s: float) -> bool:
        self._hurry.clear()
        try:
            async with asyncio.timeout(wait_s):
                await self._hurry.wait()
        except TimeoutError:
            return False
        # Not at the very first sign: at its start a peer may dial before all of it is up.
        await asyncio.sleep(BACKOFF_MIN_S * self._rng.random())
        return True

    async def _connect(self) -> bool:
        address = self._address_of(self._peer)
        if address is None:
            return False
        self._lost.clear()
        try:
            dialed = await self._dialer.dial(address, self._channel, self)
        except RpcUnreachable as problem:
            log.debug("cannot link", extra={"peer": self._peer, "reason": str(problem)})
            return False
        if dialed.peer.node_id != self._peer:
            dialed.connection.receiver = None
            dialed.connection.close("another node answered")
            if address != self._wrong_peer_logged:
                self._wrong_peer_logged = address
                log.info(
                    "another node answers at a peer's address",
                    extra={"peer": self._peer, "addr": address, "found": dialed.peer.node_id},
                )
            return False
        self._connection, self._address = dialed.connection, address
        return True
