"""A cluster of production servers in virtual time, its clients, and its enemy.

    run(seed=17)      # raises what went wrong

One number decides everything: the same seed plays the same run, event by event.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import random
from collections import Counter
from collections.abc import Callable
from contextvars import Context

from tests.harness.linearizability import check
from tests.harness.simulation.production.clients import Clients
from tests.harness.simulation.production.laws import Laws
from tests.harness.simulation.production.loop import VirtualLoop
from tests.harness.simulation.production.server import Gone, Server, Town, small
from tests.harness.simulation.production.wires import Fabric, Weather

from callboard.agent.consensus.driver import STOP_WRITE_TIMEOUT_S
from callboard.agent.consensus.settings import ConsensusSettings
from callboard.agent.ports import EngineError

TORMENT_S = 8.0
FORMING_S = 10.0
"""Undisturbed, a cluster is founded within this."""
STOPS_WITHIN_S = STOP_WRITE_TIMEOUT_S + 3.0
ELECTION_TIMEOUTS = 10
"""After the end of all faults there is a leader, and progress, within so many."""
SETTLED_S = 20.0


def weather_of(rng: random.Random) -> Weather:
    """How the network is in a run."""
    weather = Weather(
        delay_s=rng.choice(((0.0002, 0.002), (0.001, 0.03), (0.005, 0.1))),
        split=rng.choice((0.0, 0.1)),
    )
    if rng.random() < 0.5:
        weather.lost = rng.choice((0.0, 0.02, 0.15))
        weather.doubled = rng.choice((0.0, 0.1))
        weather.late = rng.choice((0.0, 0.1))
        weather.late_by_s = rng.choice((0.05, 0.5, 2.0))
    return weather


class Cluster:
    """Servers n1, n2 …, down; `run()` is a whole run."""

    def __init__(self, seed: int, members: int) -> None:
        self.rng = rng = random.Random(seed)
        self.loop = VirtualLoop()
        self.fabric = self.loop.wires = Fabric(self.loop, rng)
        self.weather = self.fabric.weather = weather_of(rng)
        self.laws = Laws()
        self.faults: Counter[str] = Counter()
        settings = small(ConsensusSettings(bootstrap_expect=members), rng)
        self.town = Town(self.loop, self.fabric, self.laws, settings, {}, [])
        self.servers = [Server(number, self.town, rng) for number in range(1, members + 1)]
        self.clients = Clients(self.loop, self.servers, rng)
        self.settings = settings
        self._pace_s = rng.choice((0.1, 0.3, 1.0))
        self._strikes = rng.choice((0.0, 0.5))
        """Share of elections that the enemy waits for."""
        self._peace = True
        self._moves = 0
        self._background: list[asyncio.Task[None]] = []
        self.laws.on_leader = self._elected
        for server in self.servers:
            server.raft.latency_s = (0.0001, rng.choice((0.001, 0.02, 0.1)))
            server.on_left = self._boot_later

    def play(self) -> None:
        """The whole run. Raises what went wrong."""
        loop = self.loop
        try:
            asyncio.set_event_loop(loop)
            loop.run_until_complete(self._run())
            check(self.clients.history)
        finally:
            try:
                loop.run_until_complete(self._bury())
            finally:
                asyncio.set_event_loop(None)
                loop.close()
        self._look()

    async def _run(self) -> None:
        for server in self.servers:
            self.loop.call_later(self.rng.random() * 0.5, self._boot, server)
        if self.rng.random() < 0.5:
            await self._until(lambda: self.leader is not None, FORMING_S, "founded")
        works = [self.clients.ask_keys(group) for group in range(3) for _ in range(3)]
        works += [self.clients.register(name) for name in ("web", "db")]
        self._background = [self.loop.create_task(work) for work in works]
        enemy = self.loop.create_task(self._enemy())
        self._peace = False
        try:
            await self._live(TORMENT_S)
            enemy.cancel()
            self._peace = True
            self.heal()
            await self._recovers()
        finally:
            enemy.cancel()
            await self._rest()
        await self._settles()

    async def _bury(self) -> None:
        await self._rest()
        everything = [*self.town.graves, *(server.process for server in self.servers)]
        tasks = [task for process in everything for task in process.tasks]
        for server in self.servers:
            server.silence()
        self.loop.bury(everything)
        await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 60.0)

    async def _rest(self) -> None:
        """No client asks any more."""
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        self._background = []

    async def _live(self, seconds: float) -> None:
        until = self.loop.time() + seconds
        while self.loop.time() < until:
            await asyncio.sleep(0.1)
            self._look()

    def _look(self) -> None:
        """Something may have been raised where it was caught."""
        broken = self.laws.broken + self.loop.problems
        assert not broken, "; ".join(broken[:5])
        for task in self._background:
            if task.done() and not task.cancelled():
                task.result()

    async def _until(self, fact: Callable[[], bool], within_s: float, what: str) -> None:
        until = self.loop.time() + within_s
        while not fact():
            self._look()
            assert self.loop.time() < until, f"LIVENESS: not {what} within {within_s} s"
            await asyncio.sleep(0.02)

    @property
    def leader(self) -> Server | None:
        """Whoever leads the latest term, awake."""
        leading = [
            server
            for server in self.servers
            if server.process.running and server.driver is not None and server.driver.is_leader
        ]
        return max(leading, key=lambda each: each.driver.term if each.driver else 0, default=None)

    # the end ----------------------------------------------------------------------------------

    def heal(self) -> None:
        """Everybody is up, awake and connected from now on."""
        self.fabric.heal()
        self.fabric.weather.lost = self.fabric.weather.doubled = self.fabric.weather.late = 0.0
        self.fabric.weather.delay_s = (0.0002, 0.002)
        for server in self.servers:
            server.raft.latency_s, server.raft.stalled_until = (0.0001, 0.001), 0.0
            server.raft.disarm()
            self._go_on(server)
            if not server.up:
                self._boot(server)

    async def _recovers(self) -> None:
        limit_s = ELECTION_TIMEOUTS * self.settings.election_s
        # Who was told to stop on a disk that hung still waits for it, as long as it may.
        await self._until(self._none_stops, STOPS_WITHIN_S, "over with stopping")
        healed_at = self.loop.time()
        await self._until(lambda: self.leader is not None, limit_s, "led")
        for server in self.servers:
            for attempt in itertools.count():
                try:
                    left_s = healed_at + limit_s - self.loop.time()
                    assert left_s > 0, f"LIVENESS: no write through {server.name} in {limit_s} s"
                    await self.clients.set(
                        server, f"healed/{server.name}/{attempt}", timeout_s=left_s
                    )
                    break
                except (EngineError, Gone):
                    self._look()
                    await asyncio.sleep(0.05)
        self._look()

    def _none_stops(self) -> bool:
        return not any(each.driver is not None and each.driver._stopping for each in self.servers)

    async def _settles(self) -> None:
        """All servers agree, and everything acknowledged is there, by every one of them."""
        await self._until(self._agreed, SETTLED_S, "of one mind")
        stores = [server.store for server in self.servers]
        assert len({store.state_hash() for store in stores}) == 1
        for key in self.clients.asked():
            for server in self.servers:
                await self.clients.get(server, key)
        for service, (acknowledged, asked) in self.clients.registrations.items():
            for store in stores:
                port = max((each.port for each in store.service_instances(service)), default=0)
                assert acknowledged <= port <= asked, f"LOST: {service} at port {port}"
        self._look()

    def _agreed(self) -> bool:
        drivers = [server.driver for server in self.servers if server.driver is not None]
        return (
            len(drivers) == len(self.servers)
            and all(driver.ready for driver in drivers)
            and len({driver.applied_index for driver in drivers}) == 1
            and all(driver.applied_index == driver.commit_index for driver in drivers)
        )

    # the enemy --------------------------------------------------------------------------------

    async def _enemy(self) -> None:
        moves = [getattr(self, name) for name in dir(self) if name.startswith("_do_")]
        while True:
            await asyncio.sleep(self.rng.random() * 2 * self._pace_s)
            move = self.rng.choice(moves)
            self.faults[move.__name__.removeprefix("_do_")] += 1
            move(self.rng.choice(self.servers))

    def _boot(self, server: Server) -> None:
        if server.up:
            return
        host = ""
        if self.rng.random() < 0.2:
            self._moves += 1
            host = f"10.0.{self._moves}.{server.node_id.removeprefix('id-')}"
        server.boot(host)

    def _do_crash(self, server: Server) -> None:
        if server.up:
            server.crash(self.rng.random() < 0.5)
            self._boot_later(server, self.rng.choice((0.05, 0.5, 4.0)))

    def _boot_later(self, server: Server, within_s: float = 1.0) -> None:
        # (in nobody's context: the server's own is dead by then)
        delay_s = self.rng.uniform(0.001, within_s)
        self.loop.call_later(delay_s, self._boot, server, context=Context())

    def _do_crash_leader(self, _: Server) -> None:
        if self.leader is not None:
            self._do_crash(self.leader)

    def _do_crash_all(self, _: Server) -> None:
        if self.rng.random() < 0.5:
            for server in self.servers:
                self._do_crash(server)

    def _do_stop(self, server: Server) -> None:
        async def restart() -> None:
            await server.stop()
            self._boot(server)

        if server.process.running:
            self._background.append(self.loop.create_task(restart()))

    def _do_isolate(self, server: Server) -> None:
        others = [each.name for each in self.servers if each is not server]
        self.fabric.cut((server.name, other) for other in others)
        self.fabric.cut((other, server.name) for other in others)
        self._heal_later()

    def _elected(self, name: str) -> None:
        """The worst moment: a vote was just cast. Its leader is alone, its voters forget."""
        if not self._peace and self.rng.random() < self._strikes:
            self.faults["strike"] += 1
            self.loop.call_soon(self._strike, name, context=Context())

    def _strike(self, name: str) -> None:
        for server in self.servers:
            if server.name == name:
                self._do_isolate(server)
            elif server.up and self.rng.random() < 0.6:
                server.crash(self.rng.random() < 0.5)
                self._boot_later(server, 0.05)

    def _heal_later(self) -> None:
        delay_s = self.rng.uniform(0.1, 3.0)
        self.loop.call_later(delay_s, self.fabric.heal)

    def _do_bridge(self, server: Server) -> None:
        """The others hear nothing of each other, but all of this one."""
        others = [each.name for each in self.servers if each is not server]
        self.fabric.cut((one, other) for one in others for other in others if one != other)
        self._heal_later()

    def _do_cut_one_way(self, _: Server) -> None:
        self.fabric.cut(
            (one.name, other.name)
            for one in self.servers
            for other in self.servers
            if one is not other and self.rng.random() < 0.3
        )
        self._heal_later()

    def _do_heal(self, _: Server) -> None:
        self.fabric.heal()

    def _do_pause(self, server: Server) -> None:
        if server.process.running:
            self.loop.pause(server.process)
            self.loop.call_later(self.rng.choice((0.1, 0.7, 2.0)), self._go_on, server)

    def _go_on(self, server: Server) -> None:
        if server.process.paused:
            self.loop.go_on(server.process)

    def _do_stall(self, server: Server) -> None:
        server.raft.stalled_until = self.loop.time() + self.rng.choice((0.1, 0.4, 1.5))

    def _do_fail_disk(self, server: Server) -> None:
        if server.up and self.rng.random() < 0.5:
            server.raft.fail_next_sync(self.rng.choice((errno.EIO, errno.ENOSPC)))

    def _do_break_connections(self, server: Server) -> None:
        if server.up:
            self.fabric.break_connections(server.process)

    def _do_transfer(self, _: Server) -> None:
        leader = self.leader
        if leader is not None:
            self._background.append(self.loop.create_task(self._transfer(leader)))

    async def _transfer(self, leader: Server) -> None:
        try:
            await leader.ask(lambda driver: driver.transfer_leadership(), 3.0)
        except Gone:
            pass


def run(seed: int, members: int = 3) -> Cluster:
    """One run; raises what went wrong, and answers the cluster for a look at what happened."""
    cluster = Cluster(seed, members)
    cluster.play()
    return cluster
