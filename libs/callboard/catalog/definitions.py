"""Service and check definitions: what an agent is asked to register, by HTTP or from a file.

`ServiceDefinition` and `CheckDefinition` are whole: defaults filled in, IDs chosen, texts of
errors Consul's. What runs the checks, and what the catalog holds of them, is elsewhere.
Sources: reference of agent/service/register, agent/check/register and of service files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from callboard.catalog.decode import DecodeError, decode, decode_config
from callboard.catalog.durations import SECOND, format_duration
from callboard.catalog.fields import Fields
from callboard.catalog.objects import (
    CRITICAL,
    PASSING,
    WARNING,
    Check,
    ServiceAddress,
    ServiceInstance,
    Weights,
)
from callboard.catalog.specs import CHECK_BODY, CHECK_FILE, SERVICE_BODY, SERVICE_FILE
from callboard.catalog.validation import (
    META_RESERVED,
    address_error,
    filled_addresses,
    meta_error,
    name_warning,
    port_error,
    weights_error,
)

INTERVAL_MIN_S = 1.0
DEREGISTER_AFTER_MIN_S = 60.0

SCRIPTS_DISABLED = (
    "Scripts are disabled on this agent from remote calls; to enable, configure"
    " 'enable_script_checks' to true"
)

_RUNNABLE = frozenset(("ttl", "http", "tcp"))
_STATUSES = frozenset((PASSING, WARNING, CRITICAL))


T = TypeVar("T")


class DefinitionError(ValueError):
    """A definition that Consul refuses with 400; `str()` is its text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckDefinition:
    """One health check to run (Consul: CheckType and CheckDefinition). Durations in seconds."""

    id: str = ""
    name: str = ""
    notes: str = ""
    service_id: str = ""
    token: str = field(default="", repr=False)
    status: str = ""
    """Initial status; "" = critical."""
    args: tuple[str, ...] = ()
    http: str = ""
    header: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    method: str = ""
    body: str = ""
    tcp: str = ""
    tcp_use_tls: bool = False
    udp: str = ""
    grpc: str = ""
    grpc_use_tls: bool = False
    h2ping: str = ""
    h2ping_use_tls: bool = True
    os_service: str = ""
    docker_container_id: str = ""
    shell: str = ""
    alias_node: str = ""
    alias_service: str = ""
    tls_server_name: str = ""
    tls_skip_verify: bool = False
    disable_redirects: bool = False
    ttl_s: float = 0.0
    interval_s: float = 0.0
    """At least INTERVAL_MIN_S for every kind but ttl and alias."""
    timeout_s: float = 0.0
    """0 = the runner's default (10 s)."""
    success_before_passing: int = 0
    failures_before_warning: int = 0
    failures_before_critical: int = 0
    deregister_critical_service_after_s: float = 0.0
    """0 = never; else at least DEREGISTER_AFTER_MIN_S."""
    output_max_size: int = 0
    """Bytes of output that are kept; 0 is the agent's own limit, which is never exceeded."""
    warnings: tuple[str, ...] = field(default=(), compare=False)
    """What was raised to its minimum, to be logged."""

    @property
    def types(self) -> tuple[str, ...]:
        """Every kind the definition names; a valid one names exactly one."""
        named = (
            ("ttl", self.ttl_s > 0),
            ("http", bool(self.http)),
            ("tcp", bool(self.tcp)),
            ("udp", bool(self.udp)),
            ("grpc", bool(self.grpc)),
            ("h2ping", bool(self.h2ping)),
            ("os_service", bool(self.os_service)),
            ("docker", bool(self.docker_container_id)),
            ("script", bool(self.args) and not self.docker_container_id),
            ("alias", bool(self.alias_node or self.alias_service)),
        )
        return tuple(kind for kind, given in named if given)

    @property
    def type(self) -> str:
        """ttl, http, tcp, udp, grpc, h2ping, os_service, docker, script, alias; "" if none."""
        return next(iter(self.types), "")

    def unsupported(self) -> str | None:
        """Why this agent cannot run the check, if it cannot; else None."""
        kind = self.type
        if kind in _RUNNABLE:
            return None
        if kind in ("script", "docker"):
            return SCRIPTS_DISABLED
        return f"checks of type {kind} are not supported by this agent yet"

    def check(
        self,
        node: str,
        service: ServiceInstance | None = None,
        *,
        status: str = "",
        output: str = "",
    ) -> Check:
        """The catalog's object for this check; status "" is the definition's initial one."""
        return Check(
            node=node,
            check_id=self.id,
            name=self.name,
            status=status or self.status or CRITICAL,
            notes=self.notes,
            output=output,
            service_id=service.id if service else self.service_id,
            service_name=service.service if service else "",
            service_tags=service.tags if service else (),
            type=self.type,
            interval=_duration_text(self.interval_s),
            timeout=_duration_text(self.timeout_s),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceDefinition:
    """One service to announce on this agent's node."""

    id: str
    name: str
    tags: tuple[str, ...] = ()
    address: str = ""
    tagged_addresses: Mapping[str, ServiceAddress] = field(default_factory=dict)
    meta: Mapping[str, str] = field(default_factory=dict)
    port: int = 0
    weights: Weights = field(default_factory=Weights)
    enable_tag_override: bool = False
    kind: str = ""
    token: str = field(default="", repr=False)
    checks: tuple[CheckDefinition, ...] = ()
    """With their IDs (`service:<id>`, or `service:<id>:1` … when there are several)."""
    unserved: str = field(default="", compare=False)
    """A field the definition uses and no agent of ours serves ("" = none)."""
    warnings: tuple[str, ...] = field(default=(), compare=False)
    """Names DNS cannot find and the like, to be logged."""

    def instance(self, node: str) -> ServiceInstance:
        """The catalog's object for this service."""
        return ServiceInstance(
            node=node,
            id=self.id,
            service=self.name,
            tags=self.tags,
            address=self.address,
            tagged_addresses=dict(self.tagged_addresses),
            meta=dict(self.meta),
            port=self.port,
            weights=self.weights,
            enable_tag_override=self.enable_tag_override,
            kind=self.kind,
        )

    def unsupported(self) -> str | None:
        """Why this agent cannot serve the definition (its kind, or a check's); else None."""
        if self.kind:
            return f"services of kind {self.kind} are not supported by this agent"
        if self.unserved:
            return f"{self.unserved} is not supported by this agent"
        return next(filter(None, (check.unsupported() for check in self.checks)), None)


@dataclass(frozen=True, slots=True)
class Definitions:
    """What one configuration file defines."""

    services: tuple[ServiceDefinition, ...] = ()
    checks: tuple[CheckDefinition, ...] = ()


def service_from_request(body: bytes) -> ServiceDefinition:
    """Of the body of PUT agent/service/register. Raises DecodeError or DefinitionError."""
    return _service(Fields(decode(body, SERVICE_BODY)), weight_absent=0)


def check_from_request(body: bytes) -> CheckDefinition:
    """Of the body of PUT agent/check/register. Raises DecodeError or DefinitionError."""
    return _node_check(Fields(decode(body, CHECK_BODY)))


def definitions_from_config(document: Mapping[str, object]) -> Definitions:
    """Of the keys service, services, check and checks of a parsed configuration file; other
    keys are left to the caller. Raises DecodeError (unknown key) or DefinitionError."""
    services = [
        _within(path, _service, Fields(decode_config(value, SERVICE_FILE, path)))
        for path, value in _entries(document, "service", "services")
    ]
    checks = [
        _within(path, _node_check, Fields(decode_config(value, CHECK_FILE, path)))
        for path, value in _entries(document, "check", "checks")
    ]
    return Definitions(tuple(services), tuple(checks))


DEFINITION_KEYS = ("service", "services", "check", "checks")
"""The keys `definitions_from_config` reads."""


def _entries(document: Mapping[str, object], one: str, many: str) -> list[tuple[str, object]]:
    """(path, value) of every definition under a singular and a plural key."""
    entries: list[tuple[str, object]] = []
    for key in (one, many):
        value = document.get(key)
        if isinstance(value, list):
            entries += [(f"{key}[{place}]", each) for place, each in enumerate(value)]
        elif value is not None and key == many:
            raise DecodeError(f"{key}: expected a list of objects")
        elif value is not None:
            entries.append((key, value))
    return entries


def _within(path: str, build: Callable[[Fields], T], fields: Fields) -> T:
    """Build, and let an error say where in the document it was."""
    try:
        return build(fields)
    except DefinitionError as error:
        raise DefinitionError(f"{path}: {error}") from error


def _service(fields: Fields, weight_absent: int = 1) -> ServiceDefinition:
    name = fields.text("Name")
    if not name:
        raise DefinitionError("Missing service name")
    service_id = fields.text("ID") or name
    address, port = fields.text("Address"), fields.number("Port")
    definition = ServiceDefinition(
        id=service_id,
        name=name,
        tags=fields.texts("Tags"),
        address=address,
        tagged_addresses=filled_addresses(address, port, fields.addresses("TaggedAddresses")),
        meta=fields.text_map("Meta"),
        port=port,
        weights=fields.weights("Weights", weight_absent),
        enable_tag_override=fields.flag("EnableTagOverride"),
        kind=fields.text("Kind"),
        token=fields.text("Token"),
        unserved=_unserved(fields),
        warnings=_name_warnings(name, fields.texts("Tags")),
    )
    _validate_service(definition)
    return replace(definition, checks=_service_checks(definition, fields))


def _validate_service(service: ServiceDefinition) -> None:
    reason = address_error(service.address) or port_error(service.port)
    if reason is None and (meta := meta_error(service.meta, META_RESERVED)) is not None:
        reason = f"Invalid Service Meta: {meta}"
    if reason is None and (weights := weights_error(service.weights)) is not None:
        reason = f"Invalid Weights: {weights}"
    if reason is not None:
        raise DefinitionError(reason)


def _service_checks(service: ServiceDefinition, fields: Fields) -> tuple[CheckDefinition, ...]:
    """The service's checks with IDs and names; a Check of zero values is none, as Consul has it
    (clients fill in every field), one among Checks is a mistake."""
    single = fields.struct("Check")
    given = [*([single] if single.nonzero() else []), *fields.structs("Checks")]
    checks: list[CheckDefinition] = []
    for place, each in enumerate(given, start=1):
        if each.text("Status") not in ("", *_STATUSES):
            raise DefinitionError("Status for checks must 'passing', 'warning', 'critical'")
        check_id = f"service:{service.id}" if len(given) == 1 else f"service:{service.id}:{place}"
        checks.append(
            replace(
                _check(each),
                id=each.text("CheckID") or each.text("ID") or check_id,
                name=each.text("Name") or f"Service '{service.name}' check",
                service_id=service.id,
            )
        )
    return tuple(checks)


def _node_check(fields: Fields) -> CheckDefinition:
    """A check registered by itself: on the node, or for the service it names."""
    name = fields.text("Name")
    if not name:
        raise DefinitionError("Missing check name")
    check_id = fields.text("ID") or fields.text("CheckID") or name
    return replace(_check(fields), id=check_id, name=name, service_id=fields.text("ServiceID"))


def _check(fields: Fields) -> CheckDefinition:
    check = CheckDefinition(
        notes=fields.text("Notes"),
        token=fields.text("Token"),
        status=fields.text("Status"),
        args=fields.texts("Args"),
        http=fields.text("HTTP"),
        header=fields.headers("Header"),
        method=fields.text("Method"),
        body=fields.text("Body"),
        tcp=fields.text("TCP"),
        tcp_use_tls=fields.flag("TCPUseTLS"),
        udp=fields.text("UDP"),
        grpc=fields.text("GRPC"),
        grpc_use_tls=fields.flag("GRPCUseTLS"),
        h2ping=fields.text("H2PING"),
        h2ping_use_tls=fields.flag("H2PingUseTLS", True),
        os_service=fields.text("OSService"),
        docker_container_id=fields.text("DockerContainerID"),
        shell=fields.text("Shell"),
        alias_node=fields.text("AliasNode"),
        alias_service=fields.text("AliasService"),
        tls_server_name=fields.text("TLSServerName"),
        tls_skip_verify=fields.flag("TLSSkipVerify"),
        disable_redirects=fields.flag("DisableRedirects"),
        ttl_s=fields.duration_s("TTL"),
        interval_s=fields.duration_s("Interval"),
        timeout_s=fields.duration_s("Timeout"),
        success_before_passing=fields.number("SuccessBeforePassing"),
        failures_before_warning=fields.number("FailuresBeforeWarning"),
        failures_before_critical=fields.number("FailuresBeforeCritical"),
        deregister_critical_service_after_s=fields.duration_s("DeregisterCriticalServiceAfter"),
        output_max_size=fields.number("OutputMaxSize"),
    )
    reason = check_error(check)
    if reason is not None:
        raise DefinitionError(reason)
    return _raised_to_minimum(check)


def check_error(check: CheckDefinition) -> str | None:
    """Why Consul refuses the check (400), or None."""
    if check.status and check.status not in _STATUSES:
        return "Bad check status"
    reason = _kind_error(check)
    if reason is None and check.output_max_size < 0:
        reason = "MaxOutputMaxSize must be positive"
    critical = check.failures_before_critical
    if reason is None and 0 < critical < check.failures_before_warning:
        reason = "FailuresBeforeWarning can't be higher than FailuresBeforeCritical"
    return None if reason is None else f"Invalid check: {reason}"


def _kind_error(check: CheckDefinition) -> str | None:
    kinds = check.types
    if check.interval_s > 0 and check.ttl_s > 0:
        return "Interval and TTL cannot both be specified"
    if "alias" in kinds and check.interval_s > 0:
        return "Interval cannot be set for Alias checks"
    if "alias" in kinds and check.ttl_s > 0:
        return "TTL must be not be set for Alias checks"
    if not kinds:
        return "TTL must be > 0 for TTL checks"
    if kinds[0] not in ("ttl", "alias") and check.interval_s <= 0:
        return "Interval must be > 0 for Script, HTTP, H2PING, TCP, UDP or OSService checks"
    if len(kinds) > 1:
        return f"exactly one type of check must be given, not {' and '.join(kinds)}"
    if check.timeout_s < 0 or check.deregister_critical_service_after_s < 0:
        return "durations must not be negative"
    return None


def _raised_to_minimum(check: CheckDefinition) -> CheckDefinition:
    """Too short an interval is raised, as Consul does; the warning says so."""
    if check.type not in ("ttl", "alias") and check.interval_s < INTERVAL_MIN_S:
        text = f"check interval {_duration_text(check.interval_s)} is below the minimum of 1s"
        check = replace(check, interval_s=INTERVAL_MIN_S, warnings=(*check.warnings, text))
    after = check.deregister_critical_service_after_s
    if 0 < after < DEREGISTER_AFTER_MIN_S:
        text = f"deregister_critical_service_after {_duration_text(after)} is below 1m0s"
        check = replace(
            check,
            deregister_critical_service_after_s=DEREGISTER_AFTER_MIN_S,
            warnings=(*check.warnings, text),
        )
    return check


def _unserved(fields: Fields) -> str:
    """The first field given that is never served: the service mesh's, and newer kinds of port."""
    connect = fields.any("Connect")
    if isinstance(connect, Mapping):
        asked = {str(key).lower().replace("_", ""): value for key, value in connect.items()}
        if asked.get("sidecarservice") is not None:
            return "Connect.SidecarService"
        if asked.get("native"):
            return "Connect.Native"
    return next((name for name in ("Proxy", "SocketPath", "Ports") if fields.any(name)), "")


def _name_warnings(name: str, tags: Sequence[str]) -> tuple[str, ...]:
    found = [name_warning("Service", name), *(name_warning("Service tag", tag) for tag in tags)]
    return tuple(filter(None, found))


def _duration_text(duration_s: float) -> str:
    return format_duration(round(duration_s * SECOND)) if duration_s else ""
