"""What an agent is told: one frozen value, complete and valid before anything starts.

Built by `configuration.build` from flags, configuration files and the environment; a test or
`callboard.testing` builds it directly from a preset (`development`). Components get single values
from it, never the whole. Nothing here reads a file, resolves a name or knows a flag's spelling.

A port is -1 when its listener is off, and 0 when the system shall choose one (tests).
Times are seconds. Names in brackets are Consul's configuration keys.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from callboard.chassis.identity_settings import IdentitySettings

OFF = -1
"""A port that is not opened."""

LOOPBACK = "127.0.0.1"
HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the agent listens [ports]."""

    http: int = 8500
    """HTTP API, plain."""
    https: int = OFF
    """HTTP API and feed by mutual TLS."""
    dns: int = 8600
    """DNS, UDP and TCP."""
    server: int = 8300
    """RPC between agents: Raft, forwarding."""
    serf_lan: int = 8301
    """Gossip, UDP and TCP."""
    serf_wan: int = OFF
    """Gossip between datacenters; not there yet."""


@dataclass(frozen=True, slots=True)
class Soa:
    """The SOA record of the domain [dns_config.soa]."""

    refresh_s: int = 3600
    retry_s: int = 600
    expire_s: int = 86400
    minimum_ttl_s: int = 0
    """How long resolvers may keep a negative answer [min_ttl]."""


@dataclass(frozen=True, slots=True)
class DnsSettings:
    """How names are answered [dns_config]."""

    node_ttl_s: float = 0.0
    """TTL of node answers."""
    service_ttl_s: Mapping[str, float] = field(default_factory=dict)
    """TTL by service name, "prefix*" or "*"; the exact name wins, then the longest prefix."""
    allow_stale: bool = True
    """Answer from what this agent holds; False: only while a leader is heard."""
    max_stale_s: float = 87600 * HOUR_S
    """Older state than this is not answered from."""
    only_passing: bool = False
    """Drop instances with a warning too, not only critical ones."""
    enable_truncate: bool = False
    """Set TC when an UDP answer does not hold all."""
    udp_answer_limit: int = 3
    """Records of an UDP answer without EDNS."""
    a_record_limit: int = 0
    """Most address records of any answer; 0 = no limit."""
    enable_additional_node_meta_txt: bool = True
    """Node meta as TXT records in ADDITIONAL."""
    soa: Soa = Soa()
    recursors: tuple[str, ...] = ()
    """Resolvers asked for names outside the domain: "ip" or "ip:port" [recursors, top level]."""
    recursor_strategy: str = "sequential"
    """sequential: in their order; random: in an order drawn for each question."""
    recursor_timeout_s: float = 2.0


@dataclass(frozen=True, slots=True)
class GossipSettings:
    """memberlist's knobs [gossip_lan]."""

    gossip_nodes: int = 3
    """Members told of news each interval."""
    gossip_interval_s: float = 0.2
    probe_interval_s: float = 1.0
    probe_timeout_s: float = 0.5
    retransmit_mult: int = 4
    """A message is sent retransmit_mult * log10(members + 1) times."""
    suspicion_mult: int = 4
    """A suspect is declared dead after suspicion_mult * log10(members) * probe_interval."""


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """Whom the HTTP API answers, and how much it takes [http_config, limits]."""

    allowed_hosts: tuple[str, ...] = ()
    """Further names that requests may carry in Host [allowed_hosts, ALLOWED_HOSTS]. IP literals,
    localhost, node names and names in the domain are always known."""
    allowed_origins: tuple[str, ...] = ()
    """Origins that may write, beside the request's own host [allowed_origins, ALLOWED_ORIGINS]."""
    block_endpoints: tuple[str, ...] = ()
    """Path prefixes answered 403."""
    allow_write_http_from: tuple[str, ...] = ()
    """Networks (CIDR) whose clients may write; empty = all."""
    response_headers: Mapping[str, str] = field(default_factory=dict)
    """Added to every answer."""
    max_connections_per_client: int = 200
    """By client address; the next one gets 429 [limits.http_max_conns_per_client]."""
    kv_value_bytes_max: int = 512 * 1024
    """Longest value of a key; longer is 413 [limits.kv_max_value_size]."""
    pretty: bool = False
    """Always indent JSON, as -dev does."""
    unprintable_filter: bool = True
    """Refuse paths with unprintable characters [disable_http_unprintable_char_filter]."""
    kv_key_validation: bool = True
    """Refuse keys that climb out of their path [disable_kv_key_validation]."""
    default_query_time_s: float = 300.0
    """A blocking query's wait when it says none [default_query_time]."""
    max_query_time_s: float = 600.0
    """Longest wait of a blocking query [max_query_time]."""
    discovery_max_stale_s: float = 0.0
    """Above 0: catalog and health reads are stale reads by default, up to this age."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSettings:
    """Everything an agent needs to know at its start."""

    node_name: str
    """Unique in the datacenter; the host's name unless given [node_name]."""
    node_id: str = ""
    """A UUID; "" = the one in the data directory, or a new one [node_id]."""
    node_meta: Mapping[str, str] = field(default_factory=dict)
    """Key and value pairs shown with the node [node_meta]; re-read at reload."""
    datacenter: str = "dc1"
    domain: str = "consul"
    """Of the names in DNS, lower case, without dots at its ends [domain]."""
    alt_domain: str = ""

    data_dir: Path | None = None
    """Where everything durable lives; None = in memory, for -dev [data_dir]."""
    config_files: tuple[Path, ...] = ()
    """The configuration files read, in their order: service definitions are read again from
    these (and `config_dirs`) at reload."""
    config_dirs: tuple[Path, ...] = ()

    command_line: tuple[str, ...] = ()
    """The flags this value was built from, for `configuration.reread` at reload."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """The variables this value was built from, and no others."""

    dev: bool = False
    """-dev: one server, in memory, plain logs, pretty JSON."""
    server: bool = False
    """Takes part in Raft; else requests are forwarded to servers."""
    bootstrap_expect: int = 0
    """Servers that found the cluster together: 1 (also -bootstrap), 3 or 5; 0 = join an existing
    cluster, or a client."""

    bind_address: str = LOOPBACK
    """RPC and gossip listen here; an IP address [bind_addr, BIND]. Loopback until told otherwise,
    by allow_plain too: then every address, as Consul's."""
    advertise_address: str = LOOPBACK
    """The IP address other agents use for us [advertise_addr]."""
    http_addresses: tuple[str, ...] = (LOOPBACK,)
    """The HTTP API listens on each of these [client_addr, addresses.http]."""
    https_addresses: tuple[str, ...] = (LOOPBACK,)
    dns_addresses: tuple[str, ...] = (LOOPBACK,)
    """DNS listens on each of these [client_addr, addresses.dns]."""
    source_address: str = ""
    """Outgoing connections come from here; "" = the system chooses [source_addr, SOURCE]. A
    bind_address on loopback other than 127.0.0.1 is its own source unless told otherwise."""
    allow_plain: bool = False
    """Let plain client listeners leave loopback [allow_plain, ALLOW_PLAIN]."""
    ports: Ports = Ports()

    start_join: tuple[str, ...] = ()
    """Joined once at the start; failing is fatal [start_join, -join]."""
    retry_join: tuple[str, ...] = ()
    """Joined until one answers; names are resolved anew at each attempt [retry_join]."""
    retry_interval_s: float = 30.0
    retry_max: int = 0
    """Intervals after which an agent that joined nobody leaves; 0 = never."""
    rejoin_after_leave: bool = False
    """Call the peers of last time even after a leave."""
    identity: IdentitySettings = field(default_factory=IdentitySettings)
    """Key, certificate and CA: with one, agents and programs speak mutual TLS [identity, exchange,
    cert_file, key_file, ca_file, crl_file, mutual_tls; IDENTITY, EXCHANGE, MUTUAL_TLS]."""
    encrypt_key: bytes = b""
    """Gossip's key, 16, 24 or 32 bytes; empty = gossip in the clear [encrypt, base64]."""

    raft_multiplier: int = 1
    """Scales heartbeat (100 ms) and election (500-1,000 ms) times [performance]."""
    leave_drain_time_s: float = 5.0
    """How long a server that leaves goes on answering, from then on [performance]."""
    rpc_hold_timeout_s: float = 7.0
    """How long a request waits for a leader [performance]."""
    leave_on_terminate: bool = False
    """Leave the cluster at SIGTERM; clients do by default."""
    skip_leave_on_interrupt: bool = False
    """Do not leave at SIGINT; servers do not by default."""
    reconnect_timeout_s: float = 72 * HOUR_S
    """A failed member is reaped after this time; at least 8 h unless -dev."""

    check_update_interval_s: float = 300.0
    """A check whose output alone changed is sent at most this often."""
    check_output_bytes_max: int = 4096
    """What is kept of a check's output; a check may have a lower limit of its own."""
    discard_check_output: bool = False
    """Keep nothing of it."""

    dns: DnsSettings = DnsSettings()
    gossip: GossipSettings = GossipSettings()
    http: HttpSettings = HttpSettings()

    log_level: str = "info"
    """trace, debug, info, warn or err; re-read at reload."""
    log_json: bool = True
    """JSON lines; -dev writes plain ones."""
    pid_file: Path | None = None
    health: tuple[str, int] | None = None
    """Where /livez, /readyz and /metrics are served; None = nowhere [-health IP:PORT]."""

    @property
    def client_only(self) -> bool:
        """Forwards to servers instead of holding the catalog."""
        return not self.server


def development(node_name: str = "") -> AgentSettings:
    """What -dev means: a server of its own, nothing on disk, loopback, for people's eyes."""
    return AgentSettings(
        node_name=node_name or host_name(),
        dev=True,
        server=True,
        bootstrap_expect=1,
        http=HttpSettings(pretty=True),
        gossip=local_gossip(),
        leave_drain_time_s=0.0,
        leave_on_terminate=False,
        skip_leave_on_interrupt=True,
        log_level="info",
        log_json=False,
    )


def local_gossip() -> GossipSettings:
    """memberlist's settings for one machine: everything faster."""
    return replace(
        GossipSettings(),
        gossip_interval_s=0.1,
        probe_interval_s=1.0,
        probe_timeout_s=0.2,
        retransmit_mult=2,
        suspicion_mult=3,
    )


def host_name() -> str:
    """This machine's name, the default of node_name."""
    return platform.node() or "localhost"


def keyring_path(data_dir: Path) -> Path:
    """Where an agent keeps the keys of gossip."""
    return data_dir / "serf" / "local.keyring"
