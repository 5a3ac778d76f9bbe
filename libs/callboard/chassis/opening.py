"""What programs open alike: the health listener, a server of HTTP, their entry in the catalog."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from callboard.chassis.guards import HostGuard
from callboard.chassis.health import HealthServer, Readiness
from callboard.chassis.lifecycle import Lifecycle, StartRefused
from callboard.chassis.metrics import Metrics
from callboard.chassis.registration import Registration

log = logging.getLogger(__name__)

DRAIN_S = 5.0
"""For requests that are under way when a program stops."""


class Registered(Protocol):
    """The settings of a program that is in the catalog."""

    @property
    def register(self) -> bool:
        """Whether it is."""

    @property
    def catalog(self) -> Sequence[str]:
        """URLs of agents."""

    @property
    def node(self) -> str:
        """Name of this instance."""

    @property
    def token(self) -> str:
        """For the catalog."""

    @property
    def source(self) -> str:
        """The address it connects from; "" for any."""


class Serving(Protocol):
    """A server of `callboard.serve`."""

    @property
    def port(self) -> int:
        """Valid after `start`."""

    async def start(self) -> None:
        """Listen. Raises OSError."""

    async def stop(self, drain_s: float) -> None:
        """Let requests end for so long."""


async def open_health(
    life: Lifecycle,
    address: tuple[str, int] | None,
    metrics: Metrics,
    *,
    ready: Mapping[str, Readiness],
    remarks: Mapping[str, Readiness] | None = None,
) -> None:
    """Open the health listener at an address, if one is given. Raises StartRefused."""
    if address is None:
        return
    health = HealthServer(*address, metrics)
    for name, check in ready.items():
        health.ready_when(name, check)
    for name, remark in (remarks or {}).items():
        health.remark(name, remark)
    try:
        await health.start()
    except OSError as problem:
        raise StartRefused(f"health: {problem}") from problem
    life.on_stop("health", health.stop)


async def open_server(life: Lifecycle, server: Serving, scheme: str, host: str, port: int) -> None:
    """Let a server listen until the program ends; `host` and `port` are what it was told. Raises
    StartRefused."""
    await started(server.start, f"{host}:{port}")
    life.on_stop(f"{scheme} on {server.port}", lambda: server.stop(DRAIN_S), deadline_s=DRAIN_S + 2)
    log.info("serving", extra={"url": f"{scheme}://{host}:{server.port}/"})


async def started(start: Callable[[], Awaitable[object]], where: str) -> None:
    """Start a listener. Raises StartRefused."""
    try:
        await start()
    except OSError as problem:
        raise StartRefused(f"cannot listen on {where}: {problem}") from problem


async def register(
    life: Lifecycle,
    settings: Registered,
    program: str,
    *,
    port: int,
    address: str,
    tls: ssl.SSLContext | None,
    https_port: int | None = None,
) -> None:
    """Announce a program, if it is to be, until it ends. `port` is the one for people and tools,
    `https_port` the one for other programs (the meta field of that name)."""
    if not settings.register:
        return
    registration = Registration(
        ",".join(settings.catalog),
        program,
        id=f"{program}-{settings.node}",
        port=port,
        address=address,
        meta={"https_port": str(https_port)} if https_port is not None else None,
        token=settings.token,
        source=settings.source,
        tls=tls,
    )
    await registration.start()
    life.on_stop("registration", registration.stop)


def known_hosts(node: str, allowed: Sequence[str]) -> HostGuard | None:
    """The names that a program answers to besides localhost and addresses: its own, those of the
    catalog's DNS, and `allowed` ones; None: any, by `*`."""
    if "*" in allowed:
        return None
    return HostGuard(names=(node, *allowed), domains=("consul",), is_node=lambda name: False)
