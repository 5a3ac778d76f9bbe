"""A sidecar in the test's own process: it grants leases, and sends real RTP to who holds one."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from callboard.gateway.film import NotSteered
from callboard.gateway.live import StreamDescription, TrackDescription
from callboard.gateway.sdp.codecs import Codec
from callboard.gateway.sources.keeping import ControlError, LeaseUnknown
from callboard.gateway.sources.rtp import RtpSender
from callboard.gateway.sources.sidecars import Listed
from callboard.media.leases import Progress, State

OPUS = Codec("audio", "opus", 48_000, 2)
LASTS_S = 10.0
PACKET_S = 0.02


def described(name: str, *, on_demand: bool = False, problem: str = "") -> StreamDescription:
    """A stream of sound."""
    tracks = (TrackDescription("audio", OPUS, 111),)
    return StreamDescription(name, name.title(), tracks, on_demand=on_demand, problem=problem)


@dataclass
class Sending:
    """One lease."""

    stream: str
    ports: Mapping[str, int]
    renewed: int = 0
    progress: Progress | None = None
    """Of a film."""
    task: asyncio.Task[None] | None = None


@dataclass
class TestedSidecar:
    """See the module; a `Sidecar`."""

    __test__ = False

    id: str = "sidecar-1"
    host: str = "127.0.0.1"
    lists: list[Listed] = field(default_factory=list)
    failing: ControlError | None = None
    """What every request raises."""
    leases: dict[str, Sending] = field(default_factory=dict)
    films: frozenset[str] = frozenset()
    """Streams that can be told to pause."""
    dawdles: asyncio.Event | None = None
    """Until when no lease is granted."""
    taken: int = 0
    """Leases in all."""
    released: int = 0
    asked: int = 0
    """How often it told what it sends."""

    async def streams(self) -> Sequence[Listed]:
        self._check()
        self.asked += 1
        return list(self.lists)

    async def take(self, stream: str, ports: Mapping[str, int]) -> tuple[str, float]:
        self._check()
        self.taken += 1
        if self.dawdles is not None:
            await self.dawdles.wait()
        id = f"lease-{self.taken}"
        lease = self.leases[id] = Sending(stream, dict(ports))
        if stream in self.films:
            lease.progress = Progress(State.PLAYING, 0.0, 60.0)
        lease.task = asyncio.create_task(self._send(lease, seed=f"{self.id} {self.taken}"))
        return id, LASTS_S

    async def renew(self, lease: str) -> float:
        self._check()
        if lease not in self.leases:
            raise LeaseUnknown("404 no such lease")
        self.leases[lease].renewed += 1
        return LASTS_S

    async def release(self, lease: str) -> None:
        self._check()
        self.released += 1
        self._end(lease)

    async def progress(self, lease: str) -> Progress:
        return self._film(lease)

    async def start(self, lease: str) -> Progress:
        return self._told(lease, replace(self._film(lease), state=State.PLAYING))

    async def pause(self, lease: str) -> Progress:
        return self._told(lease, replace(self._film(lease), state=State.PAUSED))

    async def seek(self, lease: str, position_s: float) -> Progress:
        return self._told(lease, replace(self._film(lease), position_s=position_s))

    def _film(self, lease: str) -> Progress:
        self._check()
        if lease not in self.leases:
            raise LeaseUnknown("404 no such lease")
        found = self.leases[lease].progress
        if found is None:
            raise NotSteered("409 it is no film")
        return found

    def _told(self, lease: str, progress: Progress) -> Progress:
        self.leases[lease].progress = progress
        return progress

    async def close(self) -> None:
        """It may be asked again."""

    def forget_leases(self) -> None:
        """As one that was started anew."""
        for lease in list(self.leases):
            self._end(lease)

    def _end(self, lease: str) -> None:
        ended = self.leases.pop(lease)
        assert ended.task is not None
        ended.task.cancel()

    def _check(self) -> None:
        if self.failing is not None:
            raise self.failing

    async def _send(self, lease: Sending, seed: str) -> None:
        sender = RtpSender(111, 48_000, random.Random(seed))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((self.host, 0))
            number = 0
            while True:
                payload = f"{lease.stream} {number}".encode()
                for data in sender.packets([payload], number * 960, marker=False):
                    sock.sendto(data, ("127.0.0.1", lease.ports["audio"]))
                number += 1
                await asyncio.sleep(PACKET_S)
