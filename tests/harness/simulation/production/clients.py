"""Clients of the simulated servers: each asks one thing at a time, of any server.

Keys are registers (set, check-and-set, get behind a read barrier); services are registered with
request ids, and asked for again until somebody acknowledges, as agents do.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Sequence

from tests.harness.linearizability import Kind, Operation
from tests.harness.simulation.production.loop import VirtualLoop
from tests.harness.simulation.production.server import Gone, Server

from callboard.agent.consensus.driver import RaftDriver
from callboard.agent.ports import Applied, EngineError, NoLeader
from callboard.catalog.commands import KeyValueSet, Register, encode_command
from callboard.catalog.objects import KeyValue, Node, ServiceInstance

KEYS_AT_ONCE = 2
"""Keys that a group of clients asks for."""
UNKNOWN_MAX = 8
"""A key with so many questions whose outcome is unknown is left alone: the checker's limit."""


class Clients:
    """All clients of a run, and what they saw."""

    def __init__(self, loop: VirtualLoop, servers: Sequence[Server], rng: random.Random) -> None:
        self.history: list[Operation] = []
        self.registrations: dict[str, list[int]] = {}
        """Service id → the ports registered: (acknowledged, asked for last)."""
        self.pace_s = rng.choice((0.005, 0.03, 0.15))
        self.barriers = True
        self._loop = loop
        self._servers = servers
        self._rng = rng
        self._clock = itertools.count()
        self._values = itertools.count(1)
        self._unknown: dict[str, int] = {}

    async def ask_keys(self, group: int) -> None:
        """One client of keys, for ever; a group's clients ask for the same ones."""
        while True:
            # Fresh keys every second: short histories are quickly checked.
            await self._ask_key(
                f"{int(self._loop.time())}/{group}/{self._rng.randrange(KEYS_AT_ONCE)}"
            )
            await asyncio.sleep(self._rng.random() * 2 * self.pace_s)

    async def _ask_key(self, key: str) -> None:
        if self._unknown.get(key, 0) >= UNKNOWN_MAX:
            return
        server = self._rng.choice(self._servers)
        luck = self._rng.random()
        try:
            if luck < 0.4:
                await self.get(server, key)
            elif luck < 0.75:
                await self.set(server, key)
            else:
                found = await self.get(server, key)
                await self.set(self._rng.choice(self._servers), key, instead_of=found)
        except (EngineError, Gone):
            await asyncio.sleep(0.02)

    async def get(self, server: Server, key: str, timeout_s: float = 3.0) -> KeyValue | None:
        """A linearizable read. Raises EngineError or Gone."""
        operation = Operation(key, Kind.READ, next(self._clock))

        async def question(driver: RaftDriver) -> KeyValue | None:
            if self.barriers:
                await driver.read_index(timeout_s)
            return server.store.key(key)

        found = await server.ask(question, timeout_s + 1.0)
        operation.value = found.value if found is not None else None
        operation.answered_at = next(self._clock)
        self.history.append(operation)
        return found

    async def set(
        self,
        server: Server,
        key: str,
        *,
        instead_of: KeyValue | None = None,
        timeout_s: float = 3.0,
    ) -> None:
        """A write, or a check-and-set. Raises EngineError or Gone."""
        value = b"%d" % next(self._values)
        kind = Kind.WRITE if instead_of is None else Kind.SWAP
        operation = Operation(
            key,
            kind,
            next(self._clock),
            value,
            instead_of.value if instead_of is not None else None,
        )
        modify_index = instead_of.modify_index if instead_of is not None else -1
        command = encode_command(KeyValueSet(key, value, check_and_set=modify_index))
        self.history.append(operation)
        try:
            applied = await self._propose(server, command, timeout_s)
        except NoLeader:
            self.history.remove(operation)  # Nothing was done.
            raise
        except (EngineError, Gone):
            self._unknown[key] = self._unknown.get(key, 0) + 1
            raise
        if kind is Kind.SWAP:
            operation.swapped = bool(applied.value)
        operation.answered_at = next(self._clock)

    async def _propose(self, server: Server, command: bytes, timeout_s: float) -> Applied:
        applied = await server.ask(
            lambda driver: driver.propose(command, timeout_s), timeout_s + 1.0
        )
        server.town.laws.told(applied.index, command)
        return applied

    async def register(self, service: str) -> None:
        """One agent that registers a service again and again, with one port after another."""
        known = self.registrations.setdefault(service, [0, 0])
        for port in itertools.count(1):
            known[1] = port
            command = encode_command(
                Register(
                    Node(name="node-" + service, address="10.1.1.1"),
                    ServiceInstance(node="node-" + service, id=service, service=service, port=port),
                    request_id=b"%s/%d" % (service.encode(), port),
                )
            )
            while known[0] < port:
                try:
                    await self._propose(self._rng.choice(self._servers), command, 2.0)
                    known[0] = port
                except (EngineError, Gone):
                    await asyncio.sleep(0.05)
            await asyncio.sleep(self._rng.random() * 4 * self.pace_s)

    def asked(self) -> list[str]:
        """Every key that was asked for."""
        return list(dict.fromkeys(operation.key for operation in self.history))
