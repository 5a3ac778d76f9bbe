"""One server's consensus as production assembles it, on a simulated host.

Driver, log, snapshots, formation, rpc, links and state store are the real ones; loop, wires and
disks are simulated, and a dictionary plays gossip's part.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from contextvars import Context
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from tests.harness.simulation.production.disk import VirtualDisk, VirtualThread
from tests.harness.simulation.production.laws import Laws, WatchedStore
from tests.harness.simulation.production.loop import Process, VirtualLoop
from tests.harness.simulation.production.wires import PORT, Fabric, Unruly

from callboard.agent.consensus.driver import RaftDriver
from callboard.agent.consensus.network import PeerNetwork
from callboard.agent.consensus.serving import ConsensusService
from callboard.agent.consensus.settings import ConsensusSettings
from callboard.agent.consensus.surroundings import Surroundings
from callboard.agent.rpc import Dialer, LocalMember, RpcClient, RpcServer

T = TypeVar("T")

GOSSIP_S = 0.3
"""Within this the others know a new address."""


@dataclass(slots=True)
class Town:
    """What all servers of a run share."""

    loop: VirtualLoop
    fabric: Fabric
    laws: Laws
    settings: ConsensusSettings
    addresses: dict[str, str]
    """Node id → "ip:port", as everybody believes it."""
    graves: list[Process]


class Gone(Exception):
    """The server asked does not answer: what became of the question is unknown."""


class Server:
    """One server through its lives."""

    def __init__(self, number: int, town: Town, rng: random.Random) -> None:
        self.name = f"n{number}"
        self.node_id = f"id-{number}"
        self.host = f"10.0.0.{number}"
        self.town = town
        self.data = VirtualDisk(rng)
        self.raft = VirtualDisk(rng)
        self.process = Process(self.name)
        self.process.dead = True
        self.store: WatchedStore
        self.driver: RaftDriver | None = None
        """Consensus, once it has started."""
        self.lives = 0
        self.known_at_boot = 0
        """What clients had been told when this life began."""
        self.on_left: Callable[[Server], None] = lambda server: None
        """Called when consensus makes the process leave."""
        self._rng = rng
        self._threads: list[VirtualThread] = []

    @property
    def up(self) -> bool:
        """It lives, though it may be stopped."""
        return not self.process.dead

    def boot(self, host: str = "") -> None:
        """Start on what the disks hold, perhaps at another address."""
        assert not self.up
        self.lives += 1
        self.host = host or self.host
        self.process = Process(self.name)
        self._threads = []
        self.driver = None
        self.data.repair()
        self.raft.repair()
        self.known_at_boot = self.town.laws.acknowledged
        self.town.fabric.move_in(self.host, self.process)
        self.town.loop.begin(self.process, self._live())

    async def _live(self) -> None:
        town = self.town
        try:
            self.driver = await self._assemble()
        except Exception as problem:
            # Nothing on these disks may keep a server from starting.
            town.laws.broken.append(f"{self.name} does not start: {problem!r}")
            raise
        town.loop.call_later(
            self._rng.random() * GOSSIP_S,
            lambda: town.addresses.__setitem__(self.node_id, f"{self.host}:{PORT}"),
        )

    async def _assemble(self) -> RaftDriver:
        town, local = self.town, LocalMember(self.node_id, self.name, "dc1")
        self.store = WatchedStore(self.name, town.laws)
        self.rpc, dialer = RpcServer(local), Dialer(local, source_address=self.host)
        self.client = RpcClient(dialer)
        rng = random.Random(self._rng.getrandbits(64))
        driver = RaftDriver(
            town.settings,
            local,
            Surroundings(
                data=self.data,
                raft=self.raft,
                state=self.store,
                server=self.rpc,
                client=self.client,
                dialer=dialer,
                address_of=town.addresses.get,
                servers=lambda: {i: a for i, a in town.addresses.items() if i != self.node_id},
                after_apply=lambda: None,
                on_fatal=self._leave,
                state_hash=self.store.state_hash,
                network=self._network,
                disk_thread=self._thread,
                now=town.loop.time,
                rng=rng,
            ),
        )
        ConsensusService(driver).register(self.rpc)
        driver.listen(lambda: self._look(driver))
        await self.rpc.start(self.host, PORT)
        await driver.start()
        return driver

    def _network(self, *arguments: Any, **hooks: Any) -> Unruly:
        rng = random.Random(self._rng.getrandbits(64))
        return Unruly(PeerNetwork(*arguments, **hooks), self.town.fabric.weather, rng)

    def _thread(self, name: str) -> VirtualThread:
        thread = VirtualThread(self.raft)
        self._threads.append(thread)
        return thread

    def _look(self, driver: RaftDriver) -> None:
        """What can be seen of it is lawful."""
        laws = self.town.laws
        if driver.is_leader:
            laws.leads(driver.term, self.name)
        if driver.ready:
            laws.check(
                self.store.applied_index >= self.known_at_boot,
                f"READY: {self.name} calls itself ready before {self.known_at_boot} is applied",
            )

    # its ends ---------------------------------------------------------------------------------

    def _leave(self, reason: str) -> None:
        """Consensus asks the process to leave: only an error of the disk may make it."""
        if not (self.raft.failed or self.data.failed):
            self.town.laws.broken.append(f"{self.name} leaves: {reason}")
        self.town.loop.call_soon(self.crash, False, context=Context())
        self.on_left(self)

    def crash(self, power: bool) -> None:
        """SIGKILL, or the power goes. Either way unsynced bytes may be lost."""
        if not self.up:
            return
        town = self.town
        half_done = [work for thread in self._threads for work in thread.under_way()]
        town.loop.kill(self.process)
        self.silence()
        town.graves.append(self.process)
        town.fabric.died(self.process, told=not power)
        self.raft.power_cut(half_done)
        self.data.power_cut([])

    def silence(self) -> None:
        """What is left of it does nothing any more, however it is unwound."""
        if self.driver is not None and self.driver._member is not None:
            self.driver._member.dead = True

    async def stop(self) -> None:
        """Gracefully, as SIGTERM does."""
        process = self.process

        async def leave(driver: RaftDriver) -> None:
            await driver.stop()
            await self.client.stop()
            await self.rpc.stop()

        try:
            await self.ask(leave, 20.0)
        except Gone:
            pass
        if self.process is process:
            self.crash(False)

    # asked from outside -----------------------------------------------------------------------

    async def ask(
        self, question: Callable[[RaftDriver], Coroutine[Any, Any, T]], timeout_s: float
    ) -> T:
        """Ask the driver within its process. Raises Gone if no answer comes out of it in time."""
        driver, loop = self.driver, self.town.loop
        if not self.up or driver is None:
            raise Gone(self.name)
        answer: asyncio.Future[T] = loop.create_future()

        async def carry() -> None:
            try:
                result = await question(driver)
            except Exception as problem:
                if not answer.done():
                    answer.set_exception(problem)
            else:
                if not answer.done():
                    answer.set_result(result)

        task = loop.begin(self.process, carry())
        try:
            async with asyncio.timeout(timeout_s):
                return await answer
        except TimeoutError:
            raise Gone(self.name) from None
        finally:
            loop.call_soon(_cancel, task, context=self.process.context)


def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()


def small(settings: ConsensusSettings, rng: random.Random) -> ConsensusSettings:
    """Thresholds that a short run reaches."""
    return replace(
        settings,
        snapshot_threshold=rng.choice((5, 20, 200)),
        snapshot_trailing=rng.choice((0, 3, 100)),
        state_hash_interval=rng.choice((4, 32)),
        segment_bytes=rng.choice((4_096, 16_384, 1 << 20)),
    )
