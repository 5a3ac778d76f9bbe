"""The knobs of the protocol, each with its formula, and two presets: lan() and local().

The values are memberlist's and serf's defaults, so that a mixed cluster behaves as one. Nothing
is read from the environment or a file here: programs pass values.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, replace

NAME_BYTES_MAX = 128
"""The longest node name (serf's limit)."""

META_BYTES_MAX = 512
"""The most meta data a member may announce (memberlist's MetaMaxSize)."""


def never_identical(_one: bytes, _other: bytes) -> bool:
    """Two metas never show the same node: what memberlist itself assumes."""
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The settings of one SWIM member. Use lan() or local() to make one."""

    name: str
    """The member's name, unique in the cluster."""
    address: str
    """The IP address others reach us at."""
    port: int
    """The UDP and TCP port others reach us at."""
    meta: bytes = b""
    """What we announce of ourselves, at most META_BYTES_MAX bytes; opaque here."""

    probe_interval_s: float = 1.0
    """One member is probed each interval (times the health score, see awareness)."""
    probe_timeout_s: float = 0.5
    """How long a direct ping may take before others are asked to ping too."""
    indirect_checks: int = 3
    """How many members are asked to ping one that did not answer."""
    gossip_interval_s: float = 0.2
    """How often queued broadcasts are sent to random members."""
    gossip_nodes: int = 3
    """To how many random members each time."""
    gossip_to_the_dead_s: float = 30.0
    """How long a dead member still gets gossip, so that it may refute; then it is forgotten."""
    retransmit_mult: int = 4
    """Each broadcast is sent retransmit_mult * ceil(log10(n + 1)) times."""
    suspicion_mult: int = 4
    """Least suspicion time = suspicion_mult * max(1, log10(n)) * probe_interval_s."""
    suspicion_max_timeout_mult: int = 6
    """Longest suspicion time = this times the least (Lifeguard, section IV-B)."""
    awareness_max: int = 8
    """The health score stays below this (Lifeguard, section IV-A)."""
    push_pull_interval_s: float = 30.0
    """How often the whole state is exchanged with one random member; grows above 32 members."""
    stream_timeout_s: float = 10.0
    """How long one TCP exchange may take."""
    udp_bytes_max: int = 1400
    """The largest datagram sent."""
    dead_reclaim_s: float = 0.0
    """How long a member must be dead before another address may take its name."""
    same_identity: Callable[[bytes, bytes], bool] = never_identical
    """Whether two metas announce one and the same node; then its address may change at once."""

    def __post_init__(self) -> None:
        """Refuse what cannot work. Raises ValueError naming the setting."""
        if not self.name or len(self.name.encode()) > NAME_BYTES_MAX:
            raise ValueError(f"name must have 1 to {NAME_BYTES_MAX} bytes: {self.name!r}")
        if ipaddress.ip_address(self.address).is_unspecified:
            raise ValueError(f"address must be one that others can reach: {self.address}")
        if not 0 < self.port < 65536:
            raise ValueError(f"port must be in 1..65535: {self.port}")
        if len(self.meta) > META_BYTES_MAX:
            raise ValueError(f"meta has {len(self.meta)} bytes, the most is {META_BYTES_MAX}")
        if not 0 < self.probe_timeout_s < self.probe_interval_s:
            raise ValueError("probe_timeout_s must be below probe_interval_s")


def lan(name: str, address: str, port: int) -> Config:
    """Memberlist's DefaultLANConfig: for one data centre. Detects a death in about 6 s."""
    return Config(name=name, address=address, port=port)


def local(name: str, address: str, port: int) -> Config:
    """Memberlist's DefaultLocalConfig: for one machine, where nothing is ever slow."""
    return replace(
        lan(name, address, port),
        probe_timeout_s=0.2,
        indirect_checks=1,
        gossip_interval_s=0.1,
        gossip_to_the_dead_s=15.0,
        retransmit_mult=2,
        suspicion_mult=3,
        push_pull_interval_s=15.0,
        stream_timeout_s=1.0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SerfConfig:
    """The settings of the serf layer: who is forgotten when, and who is called again."""

    reconnect_interval_s: float = 30.0
    """How often one failed member is tried again."""
    reconnect_timeout_s: float = 72 * 3600.0
    """A failed member is forgotten after this long (Consul: 72 h)."""
    tombstone_timeout_s: float = 72 * 3600.0
    """A member that left is forgotten after this long."""
    reap_interval_s: float = 15.0
    """How often the two above are looked at."""
    recent_intent_timeout_s: float = 300.0
    """How long an intent about an unknown member is kept."""
    leave_propagate_s: float = 1.0
    """How long our departure may spread before the sockets close."""
    broadcast_timeout_s: float = 5.0
    """The longest wait for one broadcast of a departure."""
