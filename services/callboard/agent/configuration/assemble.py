"""Build `AgentSettings` from merged values by key path, and validate the whole.

Order: defaults, what -dev presets, then the values given. What does not fit together is refused
with Consul's own text where it has one. No file is read here.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from callboard.agent.configuration.addresses import (
    UNSPECIFIED,
    Resolve,
    host_and_port,
    ip_of,
    ips_of,
    own_address,
)
from callboard.agent.configuration.files import ConfigurationError, Value
from callboard.agent.configuration.security import https_of, identity_of, settle_aliases
from callboard.agent.configuration.validation import validate
from callboard.agent.settings import (
    AgentSettings,
    Ports,
    development,
    host_name,
)
from callboard.chassis.listeners import is_loopback

T = TypeVar("T")

_SAME_NAME = (
    *("node_id", "node_meta", "alt_domain", "server", "bootstrap_expect", "start_join"),
    *("retry_join", "retry_max", "rejoin_after_leave", "leave_on_terminate", "log_json"),
    *("skip_leave_on_interrupt", "discard_check_output", "allow_plain"),
)
"""Keys that are fields of AgentSettings under the same name."""

_FIELDS = {
    **{name: name for name in _SAME_NAME},
    "retry_interval": "retry_interval_s",
    "reconnect_timeout": "reconnect_timeout_s",
    "check_update_interval": "check_update_interval_s",
    "check_output_max_size": "check_output_bytes_max",
    "performance.raft_multiplier": "raft_multiplier",
    "performance.leave_drain_time": "leave_drain_time_s",
    "performance.rpc_hold_timeout": "rpc_hold_timeout_s",
}
_DNS = {
    **{
        f"dns_config.{name}": name
        for name in (
            *("allow_stale", "only_passing", "enable_truncate", "udp_answer_limit"),
            *("a_record_limit", "enable_additional_node_meta_txt", "recursor_strategy"),
        )
    },
    "dns_config.node_ttl": "node_ttl_s",
    "dns_config.service_ttl": "service_ttl_s",
    "dns_config.max_stale": "max_stale_s",
    "dns_config.recursor_timeout": "recursor_timeout_s",
    "recursors": "recursors",
}
_SOA = {
    "dns_config.soa.refresh": "refresh_s",
    "dns_config.soa.retry": "retry_s",
    "dns_config.soa.expire": "expire_s",
    "dns_config.soa.min_ttl": "minimum_ttl_s",
}
_GOSSIP = {
    "gossip_lan.gossip_nodes": "gossip_nodes",
    "gossip_lan.gossip_interval": "gossip_interval_s",
    "gossip_lan.probe_interval": "probe_interval_s",
    "gossip_lan.probe_timeout": "probe_timeout_s",
    "gossip_lan.retransmit_mult": "retransmit_mult",
    "gossip_lan.suspicion_mult": "suspicion_mult",
}
_HTTP = {
    "allowed_hosts": "allowed_hosts",
    "allowed_origins": "allowed_origins",
    "http_config.block_endpoints": "block_endpoints",
    "http_config.allow_write_http_from": "allow_write_http_from",
    "http_config.response_headers": "response_headers",
    "limits.http_max_conns_per_client": "max_connections_per_client",
    "limits.kv_max_value_size": "kv_value_bytes_max",
    "default_query_time": "default_query_time_s",
    "max_query_time": "max_query_time_s",
    "discovery_max_stale": "discovery_max_stale_s",
}
_PORTS = {f"ports.{name}": name for name in ("http", "https", "dns", "server", "serf_lan")}


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the values came from: kept in the settings, for a reload."""

    files: tuple[Path, ...] = ()
    directories: tuple[Path, ...] = ()
    command_line: tuple[str, ...] = ()
    environment: Mapping[str, str] | None = None


def assemble(
    values: Mapping[str, Value], *, dev: bool, origin: Origin, resolve: Resolve
) -> AgentSettings:
    """The settings, whole and valid. Raises ConfigurationError."""
    given = dict(values)
    settle_aliases(given)
    _settle_bootstrap(given, dev=dev)
    base = development() if dev else AgentSettings(node_name=host_name())
    settings = replace(
        _with(base, _pick(given, _FIELDS), _names(given, base)),
        ports=_with(base.ports, _ports(given)),
        dns=_with(base.dns, _pick(given, _DNS), {"soa": _with(base.dns.soa, _pick(given, _SOA))}),
        gossip=_with(base.gossip, _pick(given, _GOSSIP)),
        http=_with(base.http, _pick(given, _HTTP), _filters(given)),
        identity=identity_of(given),
        config_files=origin.files,
        config_dirs=origin.directories,
        command_line=origin.command_line,
        environment=dict(origin.environment or {}),
    )
    settings = replace(settings, ports=https_of(given, settings))
    settings = _with(
        settings, _leaving(given, settings), _addresses(given, settings.ports, resolve)
    )
    validate(settings)
    return settings


def _with(base: T, *changes: Mapping[str, object]) -> T:
    """A copy with fields changed; each value's type was settled by its key's kind."""
    changed: Callable[..., T] = replace
    return changed(base, **{name: value for group in changes for name, value in group.items()})


def _pick(given: Mapping[str, Value], fields: Mapping[str, str]) -> dict[str, Value]:
    """Field -> value of the keys that were given."""
    return {field: given[path] for path, field in fields.items() if path in given}


def _ports(given: Mapping[str, Value]) -> dict[str, Value]:
    """0 leaves a port at its default, as Consul's; -1 turns the listener off."""
    return {name: port for name, port in _pick(given, _PORTS).items() if port != 0}


def _filters(given: Mapping[str, Value]) -> dict[str, object]:
    """Keys that say what is not done."""
    changes: dict[str, object] = {}
    if "disable_http_unprintable_char_filter" in given:
        changes["unprintable_filter"] = not given["disable_http_unprintable_char_filter"]
    if "disable_kv_key_validation" in given:
        changes["kv_key_validation"] = not given["disable_kv_key_validation"]
    return changes


def _names(given: Mapping[str, Value], base: AgentSettings) -> dict[str, object]:
    """Fields whose texts are put into their normal form."""
    data_dir = str(given.get("data_dir", ""))
    pid_file = str(given.get("pid_file", ""))
    health = str(given.get("health", ""))
    return {
        "node_name": str(given.get("node_name", base.node_name)),
        "datacenter": str(given.get("datacenter", base.datacenter)).lower(),
        "domain": str(given.get("domain", base.domain)).strip(".").lower(),
        "alt_domain": str(given.get("alt_domain", "")).strip(".").lower(),
        "log_level": str(given.get("log_level", base.log_level)).lower(),
        "data_dir": Path(data_dir).absolute() if data_dir else base.data_dir,
        "pid_file": Path(pid_file) if pid_file else None,
        "health": host_and_port("health", health) if health else None,
        "encrypt_key": gossip_key(str(given.get("encrypt", ""))),
    }


def gossip_key(text: str) -> bytes:
    """Gossip's key out of base64. Raises ConfigurationError."""
    if not text:
        return b""
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as problem:
        raise ConfigurationError(f"encrypt has invalid key: {problem}") from problem
    if len(key) not in (16, 24, 32):
        raise ConfigurationError(
            f"encrypt has invalid key: {len(key)} bytes, must be 16, 24 or 32 in base64 "
            "(callboard keygen makes one)"
        )
    return key


def _settle_bootstrap(given: dict[str, Value], *, dev: bool) -> None:
    """`bootstrap` and `bootstrap_expect` become one number. Texts are Consul's."""
    expect = int(str(given.get("bootstrap_expect", 0)))
    bootstrap = bool(given.pop("bootstrap", False))
    server = bool(given.get("server", dev))
    if expect < 0:
        raise ConfigurationError(
            f"bootstrap_expect cannot be {expect}. Must be greater than or equal to zero"
        )
    if expect > 0 and not server:
        raise ConfigurationError("'bootstrap_expect > 0' requires 'server = true'")
    if expect > 0 and dev:
        raise ConfigurationError("'bootstrap_expect > 0' not allowed in dev mode")
    if bootstrap and not server:
        raise ConfigurationError("'bootstrap = true' requires 'server = true'")
    if bootstrap and expect > 0:
        raise ConfigurationError(
            "'bootstrap_expect > 0' and 'bootstrap = true' are mutually exclusive"
        )
    if expect not in (0, 1, 3, 5):
        raise ConfigurationError(
            f"bootstrap_expect cannot be {expect}: a cluster is founded by 1, 3 or 5 servers"
        )
    if dev and not server:
        raise ConfigurationError("'server = false' not allowed in dev mode")
    given["bootstrap_expect"] = 1 if bootstrap or dev else expect


def _leaving(given: Mapping[str, Value], settings: AgentSettings) -> dict[str, object]:
    """Consul's defaults: a client leaves when told to stop, a server stays."""
    changes: dict[str, object] = {}
    if "leave_on_terminate" not in given:
        changes["leave_on_terminate"] = not settings.server
    if "skip_leave_on_interrupt" not in given:
        changes["skip_leave_on_interrupt"] = settings.server
    return changes


def _addresses(given: Mapping[str, Value], ports: Ports, resolve: Resolve) -> dict[str, object]:
    everywhere = given.get("allow_plain") and own_address(resolve)
    default = "0.0.0.0" if everywhere else "127.0.0.1"
    bind = ip_of("bind_addr", str(given.get("bind_addr", default)), resolve)
    client = str(given.get("client_addr", "127.0.0.1"))
    source = str(given.get("source_addr", ""))
    if source:
        source = ip_of("source_addr", source, resolve)
    elif is_loopback(bind) and bind != "127.0.0.1":
        source = bind
    changes: dict[str, object] = {
        "bind_address": bind,
        "advertise_address": _advertise(given, bind, resolve),
        "source_address": source,
    }
    for listener in ("http", "https", "dns"):
        own = given.get(f"addresses.{listener}")
        key = "client_addr" if own is None else f"addresses.{listener}"
        if getattr(ports, listener) >= 0:
            changes[f"{listener}_addresses"] = ips_of(key, str(own or client), resolve)
    return changes


def _advertise(given: Mapping[str, Value], bind: str, resolve: Resolve) -> str:
    """The address that others use; must be one that means us alone."""
    text = str(given.get("advertise_addr", ""))
    if text:
        address = ip_of("advertise_addr", text, resolve)
        if address in UNSPECIFIED:
            raise ConfigurationError("Advertise address cannot be 0.0.0.0, :: or [::]")
        return address
    if bind not in UNSPECIFIED:
        return bind
    found = own_address(resolve)
    if not found:
        raise ConfigurationError(
            f"bind_addr is {bind} and no address to advertise was found: say -advertise"
        )
    return found
