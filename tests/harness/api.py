"""The HTTP API on a real StateStore, without Raft, gossip or checks: fakes at the agent's seams."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from callboard.agent.http.application import Api, build_api
from callboard.agent.http.context import ApiContext
from callboard.agent.membership.key_manager import KeyManager
from callboard.agent.membership.settings import Settings as MembershipSettings
from callboard.agent.ports import Applied, Leader, LocalCheck, LocalError, NoLeader
from callboard.agent.state.store import StateStore
from callboard.catalog.commands import Command, Deregister, Register, encode_command
from callboard.catalog.definitions import CheckDefinition, ServiceDefinition
from callboard.catalog.objects import Node
from callboard.serve import FanOut, Limits, Server, TimerWheel
from callboard.swim.key_queries import KeyAction, KeyTally, encode_key_response
from callboard.swim.serf import Serf
from callboard.swim.serf_members import MemberStatus, SerfMember
from callboard.swim.serf_messages import QueryResponse


class LocalEngine:
    """An engine of one: what is proposed is applied at once."""

    def __init__(self, store: StateStore) -> None:
        self.store = store
        self.ready = True
        self.leader: Leader | None = Leader("id-1", "127.0.0.1:8300")
        self.last_contact_s = 0.0
        self.term = 1
        self.voters: tuple[tuple[str, str], ...] = (("id-1", "127.0.0.1:8300"),)
        self.barriers = 0

    @property
    def is_leader(self) -> bool:
        return self.leader is not None

    @property
    def commit_index(self) -> int:
        return self.store.applied_index

    async def propose(self, command: bytes, timeout_s: float = 7.0) -> Applied:
        if self.leader is None:
            raise NoLeader
        return Applied(*self.commit(command))

    async def read_index(self, timeout_s: float = 7.0) -> int:
        if self.leader is None:
            raise NoLeader
        self.barriers += 1
        return self.store.applied_index

    def commit(self, command: bytes) -> tuple[int, object]:
        """Apply a command now and wake whom it concerns."""
        index = self.store.applied_index + 1
        value = self.store.apply(index, command)
        for waiter in self.store.drain_woken():
            waiter.wake()
        return index, value


KEY = b"k" * 32


class LoneKeys:
    """A real keyring, asked as if this agent were the cluster; `silent` others do not answer."""

    def __init__(self) -> None:
        settings = MembershipSettings(name="agent-1", keys=(KEY,))
        self.manager = KeyManager(settings, _nowhere, lambda work: None, lambda: None)
        self.silent = 0
        self.relay_factors: list[int] = []

    async def ask(self, action: KeyAction, key: bytes = b"", relay_factor: int = 0) -> KeyTally:
        self.relay_factors.append(relay_factor)
        tally = KeyTally(1 + self.silent)
        payload = encode_key_response(await self.manager.change(action, key))
        tally.add(QueryResponse(1, 1, "agent-1", 0, payload))
        return tally


def _nowhere() -> Serf:
    raise AssertionError("there is no gossip here")


class FakeMembership:
    """Members that a test sets."""

    def __init__(self) -> None:
        self.keys = LoneKeys()
        self.known: list[SerfMember] = [
            SerfMember(
                "agent-1",
                "127.0.0.1",
                8301,
                {"role": "callboard", "srv": "1", "dc": "dc1", "id": "id-1", "port": "8300"},
                MemberStatus.ALIVE,
            )
        ]
        self.joined: list[str] = []
        self.forced: list[tuple[str, bool]] = []

    def members(self) -> Sequence[SerfMember]:
        return self.known

    async def join(self, addresses: Sequence[str]) -> int:
        if "nowhere" in addresses:
            raise OSError("no member answers at nowhere")
        self.joined.extend(addresses)
        return len(addresses)

    async def force_leave(self, name: str, prune: bool = False) -> None:
        self.forced.append((name, prune))


class FakeRegistry:
    """A local registry that writes straight into the catalog and runs no check."""

    def __init__(self, engine: LocalEngine, node: Node) -> None:
        self._engine = engine
        self._node = node
        self._services: dict[str, ServiceDefinition] = {}
        self._checks: dict[str, LocalCheck] = {}
        self.replaced: list[bool] = []

    def services(self) -> Mapping[str, ServiceDefinition]:
        return self._services

    def checks(self) -> Mapping[str, LocalCheck]:
        return self._checks

    async def register_service(
        self, definition: ServiceDefinition, replace_checks: bool = False
    ) -> None:
        self.replaced.append(replace_checks)
        self._services[definition.id] = definition
        self._put(Register(self._node, definition.instance(self._node.name)))
        for check in definition.checks:
            await self.register_check(replace(check, service_id=definition.id))

    async def deregister_service(self, service_id: str) -> None:
        if service_id not in self._services:
            raise LocalError(404, f'Unknown service ID "{service_id}".')
        del self._services[service_id]
        for check_id, local in list(self._checks.items()):
            if local.check.service_id == service_id:
                del self._checks[check_id]
        self._put(Deregister(self._node.name, service_id))

    async def register_check(self, definition: CheckDefinition) -> None:
        service = self._services.get(definition.service_id)
        if definition.service_id and service is None:
            raise LocalError(404, f'ServiceID "{definition.service_id}" does not exist')
        instance = service.instance(self._node.name) if service else None
        check = definition.check(self._node.name, instance, status=definition.status)
        self._checks[definition.id] = LocalCheck(check, definition)
        self._put(Register(self._node, None, (check,)))

    async def deregister_check(self, check_id: str) -> None:
        self._known(check_id)
        del self._checks[check_id]
        self._put(Deregister(self._node.name, "", check_id))

    async def update_check(self, check_id: str, status: str, output: str) -> None:
        local = self._known(check_id)
        definition = replace(local.definition, status=status)
        service = self._services.get(definition.service_id)
        instance = service.instance(self._node.name) if service else None
        check = definition.check(self._node.name, instance, status=status, output=output)
        self._checks[check_id] = LocalCheck(check, definition)
        self._put(Register(self._node, None, (check,)))

    def _known(self, check_id: str) -> LocalCheck:
        if check_id not in self._checks:
            raise LocalError(
                404,
                f'Unknown check ID "{check_id}". '
                "Ensure that the check ID is passed, not the check name.",
            )
        return self._checks[check_id]

    def _put(self, command: Command) -> None:
        self._engine.commit(encode_command(command))


@dataclass
class ApiSite:
    """A served API and the fakes behind it."""

    context: ApiContext
    api: Api
    server: Server
    engine: LocalEngine
    membership: FakeMembership
    registry: FakeRegistry
    calls: list[str] = field(default_factory=list)

    @property
    def port(self) -> int:
        return self.server.port

    @property
    def store(self) -> StateStore:
        return self.context.store

    def commit(self, command: Command) -> int:
        """Apply a command; the index it got."""
        return self.engine.commit(encode_command(command))[0]


NODE = Node(id="11111111-1111-1111-1111-111111111111", name="agent-1", address="127.0.0.1")


@asynccontextmanager
async def api_site(
    *, fast_lane: bool = True, limits: Limits | None = None, **overrides: object
) -> AsyncIterator[ApiSite]:
    """Serve the API of a fresh, empty agent; `overrides` are fields of ApiContext."""
    loop = asyncio.get_running_loop()
    store = StateStore("dc1", epoch="test")
    store.ready = True
    engine = LocalEngine(store)
    membership = FakeMembership()
    registry = FakeRegistry(engine, NODE)
    wheel = TimerWheel(loop)
    values: dict[str, object] = {
        "store": store,
        "engine": engine,
        "local": registry,
        "membership": membership,
        "wheel": wheel,
        "fanout": FanOut(loop),
        "rng": random.Random(1),
        "now": loop.time,
        "node_name": "agent-1",
        "node_id": NODE.id,
        "hold_timeout_s": 0.5,
        **overrides,
    }
    context = ApiContext(**values)  # type: ignore[arg-type]
    api = build_api(context)
    server = Server(api.app, handlers=api.routes, wheel=wheel, fast_lane=fast_lane, limits=limits)
    await server.start()
    try:
        yield ApiSite(context, api, server, engine, membership, registry)
    finally:
        await server.stop(drain_s=1.0)
        wheel.close()
