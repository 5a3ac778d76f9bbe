"""The agent's own services and checks: registered by HTTP or from files, run, remembered, pushed.

A registration is durable in the data directory and, while a leader is there, in the catalog before
the caller is answered; without a leader it is pushed as soon as one is found. Errors are
`LocalError`s with Consul's status codes and texts (1.17 and later).
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Protocol, TypeVar

import msgspec

from callboard.agent.checks.clock import Clock, TimerHandle
from callboard.agent.checks.probes import OUTPUT_BYTES_MAX
from callboard.agent.checks.runner import CheckRunner
from callboard.agent.local.journal import LocalJournal
from callboard.agent.local.persistence import CheckStates
from callboard.agent.ports import LocalCheck, LocalError
from callboard.catalog.definitions import (
    SCRIPTS_DISABLED,
    CheckDefinition,
    Definitions,
    ServiceDefinition,
)
from callboard.catalog.objects import CRITICAL, PASSING, WARNING, ServiceInstance

log = logging.getLogger(__name__)

Definition = TypeVar("Definition", ServiceDefinition, CheckDefinition)

FLUSH_TIMEOUT_S = 2.0
"""How long a registration waits for the catalog before it is answered all the same."""
STATUSES = (PASSING, WARNING, CRITICAL)


class Pusher(Protocol):
    """What brings changes into the catalog (AntiEntropy)."""

    def service_changed(self, service_id: str) -> None: ...
    def check_changed(self, check_id: str) -> None: ...
    async def flush(self, timeout_s: float) -> bool: ...


class LocalRegistry:
    """All that is registered with this agent."""

    def __init__(
        self,
        *,
        node_name: str,
        journal: LocalJournal,
        states: CheckStates,
        clock: Clock,
        rng: random.Random,
        output_interval_s: float = 300.0,
        output_bytes_max: int = OUTPUT_BYTES_MAX,
        discard_output: bool = False,
    ) -> None:
        """Consul's check_update_interval, check_output_max_size and discard_check_output."""
        self._node_name = node_name
        self._journal = journal
        self._states = states
        self._clock = clock
        self._output_interval_s = output_interval_s
        self._discard_output = discard_output
        self._services: dict[str, ServiceDefinition] = {}
        self._checks: dict[str, LocalCheck] = {}
        self._from_files: tuple[frozenset[str], frozenset[str]] = (frozenset(), frozenset())
        self._deferred: dict[str, TimerHandle] = {}
        self._critical: dict[str, tuple[float, TimerHandle]] = {}
        """By check ID: since when it is critical, and the timer that ends its service's time."""
        self._pusher: Pusher | None = None
        self.runner = CheckRunner(
            clock=clock,
            rng=rng,
            observe=self._observed,
            status=self._status_of,
            output_bytes_max=output_bytes_max,
        )
        self.on_critical_too_long: Callable[[str], None] = lambda service_id: None
        """Called with a service ID once its check was critical for longer than allowed."""

    def attach(self, pusher: Pusher) -> None:
        """Whom to tell of changes; before `load`."""
        self._pusher = pusher

    # ---- reads
    def services(self) -> Mapping[str, ServiceDefinition]:
        """By service ID."""
        return self._services

    def checks(self) -> Mapping[str, LocalCheck]:
        """By check ID."""
        return self._checks

    # ---- start and reload
    def load(self, from_files: Definitions) -> None:
        """Take up what the data directory remembers, then what the configuration files say.

        Raises LocalError for a check in the files whose service nobody defines.
        """
        for service in self._remembered("services", ServiceDefinition):
            self._put_service(service)
        self._refuse_orphans(from_files)
        for service in from_files.services:
            self._put_service(service)
        for check in self._remembered("checks", CheckDefinition):
            if check.service_id and check.service_id not in self._services:
                extra = {"check": check.id, "service": check.service_id}
                log.warning("remembered check left out: its service is gone", extra=extra)
                continue
            self._put_check(check)
        self._put_from_files(from_files)

    async def reload(self, from_files: Definitions) -> None:
        """Read the configuration files' definitions anew; statuses of what stays are kept.

        Raises LocalError, with nothing changed, as `load` does.
        """
        self._refuse_orphans(from_files)
        services, checks = self._from_files
        new_services, new_checks = _ids(from_files)
        for check_id in checks - new_checks:
            self._drop_check(check_id)
        for service_id in services - new_services:
            self._drop_service(service_id)
        self._put_from_files(from_files)
        await self._flush()

    def _refuse_orphans(self, definitions: Definitions) -> None:
        known = self._services.keys() - self._from_files[0]
        known |= {service.id for service in definitions.services}
        for check in definitions.checks:
            if check.service_id and check.service_id not in known:
                text = f'Failed to register check "{check.id}": ServiceID "{check.service_id}"'
                raise LocalError(500, f"{text} does not exist")

    def _put_from_files(self, definitions: Definitions) -> None:
        for service in definitions.services:
            _warn(service)
        for check in definitions.checks:
            _warn(check)
        for service in definitions.services:
            self._put_service(service)
        for check in definitions.checks:
            self._put_check(check)
        self._from_files = _ids(definitions)

    def _remembered(self, kind: str, form: type[Definition]) -> Iterator[Definition]:
        for body in self._journal.load(kind):
            try:
                yield msgspec.convert(body, form)
            except msgspec.ValidationError as problem:
                log.error("remembered registration left out", extra={"error": str(problem)})

    # ---- services
    async def register_service(
        self, definition: ServiceDefinition, replace_checks: bool = False
    ) -> None:
        """Announce a service; with `replace_checks` its earlier checks not named now are gone."""
        refused = definition.unsupported()
        if refused is not None:
            raise LocalError(500 if refused == SCRIPTS_DISABLED else 501, refused)
        _warn(definition)
        named = {check.id for check in definition.checks}
        for check_id in self._checks_of(definition.id):
            if replace_checks or check_id in named:
                await self._forget("checks", check_id)  # or it is back after a restart
        whole = definition if replace_checks else self._with_earlier_checks(definition)
        await self._remember("services", whole.id, whole)
        self._put_service(definition, replace_checks=replace_checks, renewed=True)
        self._services[whole.id] = whole
        await self._flush()

    def _with_earlier_checks(self, definition: ServiceDefinition) -> ServiceDefinition:
        """What is remembered of a service registered again: the checks that stay belong to it."""
        earlier = self._services.get(definition.id)
        if earlier is None or definition.id in self._from_files[0]:
            return definition
        named = {check.id for check in definition.checks}
        kept = [c for c in earlier.checks if c.id not in named and c.id in self._checks]
        return replace(definition, checks=(*definition.checks, *kept))

    async def deregister_service(self, service_id: str) -> None:
        """Take a service and its checks away. LocalError 404 when it is unknown."""
        if service_id not in self._services:
            raise LocalError(
                404,
                f'Unknown service ID "{service_id}". '
                "Ensure that the service ID is passed, not the service name.",
            )
        for check_id in self._checks_of(service_id):
            await self._forget("checks", check_id)
        await self._forget("services", service_id)
        self._drop_service(service_id)
        await self._flush()

    def output_is_deferred(self, check_id: str) -> bool:
        """Whether a check's output alone changed, and the catalog is told later."""
        return check_id in self._deferred

    def override_tags(self, service_id: str, tags: tuple[str, ...]) -> None:
        """The catalog's tags win (EnableTagOverride)."""
        definition = self._services[service_id]
        if definition.tags != tags:
            self._services[service_id] = replace(definition, tags=tags)

    def _put_service(
        self, definition: ServiceDefinition, replace_checks: bool = False, renewed: bool = False
    ) -> None:
        self._services[definition.id] = definition
        wanted = {check.id for check in definition.checks}
        if replace_checks:
            for check_id in self._checks_of(definition.id):
                if check_id not in wanted:
                    self._drop_check(check_id)
        for check in definition.checks:
            self._put_check(replace(check, service_id=definition.id), renewed)
        self._tell_service(definition.id)

    def _drop_service(self, service_id: str) -> None:
        for check_id in self._checks_of(service_id):
            self._drop_check(check_id)
        self._services.pop(service_id, None)
        self._tell_service(service_id)

    def _checks_of(self, service_id: str) -> list[str]:
        return [
            check_id
            for check_id, local in self._checks.items()
            if local.check.service_id == service_id
        ]

    # ---- checks
    async def register_check(self, definition: CheckDefinition) -> None:
        """Add a check of the node, or of a service that is registered here (else 404)."""
        refused = definition.unsupported()
        if refused is not None:
            raise LocalError(500 if refused == SCRIPTS_DISABLED else 501, refused)
        if definition.service_id and definition.service_id not in self._services:
            raise LocalError(404, f'ServiceID "{definition.service_id}" does not exist')
        _warn(definition)
        await self._remember("checks", definition.id, definition)
        self._put_check(definition, renewed=True)
        await self._flush()

    async def deregister_check(self, check_id: str) -> None:
        """Take a check away. LocalError 404 when it is unknown."""
        service_id = self._known(check_id).check.service_id
        await self._forget("checks", check_id)
        await self._forget_within(service_id, check_id)
        self._drop_check(check_id)
        await self._flush()

    async def _forget_within(self, service_id: str, check_id: str) -> None:
        """Forget a check that came along with its service, unless a file says both."""
        service = self._services.get(service_id)
        if service is None or service_id in self._from_files[0]:
            return
        left = tuple(check for check in service.checks if check.id != check_id)
        if left != service.checks:
            service = replace(service, checks=left)
            await self._remember("services", service_id, service)
            self._services[service_id] = service

    async def update_check(self, check_id: str, status: str, output: str) -> None:
        """Set a TTL check's status from outside; its time to live begins anew."""
        if status not in STATUSES:
            raise LocalError(400, f"Invalid check status: '{status}'")
        self._known(check_id)
        if not self.runner.heard(check_id, output):
            raise LocalError(500, f'CheckID "{check_id}" does not have associated TTL')
        limit = self.runner.output_limit(self._checks[check_id].definition)
        said = output.encode("utf-8", "replace")
        if len(said) > limit:
            kept = said[:limit].decode("utf-8", "ignore")
            output = f"{kept} ... (captured {limit} of {len(said)} bytes)"
        self._observed(check_id, status, output)
        await self._flush()

    def _known(self, check_id: str) -> LocalCheck:
        local = self._checks.get(check_id)
        if local is None:
            raise LocalError(
                404,
                f'Unknown check ID "{check_id}". '
                "Ensure that the check ID is passed, not the check name.",
            )
        return local

    def _put_check(self, definition: CheckDefinition, renewed: bool = False) -> None:
        """Run a check, with its earlier status; `renewed`: a TTL begins anew, for registering
        again is a sign of life (as Consul takes it), while a reload is none."""
        check_id = definition.id
        earlier = self._checks.get(check_id)
        state = self._states.of(check_id)
        if earlier is not None:
            status, output = earlier.check.status, earlier.check.output
        elif state is not None and (definition.type != "ttl" or state.remaining_s > 0):
            status, output = state.status, state.output
        else:
            status, output = definition.status or CRITICAL, ""
        if self._discard_output:
            output = ""
        check = definition.check(
            self._node_name, self._instance(definition.service_id), status=status, output=output
        )
        self._checks[check_id] = LocalCheck(check, definition)
        remaining_s = self.runner.expires_in_s(check_id)
        if remaining_s is None and state is not None:
            remaining_s = state.remaining_s
        if renewed or remaining_s is None or remaining_s <= 0:  # (ran out: it is critical already)
            remaining_s = None
        self.runner.start(check_id, definition, remaining_s)
        self._watch_critical(check_id)
        self._tell_check(check_id)

    def _instance(self, service_id: str) -> ServiceInstance | None:
        definition = self._services.get(service_id)
        return None if definition is None else definition.instance(self._node_name)

    def _drop_check(self, check_id: str) -> None:
        self.runner.stop(check_id)
        self._states.forget(check_id)
        deferred = self._deferred.pop(check_id, None)
        if deferred is not None:
            deferred.cancel()
        self._forget_critical(check_id)
        if self._checks.pop(check_id, None) is not None:
            self._tell_check(check_id)

    # ---- what checks find
    def _status_of(self, check_id: str) -> str:
        local = self._checks.get(check_id)
        return CRITICAL if local is None else local.check.status

    def _observed(self, check_id: str, status: str, output: str) -> None:
        local = self._checks.get(check_id)
        if local is None:
            return
        if self._discard_output:
            output = ""
        before = local.check
        remaining_s = self.runner.expires_in_s(check_id)
        self._states.note(check_id, status, output, remaining_s)
        if before.status == status and before.output == output:
            return
        check = msgspec.structs.replace(before, status=status, output=output)
        self._checks[check_id] = LocalCheck(check, local.definition)
        if before.status != status:
            log.info("check changed", extra={"check": check_id, "status": status})
            self._watch_critical(check_id)
            self._tell_check(check_id)
        elif check_id not in self._deferred:
            self._defer(check_id)

    def _defer(self, check_id: str) -> None:
        """Output alone changed: tell the catalog later (Consul: check_update_interval)."""

        def due() -> None:
            self._deferred.pop(check_id, None)
            self._tell_check(check_id)

        when = self._clock.now() + self._output_interval_s
        self._deferred[check_id] = self._clock.call_at(when, due)

    def _watch_critical(self, check_id: str) -> None:
        """Start or end the time a service may stay critical (DeregisterCriticalServiceAfter)."""
        local = self._checks[check_id]
        limit_s = local.definition.deregister_critical_service_after_s
        critical = bool(limit_s) and local.check.status == CRITICAL and bool(local.check.service_id)
        since = self._forget_critical(check_id)
        if not critical:
            return
        service_id = local.check.service_id
        since = self._clock.now() if since is None else since

        def due() -> None:
            self._critical.pop(check_id, None)
            log.info("critical for too long, deregistered", extra={"service": service_id})
            self.on_critical_too_long(service_id)

        self._critical[check_id] = (since, self._clock.call_at(since + limit_s, due))

    def _forget_critical(self, check_id: str) -> float | None:
        """End the time a check's service may stay critical; since when it is, if it is."""
        since, timer = self._critical.pop(check_id, (None, None))
        if timer is not None:
            timer.cancel()
        return since

    # ---- whom to tell
    def _tell_service(self, service_id: str) -> None:
        if self._pusher is not None:
            self._pusher.service_changed(service_id)

    def _tell_check(self, check_id: str) -> None:
        if self._pusher is not None:
            self._pusher.check_changed(check_id)

    async def _flush(self) -> None:
        if self._pusher is not None and not await self._pusher.flush(FLUSH_TIMEOUT_S):
            log.warning("catalog not told yet, it will be")

    async def _remember(
        self, kind: str, identifier: str, definition: ServiceDefinition | CheckDefinition
    ) -> None:
        try:
            await self._journal.save(kind, identifier, msgspec.to_builtins(definition))
        except OSError as problem:
            raise LocalError(500, f"failed to persist {kind[:-1]}: {problem}") from problem

    async def _forget(self, kind: str, identifier: str) -> None:
        try:
            await self._journal.forget(kind, identifier)
        except OSError as problem:
            raise LocalError(500, f"failed to purge {kind[:-1]}: {problem}") from problem


def _warn(definition: ServiceDefinition | CheckDefinition) -> None:
    """Log what is allowed and yet will surprise: names DNS cannot find, raised intervals."""
    within = definition.checks if isinstance(definition, ServiceDefinition) else ()
    for each in (definition, *within):
        for text in each.warnings:
            log.warning("%s", text, extra={"definition": definition.id})


def _ids(definitions: Definitions) -> tuple[frozenset[str], frozenset[str]]:
    """IDs of services and of checks, those of the services too."""
    within = (check.id for service in definitions.services for check in service.checks)
    return (
        frozenset(service.id for service in definitions.services),
        frozenset((*within, *(check.id for check in definitions.checks))),
    )
