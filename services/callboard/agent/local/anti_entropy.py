"""Anti-entropy: makes the catalog say of this node what the agent's registry says.

The agent is the authority for its own node (Consul: anti-entropy). A change is pushed at once, and
everything is compared anew each minute, a little rarer in large clusters: what the catalog has too
much is removed, what it lacks or has otherwise is registered. Services with EnableTagOverride take
the catalog's tags. A push that fails is tried again with growing delays; nothing is forgotten.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import msgspec

from callboard.agent.local.node import same_node
from callboard.agent.ports import Engine, EngineError, LocalCheck, NotReady
from callboard.catalog.commands import Command, Deregister, Register, encode_command
from callboard.catalog.definitions import ServiceDefinition
from callboard.catalog.objects import (
    PASSING,
    SERF_HEALTH,
    Check,
    Node,
    ServiceInstance,
)

log = logging.getLogger(__name__)

FULL_SYNC_INTERVAL_S = 60.0
SCALE_THRESHOLD = 128
"""From this many members on, full syncs become rarer (Consul: aeScale)."""
RETRY_MIN_S = 0.25
RETRY_MAX_S = 15.0
PUSHES_MAX = 32
"""Proposals under way at one time."""


@dataclass(frozen=True, slots=True)
class NodeState:
    """What the catalog holds of one node."""

    node: Node | None
    services: tuple[ServiceInstance, ...]
    checks: tuple[Check, ...]


class Registry(Protocol):
    """The side of the local registry that is pushed."""

    def services(self) -> Mapping[str, ServiceDefinition]: ...
    def checks(self) -> Mapping[str, LocalCheck]: ...
    def override_tags(self, service_id: str, tags: tuple[str, ...]) -> None: ...
    def output_is_deferred(self, check_id: str) -> bool: ...


def full_sync_interval_s(members: int) -> float:
    """Seconds between full syncs: a minute, times 1 + log2(members / 128) beyond 128."""
    if members <= SCALE_THRESHOLD:
        return FULL_SYNC_INTERVAL_S
    return FULL_SYNC_INTERVAL_S * (1 + math.ceil(math.log2(members / SCALE_THRESHOLD)))


def same_service(one: ServiceInstance, other: ServiceInstance) -> bool:
    """Whether two instances say the same, whatever their indexes."""
    return _bare_service(one) == _bare_service(other)


def same_check(one: Check, other: Check) -> bool:
    """Whether two checks say the same, whatever their indexes."""
    return _bare_check(one) == _bare_check(other)


def _bare_service(service: ServiceInstance) -> tuple[object, ...]:
    return (
        service.id,
        service.service,
        service.tags,
        service.address,
        dict(service.tagged_addresses),
        dict(service.meta),
        service.port,
        service.weights,
        service.enable_tag_override,
        service.kind,
    )


def _bare_check(check: Check) -> tuple[object, ...]:
    return (check.check_id, check.name, check.status, check.notes, check.output, check.service_id)


class AntiEntropy:
    """Pushes one registry into the catalog for as long as it runs."""

    def __init__(
        self,
        *,
        engine: Engine,
        registry: Registry,
        node: Callable[[], Node],
        fetch: Callable[[], Awaitable[NodeState]],
        members: Callable[[], int],
        server: bool,
        rng: random.Random,
    ) -> None:
        self._engine = engine
        self._registry = registry
        self._node = node
        self._fetch = fetch
        self._members = members
        self._kept_services = frozenset({"consul"}) if server else frozenset()
        self._rng = rng
        self._dirty_services: set[str] = set()
        self._dirty_checks: set[str] = set()
        self._full = True
        self._busy = False
        """A round is under way: what it pushes is marked no more, and not yet in the catalog."""
        self._refused = False
        """Something was refused at last: everything is compared sooner."""
        self._wanted = asyncio.Event()
        self._hurry = asyncio.Event()
        self._waiting: list[asyncio.Future[bool]] = []
        self._task: asyncio.Task[None] | None = None
        self._delay_s = RETRY_MIN_S

    def start(self) -> None:
        """Begin with a full sync; call from within the event loop."""
        self._wanted.set()
        self._task = asyncio.get_running_loop().create_task(self._run(), name="anti-entropy")

    async def stop(self) -> None:
        """End; what is not pushed yet is pushed after the next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        waiting, self._waiting = self._waiting, []
        _settle(waiting, False)

    def service_changed(self, service_id: str) -> None:
        """A service, or one of its checks' existence, changed or is gone."""
        self._dirty_services.add(service_id)
        self._wanted.set()

    def check_changed(self, check_id: str) -> None:
        """A check changed or is gone."""
        self._dirty_checks.add(check_id)
        self._wanted.set()

    def request_full(self) -> None:
        """Compare everything soon: a leader was found, the address changed."""
        self._full = True
        self._hurry.set()
        self._wanted.set()

    def hurry(self) -> None:
        """Things may have got better (a leader was found): wait no longer to try again."""
        self._hurry.set()

    async def flush(self, timeout_s: float) -> bool:
        """Wait until all that is changed now is in the catalog; False when it is not in time, or
        was refused."""
        if self._task is None:
            return False
        if not (self._full or self._dirty_services or self._dirty_checks or self._busy):
            return True
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append(done)
        self._wanted.set()
        try:
            async with asyncio.timeout(timeout_s):
                return await done
        except TimeoutError:
            return False

    async def _run(self) -> None:
        while True:
            interval_s = full_sync_interval_s(self._members()) * self._rng.uniform(1.0, 1.15)
            try:
                async with asyncio.timeout(RETRY_MAX_S if self._refused else interval_s):
                    await self._wanted.wait()
            except TimeoutError:
                self._full = True
            self._wanted.clear()
            self._hurry.clear()
            if await self._attempt():
                self._delay_s = RETRY_MIN_S
            else:
                await self._back_off()

    async def _back_off(self) -> None:
        """Wait before the next attempt; less when somebody says that things got better."""
        try:
            async with asyncio.timeout(self._delay_s * self._rng.uniform(0.5, 1.0)):
                await self._hurry.wait()
        except TimeoutError:
            pass
        self._delay_s = min(self._delay_s * 2, RETRY_MAX_S)
        self._wanted.set()

    async def _attempt(self) -> bool:
        """One round; False when something could not be pushed."""
        waiting, self._waiting = self._waiting, []
        self._busy = True
        try:
            told = await self._round()
        except BaseException as problem:
            self._waiting = waiting + self._waiting
            if isinstance(problem, EngineError | OSError):
                level = logging.DEBUG if isinstance(problem, NotReady) else logging.WARNING
                log.log(level, "catalog not told yet", extra={"error": str(problem)})
            elif isinstance(problem, Exception):
                log.exception("catalog not told yet: a fault of ours")
            else:
                raise
            return False
        finally:
            self._busy = False
        _settle(waiting, told)
        return True

    async def _round(self) -> bool:
        """Compare if that is due, and push what is marked; False when something was refused.

        What is marked meanwhile is the next round's: whoever waits for this one is not kept.
        """
        compared, self._full = self._full, False
        if compared:
            try:
                await self._compare()
            except BaseException:
                self._full = True
                raise
        accepted = await self._push()
        self._refused = not accepted
        if not accepted and not compared:
            self._full = True  # a check of a service that somebody removed, say
        if self._full or self._dirty_services or self._dirty_checks:
            self._wanted.set()
        return accepted

    async def _push(self) -> bool:
        """Propose what is marked; False when the catalog refused some of it."""
        services, self._dirty_services = self._dirty_services, set()
        checks, self._dirty_checks = self._dirty_checks, set()
        try:
            return await self._propose_all(self._commands(services, checks))
        except BaseException:
            self._dirty_services |= services
            self._dirty_checks |= checks
            raise

    def _commands(self, services: set[str], checks: set[str]) -> list[Command]:
        known = self._registry.checks()
        covered = {
            check_id for check_id, check in known.items() if check.check.service_id in services
        }
        return [
            *(self._service_command(service_id) for service_id in sorted(services)),
            *(self._check_command(check_id) for check_id in sorted(checks - covered)),
        ]

    async def _propose_all(self, commands: list[Command]) -> bool:
        """Propose side by side; False when the catalog refused some. Raises EngineError."""
        slots = asyncio.Semaphore(PUSHES_MAX)

        async def propose(command: Command) -> bool:
            async with slots:
                applied = await self._engine.propose(encode_command(command))
            if isinstance(applied.value, str):
                log.error("refused by the catalog", extra={"error": applied.value})
                return False
            return True

        results = await asyncio.gather(*map(propose, commands), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return all(results)

    def _service_command(self, service_id: str) -> Command:
        definition = self._registry.services().get(service_id)
        node = self._node()
        if definition is None:
            return Deregister(node=node.name, service_id=service_id)
        return Register(
            node=node,
            service=definition.instance(node.name),
            checks=tuple(
                check.check
                for check in self._registry.checks().values()
                if check.check.service_id == service_id
            ),
        )

    def _check_command(self, check_id: str) -> Command:
        local = self._registry.checks().get(check_id)
        node = self._node()
        if local is None:
            return Deregister(node=node.name, check_id=check_id)
        return Register(node=node, checks=(local.check,), skip_node_update=True)

    async def _compare(self) -> None:
        """A full sync: find what differs, and mark it."""
        remote = await self._fetch()
        node = self._node()
        if remote.node is None or not same_node(remote.node, node):
            first = remote.node is None or remote.node.id != node.id
            await self._propose_all([Register(node=node, checks=_alive() if first else ())])
            remote = await self._fetch()
            if remote.node is None or remote.node.id != node.id:
                # Another's services are not ours to remove.
                raise EngineError(f"the node name {node.name} is another live agent's")
        self._compare_services({service.id: service for service in remote.services})
        self._compare_checks({check.check_id: check for check in remote.checks})

    def _compare_services(self, remote: dict[str, ServiceInstance]) -> None:
        local = self._registry.services()
        node = self._node()
        self._dirty_services |= remote.keys() - local.keys() - self._kept_services
        for service_id, definition in local.items():
            known = remote.get(service_id)
            if known is not None and definition.enable_tag_override:
                self._registry.override_tags(service_id, known.tags)
                definition = self._registry.services()[service_id]  # noqa: PLW2901
            if known is None or not same_service(known, definition.instance(node.name)):
                self._dirty_services.add(service_id)

    def _compare_checks(self, remote: dict[str, Check]) -> None:
        local = self._registry.checks()
        unknown = remote.keys() - local.keys() - {SERF_HEALTH}
        going = self._dirty_services - self._registry.services().keys()  # their checks go along
        self._dirty_checks |= {
            check_id
            for check_id in unknown
            if remote[check_id].service_id not in going | self._kept_services
        }
        for check_id, check in local.items():
            known, mine = remote.get(check_id), check.check
            if known is not None and self._registry.output_is_deferred(check_id):
                mine = msgspec.structs.replace(mine, output=known.output)
            if known is None or not same_check(known, mine):
                self._dirty_checks.add(check_id)


def _settle(waiting: list[asyncio.Future[bool]], outcome: bool) -> None:
    for done in waiting:
        if not done.done():
            done.set_result(outcome)


def _alive() -> tuple[Check, ...]:
    """A node is never in the catalog without its serfHealth: whoever says this is alive."""
    return (
        Check(
            check_id=SERF_HEALTH,
            name="Serf Health Status",
            status=PASSING,
            output="Agent alive and reachable",
        ),
    )
