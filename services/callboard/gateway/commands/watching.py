"""Watches a stream as a browser does (aiortc), until the first picture and sound are decoded."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence

from aiortc import (
    MediaStreamTrack,
    RTCBundlePolicy,
    RTCConfiguration,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError

from callboard.gateway.commands.findings import Played

DECODED = frozenset({"VP8", "H264", "OPUS", "PCMU", "PCMA"})
"""Codecs that aiortc decodes, in capitals."""
CLOSE_WITHIN_S = 3.0


class Watching:
    """One viewer, from `offer` to `close`."""

    def __init__(self, kinds: Sequence[str]) -> None:
        """`kinds`: audio, video."""
        servers = RTCConfiguration(iceServers=[], bundlePolicy=RTCBundlePolicy.MAX_BUNDLE)
        self._connection = RTCPeerConnection(servers)
        self._tasks: list[asyncio.Task[None]] = []
        self._first_at: dict[str, float | None] = dict.fromkeys(kinds)
        self._clock = asyncio.get_running_loop().time
        self._connection.on("track", self._begin)
        for kind in kinds:
            self._connection.addTransceiver(kind, direction="recvonly")

    async def offer(self) -> str:
        """What is posted."""
        await self._connection.setLocalDescription(await self._connection.createOffer())
        return str(self._connection.localDescription.sdp)

    @property
    def has_address(self) -> bool:
        """Whether this machine has an address that aiortc sends from: not a loopback one."""
        return "a=candidate:" in self._connection.localDescription.sdp

    async def play(self, answer: str, within_s: float) -> Played:
        """Take the answer and wait for the first picture and sound; for `within_s` to connect, and
        for so long once more. Raises ValueError for an answer that aiortc does not take."""
        began = self._clock()
        ends_at = began + within_s
        try:
            async with asyncio.timeout(within_s):
                description = RTCSessionDescription(answer, "answer")
                await self._connection.setRemoteDescription(description)
        except TimeoutError:
            return Played(state="the answer's candidates were not taken in time")
        except Exception as problem:  # aiortc raises all sorts of errors for what it cannot read
            raise ValueError(f"{type(problem).__name__}: {problem}") from problem
        await self._until(lambda: self._connection.connectionState == "connected", ends_at)
        state = self._connection.connectionState
        if state != "connected":
            return Played(state=state)
        connected_at = self._clock()
        await self._until(lambda: None not in self._first_at.values(), connected_at + within_s)
        first = {
            kind: at - began if at is not None else None for kind, at in self._first_at.items()
        }
        return Played(connected_at - began, state, first, await self._packets())

    async def close(self) -> None:
        """Leave, with a good-bye."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._connection.close(), CLOSE_WITHIN_S)

    async def _until(self, fact: Callable[[], bool], ends_at: float) -> None:
        """Wait until it holds, the connection has failed, or the time is over."""
        while not fact() and self._clock() < ends_at:
            if self._connection.connectionState in ("failed", "closed"):
                return
            await asyncio.sleep(0.01)

    async def _packets(self) -> dict[str, int]:
        statistics = (await self._connection.getStats()).values()
        return {
            each.kind: each.packetsReceived for each in statistics if each.type == "inbound-rtp"
        }

    def _begin(self, track: MediaStreamTrack) -> None:
        self._tasks.append(asyncio.get_running_loop().create_task(self._take(track)))

    async def _take(self, track: MediaStreamTrack) -> None:
        with contextlib.suppress(MediaStreamError):
            while True:
                await track.recv()
                if self._first_at.get(track.kind) is None:
                    self._first_at[track.kind] = self._clock()
