"""Live streams that are taken from a sidecar: one for all viewers, or one for each."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass

from callboard.gateway.live import LiveStream, StreamDescription, Streams
from callboard.gateway.sources.holding import RENEW_S, Holding
from callboard.gateway.sources.keeping import ControlError, LeaseKeeper, Leasing
from callboard.gateway.sources.ports import TrackPorts, end_sources
from callboard.gateway.sources.senders import Network
from callboard.media.leases import Progress

log = logging.getLogger(__name__)

JOIN_S = 30.0
"""A stream that was made for a viewer who does not come is ended."""
STOP_S = 3.0
"""For giving a lease back."""


@dataclass(frozen=True, slots=True, eq=False)
class Origin:
    """A sidecar, and how its packets come. One that is asked anew is another one."""

    id: str
    """In the catalog: "sidecar-1"."""
    sidecar: Leasing
    networks: Sequence[Network]
    """The addresses that it sends from."""
    bind: str
    """The local address that ports are opened at."""
    renew_s: float = RENEW_S
    """Between two renewals of a lease."""


class SharedStream:
    """One stream for all viewers: `start` it, `close` it, and wait for its `end`."""

    def __init__(
        self, streams: Streams, origin: Origin, described: StreamDescription, rng: random.Random
    ) -> None:
        self._streams = streams
        self.origin = origin
        self._described = described
        self._rng = rng
        self._live: LiveStream | None = None
        self._task: asyncio.Task[None] | None = None
        self._keeper: LeaseKeeper | None = None
        self.ports: TrackPorts | None = None

    def start(self) -> None:
        """Put it on the list, and take a lease as soon as it is wanted. Raises StreamTaken,
        OSError, and ValueError for what is no stream."""
        live = self._streams.open(self._described, self.origin.id)
        self._live = live
        if self._described.problem:
            return
        try:
            self.ports = ports_of(self._described, self.origin, self._rng)
        except OSError:
            self.close("no port is free for it")
            raise
        self.ports.feed(live)
        holding = Holding(
            self._rng, on_demand=self._described.on_demand, renew_s=self.origin.renew_s
        )
        self._keeper = LeaseKeeper(
            self.origin.sidecar,
            self._described.name,
            self.ports.numbers,
            holding,
            on_taken=self.ports.begin_anew,
            on_lost=self._lost,
        )
        live.on_wanted = self._keeper.watched
        if live.viewers:  # they waited for it
            self._keeper.watched(True)
        self._task = asyncio.create_task(self._keeper.run(), name=f"lease {live.name}")

    def close(self, reason: str) -> None:
        """Take it off the list, at once."""
        if self.ports is not None:
            self.ports.close()
        if self._live is not None:
            self._streams.close(self._live, reason, asyncio.get_running_loop().time())
            end_sources(self._live)

    async def end(self) -> None:
        """After `close`: give the lease back, if the sidecar still answers."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._keeper is not None:
            await end_within(self._keeper)

    @property
    def refused(self) -> Counter[str]:
        """Packets of RTP that were not taken, by reason."""
        return self.ports.refused if self.ports is not None else Counter()

    def _lost(self, reason: str) -> None:
        if self._live is not None:
            self._live.offline(reason, asyncio.get_running_loop().time())


class ViewerStreams:
    """A stream that is made anew for each viewer; as SharedStream otherwise."""

    def __init__(
        self, streams: Streams, origin: Origin, described: StreamDescription, rng: random.Random
    ) -> None:
        self._streams = streams
        self.origin = origin
        self._described = described
        self._rng = rng
        self._made: set[_Personal] = set()
        self._refused: Counter[str] = Counter()

    def start(self) -> None:
        """Put it on the list. Raises StreamTaken, ValueError."""
        self._streams.offer(self._described, self._open)

    def close(self, reason: str) -> None:
        """Take it off the list, and end what was made of it."""
        self._streams.withdraw(self._described.name)
        for each in self._made:
            each.end_soon(reason)

    async def end(self) -> None:
        """After `close`: wait until all has ended."""
        tasks = [each.task for each in self._made]
        if tasks:
            await asyncio.wait(tasks, timeout=2 * STOP_S)

    @property
    def refused(self) -> Counter[str]:
        """As SharedStream's; of viewers who have left, too."""
        refused = Counter(self._refused)
        for each in self._made:
            refused += each.ports.refused
        return refused

    async def _open(self, described: StreamDescription) -> LiveStream:
        """For one viewer. Raises ConnectionError, OSError, StreamTaken."""
        personal = _Personal(self._streams, self.origin, described, self._rng)
        live = await personal.start()
        self._made.add(personal)
        personal.task.add_done_callback(lambda _: self._forget(personal))
        return live

    def _forget(self, personal: _Personal) -> None:
        self._made.discard(personal)
        self._refused += personal.ports.refused


class _Personal:
    """One viewer's."""

    def __init__(
        self, streams: Streams, origin: Origin, described: StreamDescription, rng: random.Random
    ) -> None:
        self._streams = streams
        self.ports = ports_of(described, origin, rng)
        holding = Holding(rng, on_demand=True, renew_s=origin.renew_s)
        self._keeper = LeaseKeeper(
            origin.sidecar, described.name, self.ports.numbers, holding, on_lost=self.end_soon
        )
        self.origin = origin
        self._described = described
        self._ended = asyncio.Event()
        self._reason = "its viewer has left"
        self.task: asyncio.Task[None]

    async def start(self) -> LiveStream:
        """Take a lease of its own. Raises ConnectionError, StreamTaken."""
        try:
            live = self._streams.open_personal(self._described, self.origin.id)
        except ValueError:
            self.ports.close()
            raise
        self.ports.feed(live)
        self._keeper.watched(True)
        try:
            await self._keeper.take()
        except BaseException as problem:  # (who asked may have left meanwhile)
            self.ports.close()
            self._streams.close(live, str(problem), asyncio.get_running_loop().time())
            if isinstance(problem, ControlError):
                raise ConnectionError(f"the sidecar does not send it: {problem}") from problem
            raise
        live.on_wanted = self._wanted
        live.film = _LeasedFilm(self.origin.sidecar, self._keeper)
        self.task = asyncio.create_task(self._run(live), name=f"lease {live.name}")
        return live

    def _wanted(self, wanted: bool) -> None:
        if not wanted:
            self._ended.set()

    def end_soon(self, reason: str) -> None:
        """End it, whoever watches."""
        self._reason = reason
        self._ended.set()

    async def _run(self, live: LiveStream) -> None:
        """Until its viewer has left, or the sidecar has."""
        renewing = asyncio.create_task(self._keeper.run(), name=f"renew {live.name}")
        try:
            joined = asyncio.get_running_loop().call_later(JOIN_S, self._check_joined, live)
            await self._ended.wait()
            joined.cancel()
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)
            self.ports.close()
            self._streams.close(live, self._reason, asyncio.get_running_loop().time())
            await end_within(self._keeper)

    def _check_joined(self, live: LiveStream) -> None:
        if not live.viewers:
            self.end_soon("its viewer has not come")


class _LeasedFilm:
    """A `Film` that a sidecar plays for the holder of a lease."""

    def __init__(self, sidecar: Leasing, keeper: LeaseKeeper) -> None:
        self._sidecar = sidecar
        self._keeper = keeper

    async def progress(self) -> Progress:
        """See Film."""
        return await _steered(self._sidecar.progress(self._keeper.lease))

    async def start(self) -> Progress:
        """See Film."""
        return await _steered(self._sidecar.start(self._keeper.lease))

    async def pause(self) -> Progress:
        """See Film."""
        return await _steered(self._sidecar.pause(self._keeper.lease))

    async def seek(self, position_s: float) -> Progress:
        """See Film."""
        return await _steered(self._sidecar.seek(self._keeper.lease, position_s))


async def _steered(asked: Awaitable[Progress]) -> Progress:
    try:
        return await asked
    except ControlError as problem:
        raise ConnectionError(f"the sidecar does not play it: {problem}") from problem


def ports_of(described: StreamDescription, origin: Origin, rng: random.Random) -> TrackPorts:
    """Ports that the system chooses, for a sidecar's packets alone. Raises OSError."""
    tracks = [(track, 0) for track in described.tracks]
    return TrackPorts(origin.bind, tracks, origin.networks, ssrc=rng.getrandbits(32))


async def end_within(keeper: LeaseKeeper) -> None:
    """Give a lease back; one whose sidecar dawdles ends by itself."""
    try:
        async with asyncio.timeout(STOP_S):
            await keeper.end()
    except TimeoutError:
        log.debug("a lease ends by itself", extra={"reason": "the sidecar does not answer"})
