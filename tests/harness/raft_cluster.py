"""Server agents' consensus in one process: real sockets, real logs, a tiny state machine.

Addresses live in a dictionary that plays gossip's part, so they can all change at a restart.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.harness.eventually import eventually

from callboard.agent.consensus.disk import LocalDisk, MemoryDisk
from callboard.agent.consensus.driver import RaftDriver
from callboard.agent.consensus.serving import ConsensusService
from callboard.agent.consensus.settings import ConsensusSettings
from callboard.agent.consensus.surroundings import Surroundings
from callboard.agent.rpc import Dialer, LocalMember, RpcClient, RpcServer
from callboard.raft.messages import SnapshotMetadata

FAST = ConsensusSettings(
    bootstrap_expect=3,
    heartbeat_interval_s=0.05,
    election_timeout_s=0.25,
    segment_bytes=1 << 20,
)


class ListState:
    """A state machine: the list of all commands. `apply` answers how many there are."""

    def __init__(self) -> None:
        self.commands: list[bytes] = []
        self.applied_index = 0
        self.restored = 0

    def apply(self, index: int, command: bytes) -> object:
        assert index == self.applied_index + 1
        self.applied_index = index
        self.commands.append(command)
        return len(self.commands)

    def advance(self, index: int) -> None:
        assert index == self.applied_index + 1
        self.applied_index = index

    def snapshot(self) -> Iterator[bytes]:
        pinned = list(self.commands)

        def chunks() -> Iterator[bytes]:
            for command in pinned:
                yield len(command).to_bytes(4, "big") + command

        return chunks()

    def restore(self, metadata: SnapshotMetadata, chunks: Iterator[bytes]) -> None:
        for _ in self.restore_slices(metadata, chunks):
            pass

    def restore_slices(self, metadata: SnapshotMetadata, chunks: Iterator[bytes]) -> Iterator[None]:
        commands = []
        for chunk in chunks:
            commands.append(chunk[4:])
            yield
        self.commands = commands
        self.applied_index = metadata.index
        self.restored += 1

    def hash(self) -> int:
        return zlib.crc32(b"\0".join(self.commands))


@dataclass
class Server:
    """One server agent's consensus."""

    node_id: str
    settings: ConsensusSettings
    addresses: dict[str, str]
    data: MemoryDisk = field(default_factory=lambda: MemoryDisk(remembers=True))
    raft: MemoryDisk | LocalDisk = field(default_factory=lambda: MemoryDisk(remembers=True))
    fatal: list[str] = field(default_factory=list)
    slices: int = 0
    running: bool = False

    async def start(self, host: str = "127.0.0.1", *, seed: int = 0) -> None:
        """Start on what its disks hold."""
        await self.listen(host, seed=seed)
        await self.driver.start()
        self.running = True

    async def listen(self, host: str = "127.0.0.1", *, seed: int = 0) -> None:
        """The first half of a start: it can be asked, and has not looked at its disks."""
        rng = random.Random(f"{self.node_id}/{seed}")
        self.local = LocalMember(self.node_id, f"agent-{self.node_id}", "dc1")
        self.state = ListState()
        self.server = RpcServer(self.local)
        dialer = Dialer(self.local)
        self.client = RpcClient(dialer)
        self.driver = RaftDriver(
            self.settings,
            self.local,
            Surroundings(
                data=self.data,
                raft=self.raft,
                state=self.state,
                server=self.server,
                client=self.client,
                dialer=dialer,
                address_of=self.addresses.get,
                servers=lambda: {i: a for i, a in self.addresses.items() if i != self.node_id},
                after_apply=self._after_apply,
                on_fatal=self.fatal.append,
                state_hash=self._hash,
                rng=rng,
            ),
        )
        ConsensusService(self.driver).register(self.server)
        await self.server.start(host, 0)
        self.addresses[self.node_id] = self.server.address

    async def stop(self) -> None:
        """Gracefully."""
        if self.running:
            self.running = False
            await self.driver.stop()
            await self.client.stop()
            await self.server.stop()
            self.addresses.pop(self.node_id, None)

    async def crash(self, *, power_cut: bool = True) -> None:
        """At once: nothing more is sent, written or handed over; unsynced bytes are gone."""
        member = self.driver._member
        if member is not None:
            member.dead = True
        await self.server.stop()
        await self.client.stop()
        self.addresses.pop(self.node_id, None)
        await self.driver.stop()
        self.running = False
        if power_cut:
            self.data.lose_unsynced()
            if isinstance(self.raft, MemoryDisk):
                self.raft.lose_unsynced()

    def _after_apply(self) -> None:
        self.slices += 1

    def _hash(self) -> int:
        return self.state.hash()


class Cluster:
    """Some servers that know each other's addresses."""

    def __init__(self, count: int, settings: ConsensusSettings) -> None:
        self.addresses: dict[str, str] = {}
        self.servers = [Server(f"id-{n}", settings, self.addresses) for n in range(1, count + 1)]

    @property
    def running(self) -> list[Server]:
        return [server for server in self.servers if server.running]

    async def leader(self) -> Server:
        """The one leader that all running servers agree on, ready."""

        def agreed() -> Server | None:
            leaders = [server for server in self.running if server.driver.is_leader]
            if len(leaders) != 1:
                return None
            known = {
                server.driver.leader and server.driver.leader.node_id for server in self.running
            }
            ready = all(server.driver.ready for server in self.running)
            return leaders[0] if known == {leaders[0].node_id} and ready else None

        leader = await eventually(agreed)
        assert leader is not None
        return leader

    async def followers(self) -> list[Server]:
        """The others."""
        leader = await self.leader()
        return [server for server in self.running if server is not leader]

    async def converged(self, commands: list[bytes]) -> None:
        """All running servers hold exactly these commands."""
        await eventually(lambda: all(s.state.commands == commands for s in self.running))


@asynccontextmanager
async def cluster(
    count: int = 3,
    settings: ConsensusSettings = FAST,
    *,
    prepare: Callable[[Cluster], None] = lambda made: None,
) -> AsyncIterator[Cluster]:
    """A running cluster; whatever still runs at the end is stopped, and must not have failed."""
    made = Cluster(count, settings)
    prepare(made)
    try:
        for server in made.servers:
            await server.start()
        yield made
    finally:
        for server in made.servers:
            if server.running:
                await server.stop()
