"""The configuration keys of Consul that a file may hold: their types, and whether they act yet.

A key that is not in this table stops the start (`invalid config key x`), as Consul's does: a
misspelt key must not be silently ignored. A key whose `effect` is False is accepted and told in the
log. Files are read by `files`; a key's meaning is in `assemble`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """What a key's value is in JSON, and what `files` makes of it."""

    TEXT = "string"
    BOOL = "bool"
    INT = "int"
    DURATION = "duration"
    """A Go duration; kept as seconds (float)."""
    LIST = "list of strings"
    """A single string is a list of one, as Consul's; lists of several files are appended."""
    MAP = "map of strings"
    """Maps of several files are merged, key by key."""
    DURATIONS = "map of durations"
    GROUP = "block"
    DEFINITION = "definition"
    """A service or check, read by `definitions`."""
    DEFINITIONS = "list of definitions"
    ANYTHING = "any"


@dataclass(frozen=True, slots=True)
class Key:
    """One key: its path ("ports.http"), type, and meaning."""

    path: str
    kind: Kind
    help: str = ""
    effect: bool = True
    """False: accepted for Consul's sake, and without effect yet."""


def _keys(kind: Kind, *rows: tuple[str, str]) -> Iterable[Key]:
    return (Key(path, kind, help) for path, help in rows)


def _idle(kind: Kind, *paths: str) -> Iterable[Key]:
    return (Key(path, kind, "has no effect yet", effect=False) for path in paths)


_EFFECTIVE = (
    *_keys(
        Kind.TEXT,
        ("node_name", "name of this node; the host's name"),
        ("node_id", "UUID of this node; kept in the data directory"),
        ("datacenter", "dc1"),
        ("domain", "of names in DNS; consul"),
        ("alt_domain", "a second domain that is answered"),
        ("data_dir", "where everything durable lives; needed without -dev"),
        ("bind_addr", "RPC and gossip listen here; 127.0.0.1, with allow_plain 0.0.0.0"),
        ("advertise_addr", "what other agents call us; bind_addr"),
        ("client_addr", "HTTP and DNS listen here; 127.0.0.1 (several: spaces between)"),
        ("source_addr", "outgoing connections come from here"),
        ("addresses.http", "instead of client_addr"),
        ("addresses.https", "instead of client_addr"),
        ("addresses.dns", "instead of client_addr"),
        ("identity", "directory of this agent's key, certificate and CA"),
        ("exchange", "directory shared with the issuer, which keeps identity filled"),
        ("cert_file", "certificate, PEM, instead of identity"),
        ("key_file", "its private key"),
        ("ca_file", "CA certificates that other agents and programs must come from"),
        ("crl_file", "revocation lists of those CAs"),
        ("tls.defaults.cert_file", "cert_file"),
        ("tls.defaults.key_file", "key_file"),
        ("tls.defaults.ca_file", "ca_file"),
        ("mutual_tls", "on, or off: agents and programs speak to each other in the clear"),
        ("encrypt", "gossip's key: 16, 24 or 32 bytes in base64"),
        (
            "dns_config.recursor_strategy",
            "order in which recursors are asked: sequential or random",
        ),
        ("log_level", "trace, debug, info, warn, err"),
        ("pid_file", "written at the start, removed at the end"),
        ("health", "IP:PORT of /livez, /readyz, /metrics; nowhere"),
    ),
    *_keys(
        Kind.BOOL,
        ("server", "takes part in Raft"),
        ("bootstrap", "a cluster of this one server"),
        ("rejoin_after_leave", "call the peers of last time even after a leave"),
        ("leave_on_terminate", "leave at SIGTERM; true on clients"),
        ("skip_leave_on_interrupt", "stay at SIGINT; true on servers"),
        ("discard_check_output", "keep no output of checks"),
        *(
            (key, "true; with a certificate it is always so")
            for key in (
                *("verify_incoming", "verify_incoming_rpc", "verify_incoming_https"),
                *("verify_outgoing", "verify_server_hostname", "tls.defaults.verify_incoming"),
                *("tls.defaults.verify_outgoing", "tls.internal_rpc.verify_server_hostname"),
            )
        ),
        ("allow_plain", "plain HTTP and DNS may leave loopback"),
        ("disable_http_unprintable_char_filter", "allow unprintable characters in paths"),
        ("disable_kv_key_validation", "allow keys that climb out of their path"),
        ("dns_config.allow_stale", "true; false: SERVFAIL once no leader was heard for 5s"),
        ("dns_config.only_passing", "drop instances with warnings"),
        ("dns_config.enable_truncate", "set TC on cut UDP answers"),
        ("dns_config.enable_additional_node_meta_txt", "TXT in ADDITIONAL; true"),
        ("log_json", "JSON lines; true, false with -dev"),
    ),
    *_keys(
        Kind.INT,
        ("bootstrap_expect", "servers that found the cluster together: 1, 3 or 5"),
        ("ports.http", "8500"),
        ("ports.https", "8501 with an identity, else off"),
        ("ports.dns", "8600"),
        ("ports.server", "8300"),
        ("ports.serf_lan", "8301"),
        ("retry_max", "retry_intervals in which nobody is joined, then it leaves; 0: never"),
        ("performance.raft_multiplier", "scales Raft's times, 1 to 10; 1"),
        ("check_output_max_size", "bytes kept of a check's output; 4096"),
        ("limits.http_max_conns_per_client", "by client address; 200 (0: no limit)"),
        ("limits.kv_max_value_size", "bytes of a value; 524288"),
        ("dns_config.udp_answer_limit", "records without EDNS; 3"),
        ("dns_config.a_record_limit", "address records of an answer; 0: no limit"),
        ("dns_config.soa.refresh", "seconds; 3600"),
        ("dns_config.soa.retry", "seconds; 600"),
        ("dns_config.soa.expire", "seconds; 86400"),
        ("dns_config.soa.min_ttl", "seconds a negative answer is kept; 0"),
        ("gossip_lan.gossip_nodes", "members told at once; 3"),
        ("gossip_lan.retransmit_mult", "4"),
        ("gossip_lan.suspicion_mult", "4"),
    ),
    *_keys(
        Kind.DURATION,
        ("retry_interval", "between attempts of retry_join; 30s"),
        ("performance.leave_drain_time", "a server that leaves answers so long; 5s, 0s with -dev"),
        ("performance.rpc_hold_timeout", "wait for a leader; 7s"),
        ("reconnect_timeout", "a failed node is reaped after it; 72h, at least 8h"),
        ("check_update_interval", "for output alone; 5m"),
        ("default_query_time", "of a blocking query; 5m"),
        ("max_query_time", "of a blocking query; 10m"),
        ("discovery_max_stale", "above 0: catalog reads are stale by default"),
        ("dns_config.node_ttl", "0s"),
        ("dns_config.max_stale", "87600h"),
        ("dns_config.recursor_timeout", "2s"),
        ("gossip_lan.gossip_interval", "200ms"),
        ("gossip_lan.probe_interval", "1s"),
        ("gossip_lan.probe_timeout", "500ms"),
    ),
    *_keys(
        Kind.LIST,
        ("start_join", "joined once at the start"),
        ("retry_join", "joined until one answers"),
        ("recursors", "resolvers for other names"),
        ("allowed_hosts", "further names accepted in Host"),
        ("allowed_origins", "further origins that may write"),
        ("http_config.block_endpoints", "path prefixes answered 403"),
        ("http_config.allow_write_http_from", "networks that may write"),
    ),
    *_keys(
        Kind.MAP,
        ("node_meta", "shown with the node"),
        ("http_config.response_headers", "added to every answer"),
    ),
    *_keys(Kind.DURATIONS, ("dns_config.service_ttl", 'by name, "prefix*" or "*"; 0s')),
    *_keys(
        Kind.DEFINITION,
        ("service", "one service of this node"),
        ("check", "one check of this node"),
    ),
    *_keys(
        Kind.DEFINITIONS,
        ("services", "services of this node"),
        ("checks", "checks of this node"),
    ),
)

_WITHOUT_EFFECT = (
    *_idle(
        Kind.TEXT,
        *("acl.default_policy", "acl.down_policy", "addresses.grpc"),
        *("log_file", "primary_datacenter", "tls_min_version", "tls_cipher_suites"),
        *("tls.defaults.tls_min_version", "tls.defaults.tls_cipher_suites"),
    ),
    *_idle(
        Kind.BOOL,
        *("acl.enabled", "acl.enable_key_list_policy", "acl.enable_token_persistence"),
        *("disable_host_node_id", "disable_remote_exec", "disable_update_check"),
        *("dns_config.disable_compression", "dns_config.use_cache"),
        *("enable_local_script_checks", "enable_script_checks"),
        *("http_config.use_cache", "translate_wan_addrs", "ui"),
        "tls_prefer_server_cipher_suites",
    ),
    *_idle(
        Kind.INT,
        *("limits.txn_max_req_len", "ports.grpc", "ports.grpc_tls", "ports.serf_wan"),
        *("protocol", "raft_protocol"),
    ),
    *_idle(Kind.DURATION, "dns_config.cache_max_age", "session_ttl_min"),
    *_idle(
        Kind.ANYTHING,
        *("acl.tokens", "autopilot", "config_entries", "connect", "limits.rpc_rate", "segments"),
        *("telemetry", "tls.grpc", "tls.https", "ui_config", "watches"),
    ),
)

KEYS: Mapping[str, Key] = {key.path: key for key in (*_EFFECTIVE, *_WITHOUT_EFFECT)}
"""Every key by its path."""


def _groups() -> Iterable[str]:
    for path in KEYS:
        words = path.split(".")
        yield from (".".join(words[:depth]) for depth in range(1, len(words)))


GROUPS = frozenset(_groups())
"""Paths that hold further keys: "ports", "dns_config", "dns_config.soa"."""
