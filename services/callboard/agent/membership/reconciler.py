"""The leader's work: what gossip sees of the members becomes nodes of the catalog.

Consul's rules (agent/consul/leader.go describes them, the code here is ours): an alive member is a
node with a passing `serfHealth`, a server also an instance of the service `consul`; a failed one's
serfHealth is critical; one that left or was reaped is removed with all it had. Only the leader
proposes: each change as it comes, and everything anew each minute and when its leadership begins.
What gossip does not know yet is not called gone: a node with a serfHealth but no member turns
critical only after a grace, and is removed only after `reconnect_timeout_s`.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from callboard.agent.local.node import describe_node
from callboard.agent.membership.tags import AgentTags, from_wire
from callboard.agent.ports import Engine, EngineError
from callboard.catalog.commands import Command, Deregister, Register, encode_command
from callboard.catalog.objects import (
    CRITICAL,
    PASSING,
    SERF_HEALTH,
    Check,
    Node,
    ServiceInstance,
)
from callboard.catalog.version import CONSUL_VERSION
from callboard.swim.serf_members import MemberEvent, MemberEventKind

log = logging.getLogger(__name__)

CONSUL_SERVICE = "consul"
ALIVE_OUTPUT = "Agent alive and reachable"
FAILED_OUTPUT = "Agent not live or unreachable"
SERF_HEALTH_NAME = "Serf Health Status"
REAPED_MAX = 4096
"""Reaped members kept for the leader; of more the oldest are left to `reconnect_timeout_s`."""


class SeenMember(Protocol):
    """What is used of a gossip member."""

    @property
    def name(self) -> str: ...
    @property
    def address(self) -> str: ...
    @property
    def tags(self) -> Mapping[str, str]: ...
    @property
    def status(self) -> str: ...


class Catalog(Protocol):
    """What is read of the state store."""

    def node(self, name: str) -> Node | None: ...
    def nodes(self) -> Sequence[Node]: ...
    def node_checks(self, node: str) -> Sequence[Check]: ...
    def node_services(self, node: str) -> Sequence[ServiceInstance]: ...


@dataclass(frozen=True, slots=True)
class Timing:
    """When the reconciler acts."""

    interval_s: float = 60.0
    """How often everything is compared anew (Consul: ReconcileInterval)."""
    grace_s: float = 30.0
    """How long a node unknown to gossip keeps its passing serfHealth."""
    reconnect_timeout_s: float = 72 * 3600.0
    """How long a node unknown to gossip stays in the catalog (Consul: reconnect_timeout)."""
    retry_s: float = 1.0
    """How soon a round that failed is tried again."""


def commands_for(member: SeenMember, catalog: Catalog, datacenter: str) -> list[Command]:
    """What must be proposed so that the catalog says of a member what gossip says; pure."""
    tags = from_wire(member.tags)
    if tags is None or tags.datacenter != datacenter or not tags.node_id:
        return []
    node = catalog.node(member.name)
    if member.status in ("alive", "leaving"):
        return _alive(member, tags, catalog, node)
    if node is None or (node.id and node.id != tags.node_id):
        return []  # never registered, or its name was taken over by another
    if member.status == "failed":
        return _failed(node, catalog)
    return [Deregister(node=node.name)]


def _alive(
    member: SeenMember, tags: AgentTags, catalog: Catalog, node: Node | None
) -> list[Command]:
    service = _consul_service(tags) if tags.server else None
    health = _serf_health(PASSING, ALIVE_OUTPUT)
    if (
        node is not None
        and node.id == tags.node_id
        and node.address == member.address
        and _status(catalog, node.name) == PASSING
        and (service is None or _has(catalog, node.name, service))
    ):
        return []
    known_meta = node.meta if node is not None and node.id == tags.node_id else {}
    return [
        Register(
            node=describe_node(
                name=member.name,
                node_id=tags.node_id,
                address=member.address,
                datacenter=tags.datacenter,
                meta=known_meta,
            ),
            service=service,
            checks=(health,),
        )
    ]


def _failed(node: Node, catalog: Catalog) -> list[Command]:
    if _status(catalog, node.name) == CRITICAL:
        return []
    return [_mark_failed(node)]


def _mark_failed(node: Node) -> Register:
    return Register(
        node=node, checks=(_serf_health(CRITICAL, FAILED_OUTPUT),), skip_node_update=True
    )


def _serf_health(status: str, output: str) -> Check:
    return Check(check_id=SERF_HEALTH, name=SERF_HEALTH_NAME, status=status, output=output)


def _consul_service(tags: AgentTags) -> ServiceInstance:
    return ServiceInstance(
        id=CONSUL_SERVICE,
        service=CONSUL_SERVICE,
        port=tags.rpc_port,
        meta={
            "non_voter": "false",
            "raft_version": "3",
            "serf_protocol_current": "2",
            "serf_protocol_max": "5",
            "serf_protocol_min": "1",
            "version": CONSUL_VERSION,
        },
    )


def _status(catalog: Catalog, node: str) -> str:
    for check in catalog.node_checks(node):
        if check.check_id == SERF_HEALTH:
            return check.status
    return ""


def _has(catalog: Catalog, node: str, service: ServiceInstance) -> bool:
    return any(
        known.id == service.id and known.port == service.port
        for known in catalog.node_services(node)
    )


class Reconciler:
    """Proposes what `commands_for` says, while this agent leads."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        engine: Engine,
        members: Callable[[], Sequence[SeenMember]],
        datacenter: str,
        now: Callable[[], float],
        rng: random.Random,
        timing: Timing | None = None,
    ) -> None:
        self._catalog = catalog
        self._engine = engine
        self._members = members
        self._datacenter = datacenter
        self._now = now
        self._rng = rng
        self._timing = timing or Timing()
        self._absent_since: dict[str, float] = {}
        self._reaped: dict[str, SeenMember] = {}
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; call from within the event loop."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """End, whatever is under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def heard(self, event: MemberEvent) -> None:
        """A member changed. One that is reaped is unknown to gossip from now on, so it is kept
        here until the leader has removed its node, or it comes back."""
        name = event.member.name.lower()
        if event.kind == MemberEventKind.REAP:
            while len(self._reaped) >= REAPED_MAX:
                del self._reaped[next(iter(self._reaped))]
            self._reaped[name] = event.member
        else:
            self._reaped.pop(name, None)
        self.poke()

    def poke(self) -> None:
        """Something changed: a member, or who leads. Cheap, and many at once count as one."""
        self._wanted.set()

    async def _run(self) -> None:
        while True:
            jitter = self._rng.uniform(0.9, 1.1)
            try:
                async with asyncio.timeout(self._timing.interval_s * jitter):
                    await self._wanted.wait()
            except TimeoutError:
                pass
            self._wanted.clear()
            if self._engine.is_leader and self._engine.ready:
                if not await self._reconcile():
                    await asyncio.sleep(self._timing.retry_s)
                    self._wanted.set()
            elif not self._engine.is_leader:
                self._absent_since.clear()

    async def _reconcile(self) -> bool:
        """One round; False when something is to be tried again soon."""
        seen = list(self._members())
        names = {member.name.lower() for member in seen}
        reaped = {name: one for name, one in self._reaped.items() if name not in names}
        commands: list[Command] = []
        for member in (*seen, *reaped.values()):
            try:
                commands += commands_for(member, self._catalog, self._datacenter)
            except ValueError as problem:  # what it says of itself makes no node
                log.error("member left out", extra={"member": member.name, "error": str(problem)})
        commands += self._for_absent(names | reaped.keys())
        for command in commands:
            try:
                applied = await self._engine.propose(encode_command(command))
            except EngineError as problem:
                log.warning("member not reconciled", extra={"error": str(problem)})
                return False
            if isinstance(applied.value, str):
                log.error("member refused by the catalog", extra={"error": applied.value})
        for name, one in reaped.items():
            if self._reaped.get(name) is one:
                del self._reaped[name]
        return True

    def _for_absent(self, names: set[str]) -> list[Command]:
        """What to do about nodes that have a serfHealth but that gossip does not know."""
        now, commands = self._now(), list[Command]()
        absent = {
            node.name.lower(): node
            for node in self._catalog.nodes()
            if node.name.lower() not in names and _status(self._catalog, node.name)
        }
        for name in self._absent_since.keys() - absent.keys():
            del self._absent_since[name]
        for name, node in absent.items():
            age = now - self._absent_since.setdefault(name, now)
            if age >= self._timing.reconnect_timeout_s:
                commands.append(Deregister(node=node.name))
            elif age >= self._timing.grace_s and _status(self._catalog, node.name) != CRITICAL:
                commands.append(_mark_failed(node))
        return commands
