"""Service and check definitions: what an agent is asked to register, by HTTP or from a file.

`ServiceDefinition` and `CheckDefinition` are whole: defaults filled in, IDs chosen, texts of
errors Consul's. What runs the checks, and what the catalog holds of them, is elsewhere.
Sources: reference of agent/service/register, agent/check/register and of service files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from callboard.catalog.objects import Check, ServiceAddress, ServiceInstance, Weights


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
    timeout_s: float = 0.0
    success_before_passing: int = 0
    failures_before_warning: int = 0
    failures_before_critical: int = 0
    deregister_critical_service_after_s: float = 0.0
    output_max_size: int = 4096

    @property
    def type(self) -> str:
        """ttl, http, tcp, udp, grpc, h2ping, os_service, docker, script, alias; "" if none."""
        raise NotImplementedError

    def unsupported(self) -> str | None:
        """Why this agent cannot run the check, if it cannot; else None."""
        raise NotImplementedError

    def check(
        self,
        node: str,
        service: ServiceInstance | None = None,
        *,
        status: str = "",
        output: str = "",
    ) -> Check:
        """The catalog's object for this check, before its first run."""
        raise NotImplementedError


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

    def instance(self, node: str) -> ServiceInstance:
        """The catalog's object for this service."""
        raise NotImplementedError

    def unsupported(self) -> str | None:
        """Why this agent cannot serve the definition (its kind, or a check's); else None."""
        raise NotImplementedError


def service_from_request(body: bytes) -> ServiceDefinition:
    """Of the body of PUT agent/service/register. Raises DecodeError or DefinitionError."""
    raise NotImplementedError


def check_from_request(body: bytes) -> CheckDefinition:
    """Of the body of PUT agent/check/register. Raises DecodeError or DefinitionError."""
    raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Definitions:
    """What one configuration file defines."""

    services: tuple[ServiceDefinition, ...] = ()
    checks: tuple[CheckDefinition, ...] = ()


def definitions_from_config(document: Mapping[str, object]) -> Definitions:
    """Of the keys service, services, check and checks of a parsed configuration file; other
    keys are left to the caller. Raises DecodeError (unknown key) or DefinitionError."""
    raise NotImplementedError
