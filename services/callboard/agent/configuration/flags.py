"""The agent's flags: Consul's names, each the same as a configuration key.

`TABLE` pairs every flag with its key; a few (`-dev`, `-config-dir`) have no key. Environment
variables stand between files and flags. Nothing is resolved or validated here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from callboard.agent.configuration.files import ConfigurationError, Value, convert, put
from callboard.agent.configuration.keys import KEYS, Kind
from callboard.chassis.flags import Flag, FlagSet, Parsed
from callboard.chassis.flags import Kind as FlagKind

USAGE = """Usage: callboard agent [options]

  Starts the agent, and runs until it is interrupted. The agent keeps this machine's services and
  checks; with -server it holds the catalog together with the other servers."""


@dataclass(frozen=True, slots=True)
class AgentFlag:
    """One flag, and the key it sets ("" when it has none)."""

    flag: Flag
    key: str = ""


def _of(name: str, key: str, help: str = "") -> AgentFlag:
    """A flag for a key; its kind follows the key's."""
    row = KEYS[key]
    kind = {
        Kind.BOOL: FlagKind.OPTIONAL,
        Kind.INT: FlagKind.INT,
        Kind.LIST: FlagKind.LIST,
        Kind.MAP: FlagKind.LIST,
    }.get(row.kind, FlagKind.TEXT)
    return AgentFlag(Flag(name, kind, help or row.help, None), key)


def _bare(name: str, kind: FlagKind, help: str) -> AgentFlag:
    return AgentFlag(Flag(name, kind, help, None))


TABLE: tuple[AgentFlag, ...] = (
    _bare("config-file", FlagKind.LIST, "a JSON file to read; may be repeated"),
    _bare("config-dir", FlagKind.LIST, "a directory whose .json files are read, sorted by name"),
    _bare("config-format", FlagKind.TEXT, "json"),
    _bare("dev", FlagKind.BOOL, "one server in memory, for trying things out"),
    _bare("hcl", FlagKind.LIST, "refused: HCL is not read yet"),
    _bare("source", FlagKind.TEXT, "outgoing connections come from this address"),
    _bare("join", FlagKind.LIST, "address to join at the start; may be repeated"),
    _of("data-dir", "data_dir"),
    _of("node", "node_name"),
    _of("node-id", "node_id"),
    _of("node-meta", "node_meta", "key:value shown with the node; may be repeated"),
    _of("datacenter", "datacenter"),
    _of("domain", "domain"),
    _of("alt-domain", "alt_domain"),
    _of("server", "server"),
    _of("bootstrap", "bootstrap"),
    _of("bootstrap-expect", "bootstrap_expect"),
    _of("bind", "bind_addr"),
    _of("client", "client_addr"),
    _of("advertise", "advertise_addr"),
    _of("allow-plain", "allow_plain"),
    _of("retry-join", "retry_join"),
    _of("retry-interval", "retry_interval"),
    _of("retry-max", "retry_max"),
    _of("rejoin", "rejoin_after_leave"),
    _of("encrypt", "encrypt"),
    _of("identity", "identity"),
    _of("exchange", "exchange"),
    _of("cert-file", "cert_file"),
    _of("key-file", "key_file"),
    _of("ca-file", "ca_file"),
    _of("crl-file", "crl_file"),
    _of("mutual-tls", "mutual_tls"),
    _of("http-port", "ports.http"),
    _of("https-port", "ports.https"),
    _of("dns-port", "ports.dns"),
    _of("grpc-port", "ports.grpc"),
    _of("grpc-tls-port", "ports.grpc_tls"),
    _of("server-port", "ports.server"),
    _of("serf-lan-port", "ports.serf_lan"),
    _of("serf-wan-port", "ports.serf_wan"),
    _of("raft-multiplier", "performance.raft_multiplier"),
    _of("recursor", "recursors"),
    _of("log-level", "log_level"),
    _of("log-json", "log_json"),
    _of("log-file", "log_file"),
    _of("pid-file", "pid_file"),
    _of("health", "health"),
    _of("enable-script-checks", "enable_script_checks"),
    _of("enable-local-script-checks", "enable_local_script_checks"),
    _of("ui", "ui"),
    _of("disable-host-node-id", "disable_host_node_id"),
    _of("raft-protocol", "raft_protocol"),
    _of("protocol", "protocol"),
)
"""Every flag of `callboard agent`."""

_KEYS = {
    **{row.flag.name: row.key for row in TABLE if row.key},
    "source": "source_addr",
    "join": "start_join",
}

ENVIRONMENT: Mapping[str, str] = {
    "BIND": "bind_addr",
    "SOURCE": "source_addr",
    "ALLOW_PLAIN": "allow_plain",
    "ALLOWED_HOSTS": "allowed_hosts",
    "ALLOWED_ORIGINS": "allowed_origins",
    "PUBLIC_HOST": "allowed_hosts",
    "LOG_LEVEL": "log_level",
    "IDENTITY": "identity",
    "EXCHANGE": "exchange",
    "MUTUAL_TLS": "mutual_tls",
}
"""Variables and the keys they set; lists are separated by commas. BIND is the default of
client_addr too."""

AGENT_FLAGS = FlagSet(USAGE, (row.flag for row in TABLE))


def sources(parsed: Parsed) -> list[Path]:
    """Files and directories to read, in the order of the command line."""
    form = parsed.text("config-format") if parsed.given("config-format") else "json"
    if form != "json" or parsed.given("hcl"):
        raise ConfigurationError("HCL is not read yet: write it as JSON")
    paths = []
    for flag, value in parsed.in_order("config-file", "config-dir"):
        path = Path(value)
        if flag == "config-dir" and not path.is_dir():
            raise ConfigurationError(f"-config-dir {value}: not a directory")
        if flag == "config-file" and path.is_dir():
            raise ConfigurationError(f"-config-file {value}: is a directory")
        paths.append(path)
    return paths


def from_environment(environ: Mapping[str, str]) -> dict[str, Value]:
    """What the variables say, by key path."""
    values: dict[str, Value] = {}
    for variable, path in ENVIRONMENT.items():
        text = environ.get(variable, "").strip()
        if not text:
            continue
        key = KEYS[path]
        value: object = text
        if key.kind is Kind.LIST:
            value = [word.strip() for word in text.split(",") if word.strip()]
        put(values, path, convert(f"environment {variable}", key, value))
    return values


def from_flags(parsed: Parsed) -> tuple[dict[str, Value], list[tuple[str, str]]]:
    """What the flags say, by key path; and (flag, key) of those without effect yet."""
    values: dict[str, Value] = {}
    idle: list[tuple[str, str]] = []
    for name, path in _KEYS.items():
        if not parsed.given(name):
            continue
        key = KEYS[path]
        converted = convert(f"-{name}", key, _raw(parsed, name, key.kind))
        if key.effect:
            values[path] = converted
        else:
            idle.append((f"-{name}", path))
    return values, idle


def _raw(parsed: Parsed, name: str, kind: Kind) -> object:
    if kind is Kind.LIST:
        return list(parsed.values(name))
    if kind is Kind.MAP:
        return dict(_pair(name, word) for word in parsed.values(name))
    if kind is Kind.BOOL:
        return parsed.switch(name)
    return parsed.number(name) if kind is Kind.INT else parsed.text(name)


def _pair(name: str, word: str) -> tuple[str, str]:
    """`key:value`; the value may be empty, as Consul allows."""
    key, _, value = word.partition(":")
    if not key:
        raise ConfigurationError(f"-{name}: expected key:value, got {word!r}")
    return key, value
