"""The listener table: every port of every program, in this one place.

Programs take their default ports from here; docs, the compose file and a security test are made
from it. Plain listeners for users answer on loopback only: `check_plain` refuses anything else
unless the user said `-allow-plain`. No socket is opened here.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum


class Security(Enum):
    """How a listener protects what it carries."""

    PLAIN = "plain"
    """For users and tools: loopback only, unless allow_plain."""
    MUTUAL_TLS = "mutual TLS by role"
    """Between programs; plain without an identity (`-mutual-tls=off`), or not open at all."""
    SERVER_TLS = "server certificate"
    """Whoever connects needs none; open with an identity only."""
    ENCRYPTED = "its own encryption"
    """Gossip (AES-GCM), media (SRTP)."""


@dataclass(frozen=True, slots=True)
class Listener:
    """One port of one program."""

    program: str
    name: str
    """The key a setting or flag names it by: "http"."""
    port: int
    protocol: str
    """tcp, udp or udp+tcp."""
    purpose: str
    security: Security
    published: bool = False
    """Whether compose publishes it, on 127.0.0.1 only."""
    default_bind: str = "127.0.0.1"


LISTENERS = (
    Listener("agent", "http", 8500, "tcp", "HTTP API", Security.PLAIN, published=True),
    Listener("agent", "dns", 8600, "udp+tcp", "DNS, off where the front runs", Security.PLAIN),
    Listener("agent", "https", 8501, "tcp", "HTTP API and feed", Security.MUTUAL_TLS),
    Listener("agent", "server", 8300, "tcp", "RPC: Raft, forwarding", Security.MUTUAL_TLS),
    Listener("agent", "serf_lan", 8301, "udp+tcp", "gossip", Security.ENCRYPTED),
    Listener("nameserver", "dns", 8600, "udp+tcp", "DNS front", Security.PLAIN, published=True),
    Listener("nameserver", "internal", 53, "udp+tcp", "DNS inside compose", Security.PLAIN),
    Listener("nameserver", "dot", 8853, "tcp", "DNS over TLS", Security.SERVER_TLS),
    Listener("hub", "http", 8800, "tcp", "event hub", Security.PLAIN, published=True),
    Listener("hub", "https", 8801, "tcp", "event hub", Security.MUTUAL_TLS),
    Listener("postgres", "sql", 5432, "tcp", "PostgreSQL, the hubs' history", Security.PLAIN),
    Listener("gateway", "http", 8889, "tcp", "WHEP, WHIP, API", Security.PLAIN, published=True),
    Listener("gateway", "janus", 8088, "tcp", "Janus HTTP", Security.PLAIN, published=True),
    Listener("gateway", "janus_ws", 8188, "tcp", "Janus WebSocket", Security.PLAIN, published=True),
    Listener("gateway", "media", 8189, "udp+tcp", "WebRTC", Security.ENCRYPTED, published=True),
    Listener("gateway", "rtp", 5004, "udp", "RTP in from scripts", Security.PLAIN, published=True),
    Listener("gateway", "rtp_audio", 5002, "udp", "RTP in, audio", Security.PLAIN, published=True),
    Listener("gateway", "https", 8890, "tcp", "API", Security.MUTUAL_TLS),
    Listener("sidecar", "control", 8090, "tcp", "leases", Security.MUTUAL_TLS),
    Listener("fileserver", "https", 1443, "tcp", "page, API", Security.SERVER_TLS, published=True),
    Listener("coturn", "turn", 3478, "udp+tcp", "TURN", Security.ENCRYPTED, published=True),
    Listener("coturn", "turns", 5349, "tcp", "TURN over TLS", Security.SERVER_TLS, published=True),
)
"""Every listener but the health one, which each program opens by `-health IP:PORT` alone."""

HEALTH_PORT = 9090
"""Of the health listener, in compose and `make run`; never published."""

PROGRAMS = tuple(dict.fromkeys(listener.program for listener in LISTENERS))


class PlainRefused(ValueError):
    """A plain listener would leave loopback; the text says what to set."""


def listener(program: str, name: str) -> Listener:
    """The row of the table. Raises KeyError for one that is not there."""
    for row in LISTENERS:
        if row.program == program and row.name == name:
            return row
    raise KeyError(f"{program} has no listener {name}")


def default_port(program: str, name: str) -> int:
    """A listener's port."""
    return listener(program, name).port


def is_loopback(address: str) -> bool:
    """Whether an IP address is in 127.0.0.0/8 or ::1 (IPv4 in IPv6, brackets and scopes included).
    A name is not: what it resolves to may change."""
    try:
        parsed = ipaddress.ip_address(address.strip("[]").partition("%")[0])
    except ValueError:
        return False
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return (mapped or parsed).is_loopback


def check_plain(addresses: Iterable[str], *, allow_plain: bool, what: str) -> None:
    """Refuse plain listeners outside loopback, unless told to allow them.

    `what` names the listener for the user ("http"). Raises PlainRefused.
    """
    if allow_plain:
        return
    outside = [address for address in addresses if not is_loopback(address)]
    if outside:
        raise PlainRefused(
            f"{what} would listen in the clear on {', '.join(outside)}, outside 127.0.0.0/8 and "
            "::1: everyone who reaches that address could read and write. Listen on 127.0.0.1, "
            "or say -allow-plain (ALLOW_PLAIN=1, key allow_plain) if the network is yours alone"
        )


def as_markdown() -> str:
    """The table as docs show it."""
    rows = [
        f"| {row.program} | {row.port} | {row.protocol} | {row.purpose} | {row.security.value} "
        f"| {'127.0.0.1' if row.published else 'no'} |"
        for row in LISTENERS
    ]
    head = (
        "| program | port | protocol | purpose | security | published |\n|---|---|---|---|---|---|"
    )
    return "\n".join([head, *rows])
