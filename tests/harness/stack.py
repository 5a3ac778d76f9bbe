"""What a test may do with a running stack, whichever way its programs run.

The integration suite is written against `Stack` alone; compose_driver.py runs it in containers and
process_driver.py as local processes. Services have the names of docker-compose.yml, ports those of
the listener table. Faults are undone by `heal`; what a driver cannot do is not in `caps`, and a
test that asks for it is skipped with the name of what is missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Literal, Protocol

from make.programs import CLIENT, HTTP_PORT, HUB, NAMES, NAMESERVER, SERVERS

__all__ = [
    "AGENTS",
    "CLIENT",
    "DNS_INSIDE_PORT",
    "HTTP_PORT",
    "HUB",
    "NAMES",
    "NAMESERVER",
    "SERVERS",
    "Disk",
    "ExecResult",
    "Plan",
    "Stack",
    "StackFailure",
]

AGENTS = (*SERVERS, CLIENT)
DNS_INSIDE_PORT = 53
"""The nameserver's port as programs of the stack see it."""

Transport = Literal["tcp", "udp"]


@dataclass(frozen=True, slots=True)
class ExecResult:
    """What a command inside a service did."""

    code: int
    out: str
    err: str


class Disk(Enum):
    """The state of a service's disk."""

    HEALTHY = "healthy"
    FULL = "full"
    """Every write answers ENOSPC; needs a Plan with this service in small_disks."""
    SLOW = "slow"
    """Every fsync and durable write takes half a second."""
    FAILING = "failing"
    """Every fsync and durable write answers EIO."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a test wants of its own stack beyond the usual one."""

    small_disks: frozenset[str] = frozenset()
    """Services whose data is on a file system of a few MB, which can be filled."""
    clocks: bool = False
    """Whether wall clocks can be moved."""
    hubs: bool = False
    """Whether a second hub, `hub-2`, and the first share a history in `postgres` (containers)."""
    turn: bool = False
    """Whether there is `coturn`, and the gateway tells viewers of it (containers)."""


class StackFailure(AssertionError):
    """The stack did not do what was asked; the text ends with what its programs said."""


class Stack(Protocol):
    """Three server agents, a client agent, the DNS front, the file server, the hub, the issuer."""

    kind: str
    """`containers` or `processes`."""
    caps: frozenset[str]
    """Names of CAPABILITIES that the faults below need and that this stack has."""

    def up(self) -> None:
        """Start everything and return once all are ready. Raises StackFailure."""

    def down(self) -> None:
        """Stop everything and remove all traces, data included."""

    def addr(self, service: str, port: int, transport: Transport = "tcp") -> tuple[str, int]:
        """Return where the test reaches a port of a service. Never keep it: a restart moves it."""

    def url(self, service: str, path: str = "", port: int = HTTP_PORT) -> str:
        """Return the URL of a path of a service."""

    def inside_address(self, service: str) -> str:
        """Return the address that the other services know a running service by."""

    def exec(self, service: str, argv: Sequence[str], timeout_s: float = 30.0) -> ExecResult:
        """Run a command beside a service, with the service's view of the network."""

    def kill(self, service: str) -> None:
        """End a service at once, by SIGKILL; it stays down."""

    def stop(self, service: str) -> None:
        """End a service by SIGTERM; it stays down."""

    def start(self, *services: str) -> None:
        """Start services that are down, all at once; `wait_ready` waits for them."""

    def running(self, service: str) -> bool:
        """Say whether a service's process lives."""

    def pause(self, service: str) -> None:
        """Freeze a service: its sockets stay open, nothing is answered."""

    def unpause(self, service: str) -> None:
        """Let a frozen service go on."""

    def authority(self) -> str:
        """Return the CA certificate of this stack, PEM."""

    def permute(self, *services: str) -> None:
        """Give each of these services, all down, the address that the next one had."""

    def partition(self, a: Iterable[str], b: Iterable[str], *, oneway: bool = False) -> None:
        """Drop all packets from `a` to `b`, and from `b` to `a` unless `oneway`."""

    def degrade(self, a: Iterable[str], b: Iterable[str], *, loss: float) -> None:
        """Drop packets between `a` and `b` with the probability `loss`, both ways."""

    def disk(self, service: str, state: Disk) -> None:
        """Put a service's disk into a state."""

    def clock(self, service: str, offset_s: float) -> None:
        """Move a service's wall clock so far from the real one, within a second (Plan.clocks)."""

    def heal(self) -> None:
        """Undo all faults: partitions, losses, pauses, disks, clocks. Starts nothing."""

    def is_ready(self, service: str) -> bool:
        """Say whether a service's /readyz answers 200."""

    def wait_ready(self, *services: str, timeout_s: float = 60.0) -> None:
        """Return once these services (all, if none is named) are ready. Raises StackFailure."""

    def logs(self, service: str | None = None) -> str:
        """Return what one service or all have written."""
