"""TCP between simulated processes: bytes arrive late, in pieces, in order, or not at all.

A cut way delays what is sent on it, as retransmission does; after ten seconds the connection is
given up. A killed process's peers are told by a reset, but not when the power went: then only
once the host is up again. `Unruly` is for the driver's own network seam: Raft must bear messages
that are lost, doubled and reordered too, though TCP does none of that.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Iterable
from contextvars import Context
from dataclasses import dataclass
from typing import Any

from tests.harness.simulation.production.loop import CURRENT, Process, VirtualLoop

from callboard.agent.consensus.network import PeerNetwork
from callboard.agent.consensus.transfer import SnapshotInbox
from callboard.raft.messages import Message

RETRANSMIT_S = 0.1
USER_TIMEOUT_S = 10.0
"""As the rpc connections set it."""
KERNEL_BYTES = 200_000
"""What the kernel takes before a writer notices."""
PORT = 8300


@dataclass(slots=True)
class Weather:
    """How the network is in this run. Times in seconds, the rest shares of messages."""

    delay_s: tuple[float, float] = (0.0002, 0.002)
    split: float = 0.0
    lost: float = 0.0
    doubled: float = 0.0
    late: float = 0.0
    late_by_s: float = 0.5


class Fabric:
    """All hosts, listeners and connections. A host is an address; who is there may change."""

    def __init__(self, loop: VirtualLoop, rng: random.Random) -> None:
        self.loop = loop
        self.weather = Weather()
        self.cuts: set[tuple[str, str]] = set()
        """Ways between processes, by name, on which nothing arrives."""
        self._rng = rng
        self._homes: dict[str, Process] = {}
        self._listeners: dict[str, tuple[Callable[[], asyncio.Protocol], Process]] = {}
        self._ends: list[End] = []

    def move_in(self, host: str, process: Process) -> None:
        """A process is at home at this address."""
        self._homes[host] = process

    def home_of(self, process: Process) -> str:
        """Its address."""
        return next(host for host, each in self._homes.items() if each is process)

    def is_cut(self, sender: Process, receiver: Process) -> bool:
        """Nothing arrives there from here."""
        return (sender.name, receiver.name) in self.cuts

    def cut(self, ways: Iterable[tuple[str, str]]) -> None:
        """Cut these ways, from one name to another."""
        self.cuts.update(ways)

    def heal(self) -> None:
        """Every way is open."""
        self.cuts.clear()

    def delay_s(self, rng: random.Random) -> float:
        """How long something travels."""
        return rng.uniform(*self.weather.delay_s)

    def died(self, process: Process, *, told: bool) -> None:
        """A process was killed (`told`: its kernel lives and resets its connections)."""
        ends, self._ends = self._ends, []
        for end in ends:
            if end.owner is process:
                if told:
                    end.reset_other("connection reset by peer")
                end.closed = True
            if not end.closed:
                self._ends.append(end)
        for host in [host for host, (_, owner) in self._listeners.items() if owner is process]:
            del self._listeners[host]

    def break_connections(self, process: Process) -> None:
        """Every connection of a live process is reset, on both sides."""
        for end in [end for end in self._ends if end.owner is process and not end.closed]:
            end.reset_other("broken")
            end.lose(ConnectionResetError("broken"))

    # Wires ----------------------------------------------------------------------------------

    async def listen(self, factory: Callable[[], asyncio.Protocol], host: str) -> Listener:
        owner = CURRENT.get()
        assert owner is not None and self._homes.get(host) is owner
        self._listeners[host] = factory, owner
        return Listener(host, lambda: self._listeners.pop(host, None))

    async def connect(
        self, factory: Callable[[], asyncio.Protocol], host: str, port: int
    ) -> tuple[End, asyncio.Protocol]:
        caller = CURRENT.get()
        assert caller is not None
        await asyncio.sleep(2 * self.delay_s(self._rng))
        home = self._homes.get(host)
        if home is not None:
            while (  # noqa: ASYNC110 - a kernel has nothing better
                self.is_cut(caller, home) or self.is_cut(home, caller)
            ):
                await asyncio.sleep(RETRANSMIT_S)
        listener = self._listeners.get(host)
        if listener is None:
            raise ConnectionRefusedError(f"nobody listens at {host}:{port}")
        near = End(self, caller, self.home_of(caller), host, self._rng.getrandbits(32))
        far = End(self, listener[1], host, near.here, self._rng.getrandbits(32))
        near.other, far.other = far, near
        self._ends += [near, far]
        # The other kernel takes the connection, whether or not its process runs.
        self.loop.call_soon(far.open, listener[0], context=far.owner.context)
        protocol = factory()
        near.protocol = protocol
        protocol.connection_made(near)
        return near, protocol


class Listener:
    """What `create_server` answers, as far as it is used."""

    def __init__(self, host: str, close: Callable[[], object]) -> None:
        self.sockets = [self]
        self._host = host
        self._close = close

    def getsockname(self) -> tuple[str, int]:
        """The address."""
        return self._host, PORT

    def close(self) -> None:
        """Listen no more."""
        self._close()

    async def wait_closed(self) -> None:
        """At once."""


class End(asyncio.Transport):
    """One end of a connection: the transport of its owner's protocol."""

    def __init__(self, fabric: Fabric, owner: Process, here: str, there: str, seed: int) -> None:
        super().__init__({"peername": (there, PORT), "sockname": (here, PORT)})
        self.owner = owner
        self.here = here
        self.there = there
        self.other: End
        self.protocol: asyncio.Protocol | None = None
        self.closed = False
        self._fabric = fabric
        self._loop = fabric.loop
        self._rng = random.Random(seed)
        self._wire: deque[bytes | Exception | None] = deque()
        """Sent and not arrived, in order; None is the end, an exception a reset."""
        self._wire_bytes = 0
        self._moving = False
        self._blocked_since = -1.0
        self._unread: deque[bytes] | None = None

    # asyncio.Transport ------------------------------------------------------------------------

    def write(self, data: Any) -> None:
        data = bytes(data)
        if not self.closed and data:
            if self._rng.random() < self._fabric.weather.split and len(data) > 1:
                at = self._rng.randrange(1, len(data))
                self._send(data[:at])
                data = data[at:]
            self._send(data)

    def get_write_buffer_size(self) -> int:
        return max(0, self._wire_bytes - KERNEL_BYTES)

    def close(self) -> None:
        if not self.closed:
            self._send(None)
            self.lose(None)

    def abort(self) -> None:
        if not self.closed:
            self.reset_other("connection reset by peer")
            self.lose(None)

    def is_closing(self) -> bool:
        return self.closed

    def is_reading(self) -> bool:
        return self._unread is None

    def pause_reading(self) -> None:
        self._unread = deque()

    def resume_reading(self) -> None:
        unread, self._unread = self._unread, None
        for data in unread or ():
            self._receive(data)

    # for the fabric ---------------------------------------------------------------------------

    def open(self, factory: Callable[[], asyncio.Protocol]) -> None:
        """The process takes the connection."""
        self.protocol = factory()
        self.protocol.connection_made(self)

    def reset_other(self, reason: str) -> None:
        """The other side will hear that the connection is gone; what was under way is lost."""
        self._wire.clear()
        self._wire_bytes = 0
        self._send(ConnectionResetError(reason))

    def lose(self, problem: Exception | None) -> None:
        """The owner is told that the connection is gone."""
        if not self.closed:
            self.closed = True
            self._call(self._tell_lost, problem)

    def _tell_lost(self, problem: Exception | None) -> None:
        if self.protocol is not None:
            self.protocol.connection_lost(problem)

    def _call(self, callback: Callable[..., None], *arguments: object) -> None:
        self._loop.call_soon(callback, *arguments, context=self.owner.context)

    # the wire ---------------------------------------------------------------------------------

    def _send(self, what: bytes | Exception | None) -> None:
        self._wire.append(what)
        self._wire_bytes += len(what) if isinstance(what, bytes) else 0
        if not self._moving:
            self._moving = True
            self._later(self._fabric.delay_s(self._rng))

    def _later(self, delay_s: float) -> None:
        self._loop.call_later(delay_s, self._arrive, context=_NOBODY)

    def _arrive(self) -> None:
        """What was sent first is there, if the way is open."""
        if not self._wire:
            self._moving = False
            return
        other, fabric = self.other, self._fabric
        if other.closed and not other.owner.dead:
            self._give_up(ConnectionResetError("connection reset by peer"))
            return
        home = fabric._homes.get(self.there)
        silent = other.owner.dead and home is other.owner
        if fabric.is_cut(self.owner, other.owner) or silent:
            self._wait_for_the_way()
            return
        if other.owner.dead or other.closed:
            self._give_up(ConnectionResetError("connection reset by peer"))
            return
        self._blocked_since = -1.0
        # All that was sent by now travels together.
        for _ in range(len(self._wire)):
            what = self._wire.popleft()
            if isinstance(what, bytes):
                self._wire_bytes -= len(what)
                other._call(other._receive, what)
            else:
                other._call(other._hear_end, what)
        self._moving = False

    def _wait_for_the_way(self) -> None:
        now = self._loop.time()
        if self._blocked_since < 0:
            self._blocked_since = now
        if now - self._blocked_since > USER_TIMEOUT_S:
            self._give_up(TimeoutError("the other side acknowledges nothing"))
        else:
            self._later(RETRANSMIT_S * self._rng.uniform(0.5, 2.0))

    def _give_up(self, problem: Exception) -> None:
        self._wire.clear()
        self._wire_bytes = 0
        self._moving = False
        self.lose(problem)

    def _receive(self, data: bytes) -> None:
        if self.closed or self.protocol is None:
            return
        if self._unread is not None:
            self._unread.append(data)
        else:
            self.protocol.data_received(data)

    def _hear_end(self, problem: Exception | None) -> None:
        if not self.closed:
            self.closed = True
            self._tell_lost(problem)


_NOBODY = Context()
"""The kernel's: what travels does not stop with a process."""


class Unruly:
    """The driver's network, on bad terms with its messages."""

    def __init__(self, inner: PeerNetwork, weather: Weather, rng: random.Random) -> None:
        self._inner = inner
        self._weather = weather
        self._rng = rng

    def start(self, peers: Iterable[str]) -> None:
        self._inner.start(peers)

    def send(self, message: Message) -> bool:
        luck, weather = self._rng.random(), self._weather
        if luck < weather.lost:
            return True
        if luck < weather.lost + weather.doubled:
            self._later(message)
        elif luck < weather.lost + weather.doubled + weather.late:
            self._later(message)
            return True
        return self._inner.send(message)

    def _later(self, message: Message) -> None:
        delay_s = self._rng.random() * self._weather.late_by_s
        asyncio.get_running_loop().call_later(delay_s, self._inner.send, message)

    async def send_snapshot(self, message: Message, snapshots: SnapshotInbox) -> bool:
        return await self._inner.send_snapshot(message, snapshots)

    async def stop(self) -> None:
        await self._inner.stop()
