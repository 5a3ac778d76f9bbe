"""What must hold of the settings as a whole; each refusal names its key.

Texts are Consul's where it has one.
"""

from __future__ import annotations

import ipaddress
import re
import uuid
from collections.abc import Iterator
from pathlib import Path

from callboard.agent.configuration.files import ConfigurationError
from callboard.agent.settings import OFF, AgentSettings
from callboard.chassis.listeners import PlainRefused, check_plain
from callboard.chassis.logs import level_of
from callboard.dns.names import Domains
from callboard.dns.recursors import recursor_address
from callboard.dns.settings import TTL_MAX_S

_NODE_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?")
_DATACENTER = re.compile(r"[a-z0-9_-]{1,63}")
_DOMAIN = re.compile(r"[a-z0-9_][a-z0-9_-]*(\.[a-z0-9_-]+)*\.?")
_META_KEY = re.compile(r"[a-zA-Z0-9_-]{1,128}")

NAME_CHARACTERS_MAX = 253
LABEL_CHARACTERS_MAX = 63
META_PAIRS_MAX = 64
META_VALUE_CHARACTERS_MAX = 512
RECONNECT_TIMEOUT_MIN_S = 8 * 3600.0


def validate(settings: AgentSettings) -> None:
    """Raise ConfigurationError with the first thing that does not hold."""
    for problem in problems(settings):
        raise ConfigurationError(problem)


def problems(settings: AgentSettings) -> Iterator[str]:
    """Everything that does not hold, in words."""
    if settings.data_dir is None and not settings.dev:
        yield "data_dir cannot be empty"
    yield from _identity(settings)
    yield from _numbers(settings)
    yield from _ports(settings)
    yield from _networks(settings)
    yield from _plain(settings)
    yield from _names(settings)


def _identity(settings: AgentSettings) -> Iterator[str]:
    name = settings.node_name
    labels = name.split(".")
    if not name:
        yield "node_name cannot be empty"
    elif (
        not _NODE_NAME.fullmatch(name)
        or len(name) > NAME_CHARACTERS_MAX
        or not all(0 < len(label) <= LABEL_CHARACTERS_MAX for label in labels)
    ):
        yield (
            f"node_name {name!r} is not a name for DNS: letters, digits, '-', '_' and '.', "
            f"at most {LABEL_CHARACTERS_MAX} between dots"
        )
    if settings.node_id and not _is_uuid(settings.node_id):
        yield f"node_id {settings.node_id!r} is not a valid UUID"
    if not _DATACENTER.fullmatch(settings.datacenter):
        yield "datacenter can only contain lowercase alphanumeric, - or _ characters."
    if not _DOMAIN.fullmatch(settings.domain):
        yield f"domain {settings.domain!r} is not a domain name"
    if settings.alt_domain and not _DOMAIN.fullmatch(settings.alt_domain):
        yield f"alt_domain {settings.alt_domain!r} is not a domain name"
    yield from _meta(settings)


def _meta(settings: AgentSettings) -> Iterator[str]:
    if len(settings.node_meta) > META_PAIRS_MAX:
        yield f"node_meta: Node metadata cannot contain more than {META_PAIRS_MAX} key/value pairs"
    for key, value in settings.node_meta.items():
        if not _META_KEY.fullmatch(key):
            yield f"node_meta: key {key!r} must be 1 to 128 of A-Z a-z 0-9 _ -"
        elif key.startswith("consul-"):
            yield f"node_meta: key {key!r}: the prefix 'consul-' is reserved"
        if len(value) > META_VALUE_CHARACTERS_MAX:
            yield f"node_meta: value of {key!r} is longer than {META_VALUE_CHARACTERS_MAX}"


def _numbers(settings: AgentSettings) -> Iterator[str]:
    try:
        level_of(settings.log_level)
    except ValueError as problem:
        yield f"log_level: {problem}"
    if not 1 <= settings.raft_multiplier <= 10:
        yield (
            f"performance.raft_multiplier cannot be {settings.raft_multiplier}. "
            "Must be between 1 and 10"
        )
    if settings.reconnect_timeout_s < RECONNECT_TIMEOUT_MIN_S and not settings.dev:
        yield "reconnect_timeout must be >= 8h"
    if settings.dns.udp_answer_limit < 1:
        yield f"dns_config.udp_answer_limit cannot be {settings.dns.udp_answer_limit}. Must be > 0"
    if settings.dns.a_record_limit < 0:
        yield f"dns_config.a_record_limit cannot be {settings.dns.a_record_limit}. Must be >= 0"
    if settings.dns.recursor_strategy not in ("sequential", "random"):
        yield f"dns_config.recursor_strategy {settings.dns.recursor_strategy!r} is not known"
    yield from _times(settings)
    positive = {
        "check_output_max_size": settings.check_output_bytes_max,
        "limits.kv_max_value_size": settings.http.kv_value_bytes_max,
        "retry_interval": settings.retry_interval_s,
        "default_query_time": settings.http.default_query_time_s,
        "max_query_time": settings.http.max_query_time_s,
        "gossip_lan.gossip_nodes": settings.gossip.gossip_nodes,
        "gossip_lan.gossip_interval": settings.gossip.gossip_interval_s,
        "gossip_lan.probe_interval": settings.gossip.probe_interval_s,
        "gossip_lan.probe_timeout": settings.gossip.probe_timeout_s,
        "gossip_lan.retransmit_mult": settings.gossip.retransmit_mult,
        "gossip_lan.suspicion_mult": settings.gossip.suspicion_mult,
        "performance.rpc_hold_timeout": settings.rpc_hold_timeout_s,
        "dns_config.recursor_timeout": settings.dns.recursor_timeout_s,
    }
    yield from (f"{key} must be above 0" for key, value in positive.items() if value <= 0)


def _times(settings: AgentSettings) -> Iterator[str]:
    dns = settings.dns
    times = {
        "performance.leave_drain_time": settings.leave_drain_time_s,
        "check_update_interval": settings.check_update_interval_s,
        "discovery_max_stale": settings.http.discovery_max_stale_s,
        "dns_config.max_stale": dns.max_stale_s,
        "dns_config.node_ttl": dns.node_ttl_s,
    }
    times |= {f"dns_config.service_ttl.{name}": ttl for name, ttl in dns.service_ttl_s.items()}
    yield from (f"{key} must not be below 0" for key, value in times.items() if value < 0)
    soa = {
        "refresh": dns.soa.refresh_s,
        "retry": dns.soa.retry_s,
        "expire": dns.soa.expire_s,
        "min_ttl": dns.soa.minimum_ttl_s,
    }
    for key, seconds in soa.items():
        if not 0 <= seconds <= TTL_MAX_S:
            yield f"dns_config.soa.{key}: {seconds} is not between 0 and {TTL_MAX_S}"


def _ports(settings: AgentSettings) -> Iterator[str]:
    ports = settings.ports
    named = {
        "http": ports.http,
        "https": ports.https,
        "dns": ports.dns,
        "server": ports.server,
        "serf_lan": ports.serf_lan,
    }
    for name, port in named.items():
        if not OFF <= port <= 65535:
            yield f"ports.{name}: {port} is not between 0 and 65535, nor -1 for off"
    for name in ("server", "serf_lan"):
        if named[name] == OFF:
            yield f"ports.{name} cannot be off"
    opened: dict[int, str] = {}
    for name, port in named.items():
        if port > 0 and port in opened:
            yield f"ports.{name} and ports.{opened[port]} are both {port}"
        opened[port] = name


def _networks(settings: AgentSettings) -> Iterator[str]:
    for network in settings.http.allow_write_http_from:
        try:
            ipaddress.ip_network(network, strict=False)
        except ValueError:
            yield f"http_config.allow_write_http_from: {network!r} is not a network in CIDR form"
    if settings.pid_file is not None and not Path(settings.pid_file).absolute().parent.is_dir():
        yield f"pid_file: {settings.pid_file.parent} is not a directory"


def _names(settings: AgentSettings) -> Iterator[str]:
    """What only DNS knows to read: names that fit a packet, addresses of recursors."""
    try:
        Domains(settings.domain, settings.alt_domain)
    except ValueError as problem:
        yield f"domain: {problem}"
    for recursor in settings.dns.recursors:
        try:
            recursor_address(recursor)
        except ValueError as problem:
            yield f"recursors: {problem}"


def _plain(settings: AgentSettings) -> Iterator[str]:
    listeners = {"http": settings.http_addresses, "dns": settings.dns_addresses}
    ports = {"http": settings.ports.http, "dns": settings.ports.dns}
    for name, addresses in listeners.items():
        if ports[name] == OFF:
            continue
        try:
            check_plain(addresses, allow_plain=settings.allow_plain, what=name)
        except PlainRefused as problem:
            yield str(problem)


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False
