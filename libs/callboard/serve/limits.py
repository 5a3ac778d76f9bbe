"""The limits of one server: what a client may cost us, each number with its reason."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes, times in seconds. The defaults suit an agent on a farm's own network."""

    head_bytes_max: int = 32 * 1024
    """Request line and headers together; more is 431. (nginx: four of 8 kB; Go: 1 MB.)"""
    head_timeout_s: float = 10.0
    """From the first byte of a head to its end; slower is 408 (Go: ReadHeaderTimeout)."""
    body_bytes_max: int = 1 << 20
    """For requests of no known route; a route has its own. More is 413."""
    body_timeout_s: float = 60.0
    """From the end of the head to the end of the body; slower is 408."""
    idle_timeout_s: float = 130.0
    """Between requests. Clients pool connections for up to 120 s: ours must outlive theirs."""
    write_timeout_s: float = 30.0
    """A reader that takes not one byte for so long is cut. By TLS also one that has not taken all
    that is left, and said farewell, so long after its connection was closed here."""
    write_high_water_bytes: int = 256 * 1024
    """Unsent bytes of one connection above which no further pipelined request is begun."""
    pipeline_max: int = 64
    """Requests of one connection waiting behind one that is not answered yet."""
    pipeline_bytes_max: int = 256 * 1024
    """Bytes of those, and bytes read ahead of them; a client that sends more behind a parked
    request is cut."""
    connections_max: int = 16_384
    """Further ones wait in the kernel's backlog. Less where file descriptors are fewer: see
    `affordable`."""
    connections_per_client_max: int = 0
    """Of one client address; more are answered 429 (Consul: http_max_conns_per_client).
    0: no limit."""
    backlog: int = 1024
    accept_backoff_s: float = 0.5
    """Pause of accepting when the process is out of file descriptors."""


DESCRIPTORS_KEPT = 256
"""Kept free of clients' connections: files, and connections between agents, must not fail because
clients are many (a log that cannot open its next segment stops its agent)."""


def affordable(connections_max: int, descriptors: int) -> int:
    """How many connections a server may take when the process may open so many files
    (RLIMIT_NOFILE; below 0: no limit)."""
    if descriptors < 0:
        return connections_max
    return max(1, min(connections_max, descriptors - min(DESCRIPTORS_KEPT, descriptors // 2)))
