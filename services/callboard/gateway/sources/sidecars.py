"""The sidecars of the catalog: what each sends, and the live streams that are made of it.

A sidecar's streams are on the list while it lists them. One that is always on is leased at once,
one on demand with its first viewer, and one that is made for each viewer with each. When a sidecar
does not answer any more its streams are offline at once, and go on where they stood as soon as it,
or another one, lists a stream of the same name.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import random
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from callboard.chassis.logs import RateLimited
from callboard.gateway.live import StreamDescription, Streams, StreamTaken
from callboard.gateway.sources.directory import Choice, Directory
from callboard.gateway.sources.holding import RENEW_S, Backoff
from callboard.gateway.sources.instances import Instance
from callboard.gateway.sources.keeping import ControlError, Gone, Leasing
from callboard.gateway.sources.senders import Network
from callboard.gateway.sources.taken import Origin, SharedStream, ViewerStreams

log = logging.getLogger(__name__)

LOOK_S = 1.0
"""Between two looks at what a sidecar lists."""
RECONCILE_S = 0.5
"""Between two looks at the catalog."""
SILENT_LOOKS = 2
"""A sidecar that does not answer in time so often is gone; one that refuses is at once."""
SIDECARS_MAX = 64
RESOLVE_S = 3.0
LOG_INTERVAL_S = 60.0


@dataclass(frozen=True, slots=True)
class Listed:
    """A stream, as a sidecar lists it."""

    description: StreamDescription
    per_viewer: bool = False
    """Made anew for each viewer: a file that one can pause and seek in."""


class Sidecar(Leasing, Protocol):
    """What there is to ask a sidecar; also see `Leasing`."""

    async def streams(self) -> Sequence[Listed]:
        """What it sends. Raises ControlError."""

    async def close(self) -> None:
        """Close its connections."""


class Sidecars:
    """Follows all sidecars, from `start` to `stop`."""

    def __init__(
        self,
        streams: Streams,
        instances: Callable[[], Sequence[Instance]],
        connect: Callable[[Instance], Sidecar],
        *,
        bind: str,
        rng: random.Random,
        make_way: Callable[[str], None] = lambda name: None,
        look_s: float = LOOK_S,
        renew_s: float = RENEW_S,
    ) -> None:
        """`instances` are the catalog's healthy ones; `connect` makes what asks one; `bind` is
        where RTP is taken; `make_way` is told the name of a stream that is about to be opened."""
        self._streams = streams
        self._instances = instances
        self._connect = connect
        self._bind = bind
        self._rng = rng
        self._make_way = make_way
        self._look_s = look_s
        self._renew_s = renew_s
        self._directory = Directory[Listed]()
        self._origins: dict[str, Origin] = {}
        self._taken: dict[str, tuple[Choice[Listed], SharedStream | ViewerStreams]] = {}
        self._following: dict[Instance, asyncio.Task[None]] = {}
        self._limited = RateLimited(log, LOG_INTERVAL_S)
        self._ending: set[asyncio.Task[None]] = set()
        self._leaving: dict[Origin, set[asyncio.Task[None]]] = {}
        """Streams that give their leases back."""
        self._refused: Counter[str] = Counter()
        """Of streams that are taken no more."""
        self._task: asyncio.Task[None] | None = None

    @property
    def answering(self) -> int:
        """How many sidecars answer."""
        return len(self._origins)

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run(), name="follow sidecars")

    async def stop(self) -> None:
        """Take all streams off the list, and give all leases back."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for task in self._following.values():
            self._background(task).cancel()
        self._following.clear()
        while self._ending:  # (those that follow leave streams behind, which end, too)
            await asyncio.wait(tuple(self._ending))

    @property
    def refused(self) -> Counter[str]:
        """Packets of RTP that were not taken, by reason."""
        refused = Counter(self._refused)
        for _, taken in self._taken.values():
            refused += taken.refused
        return refused

    async def _run(self) -> None:
        while True:
            self._reconcile()
            self._retry()
            await asyncio.sleep(RECONCILE_S)

    def _reconcile(self) -> None:
        """Begin to follow who is new in the catalog; leave who is not there any more."""
        there = dict.fromkeys(self._instances()[:SIDECARS_MAX])
        for instance in [each for each in self._following if each not in there]:
            self._background(self._following.pop(instance)).cancel()
        for instance in there:
            task = self._following.get(instance)
            if task is None or task.done():
                if task is not None and not task.cancelled() and task.exception() is not None:
                    log.error("following a sidecar failed", exc_info=task.exception())
                name = f"follow {instance.id}"
                self._following[instance] = asyncio.create_task(self._follow(instance), name=name)

    async def _follow(self, instance: Instance) -> None:
        """Ask one sidecar again and again what it sends."""
        sidecar, backoff = self._connect(instance), Backoff(self._rng)
        origin: Origin | None = None
        try:
            networks = await addresses_of(instance.host)
            origin = Origin(instance.id, sidecar, networks, self._bind, self._renew_s)
            await self._look(sidecar, origin, backoff)
        except OSError as problem:
            self._warn(instance.id, problem)
            await asyncio.sleep(backoff.pause_s())
        finally:
            if origin is not None:
                self._gone(origin, "the sidecar is not in the catalog any more")
                while leaving := self._leaving.get(origin):  # they still ask it
                    await asyncio.wait(leaving)
                self._leaving.pop(origin, None)
            await sidecar.close()

    async def _look(self, sidecar: Sidecar, origin: Origin, backoff: Backoff) -> None:
        silent = 0
        while True:
            try:
                listed = await sidecar.streams()
            except ControlError as problem:
                silent += 1
                self._warn(origin.id, problem)
                if isinstance(problem, Gone) or silent >= SILENT_LOOKS:
                    self._gone(origin, "the sidecar has gone")
                await asyncio.sleep(backoff.pause_s())
                continue
            backoff.succeeded()
            silent = 0
            self._lists(origin, listed)
            await asyncio.sleep(self._look_s)

    def _warn(self, id: str, problem: Exception) -> None:
        extra = {"sidecar": id, "reason": str(problem)}
        self._limited.warning(id, "a sidecar does not answer", extra)

    def _lists(self, origin: Origin, listed: Sequence[Listed]) -> None:
        self._origins[origin.id] = origin
        by_name = {each.description.name: each for each in listed}
        self._apply(self._directory.listed(origin.id, by_name), "")

    def _gone(self, origin: Origin, reason: str) -> None:
        if self._origins.get(origin.id) is origin:
            del self._origins[origin.id]
            self._apply(self._directory.gone(origin.id), reason)

    def _retry(self) -> None:
        """Streams that another source had may be free now."""
        self._apply([it for it in self._directory.names() if it not in self._taken], "")

    def _apply(self, names: Sequence[str], reason: str) -> None:
        """Take these streams from whom the directory says. What ends is off the list at once; its
        lease is given back meanwhile."""
        for name in names:
            taken = self._taken.get(name)
            if taken is not None and taken[0] != self._directory.choice(name):
                del self._taken[name]
                self._leave(name, taken[1], reason or "the sidecar does not list it any more")
        for name in names:
            choice = self._directory.choice(name)
            if choice is not None and name not in self._taken:
                self._take(name, choice)

    def _take(self, name: str, choice: Choice[Listed]) -> None:
        origin, listed = self._origins.get(choice.sidecar), choice.listed
        if origin is None:
            return
        kind = ViewerStreams if listed.per_viewer else SharedStream
        taken = kind(self._streams, origin, listed.description, self._rng)
        if not listed.description.problem:  # (what plays makes no way for what does not)
            self._make_way(name)
        try:
            taken.start()
        except StreamTaken as problem:
            extra = {"sidecar": choice.sidecar, "reason": str(problem)}
            self._limited.log(logging.INFO, f"taken {name}", "a stream stands by", extra)
        except (OSError, ValueError) as problem:
            extra = {"stream": name, "sidecar": choice.sidecar, "reason": str(problem)}
            self._limited.warning(name, "a stream cannot be opened", extra)
        else:
            self._taken[name] = (choice, taken)
            log.info("a stream is taken", extra={"stream": name, "sidecar": choice.sidecar})

    def _leave(self, name: str, taken: SharedStream | ViewerStreams, reason: str) -> None:
        self._refused += taken.refused
        taken.close(reason)
        task = self._background(asyncio.create_task(taken.end(), name=f"leave {name}"))
        leaving = self._leaving.setdefault(taken.origin, set())
        leaving.add(task)
        task.add_done_callback(leaving.discard)

    def _background(self, task: asyncio.Task[None]) -> asyncio.Task[None]:
        """Have `stop` wait for it."""
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
        return task


async def addresses_of(host: str) -> tuple[Network, ...]:
    """The networks of a host's addresses: one each. Raises OSError (TimeoutError among them)."""
    with suppress(ValueError):
        return (ipaddress.ip_network(host),)
    async with asyncio.timeout(RESOLVE_S):
        found = await asyncio.get_running_loop().getaddrinfo(host, None)
    return tuple({ipaddress.ip_network(str(sockaddr[0])) for *_, sockaddr in found})
