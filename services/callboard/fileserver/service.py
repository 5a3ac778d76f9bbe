"""Start and stop order of the file server.

Health first (it says why we are not ready), then the identity if an issuer gives it, certificates,
the folder, and last the listener. The stop is the reverse; answers on their way get their time.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Mapping

from callboard.chassis.identity import open_identity
from callboard.chassis.lifecycle import Lifecycle, StartRefused, calm_collector
from callboard.chassis.metrics import Labels, LoopLag, Metrics
from callboard.chassis.opening import open_health, register
from callboard.chassis.registration import own_address
from callboard.fileserver.access import AccessLog
from callboard.fileserver.credentials import Credentials, CredentialsError
from callboard.fileserver.folder import Folder
from callboard.fileserver.ports import Router
from callboard.fileserver.server import Server
from callboard.fileserver.settings import FileserverSettings
from callboard.fileserver.transport import State

log = logging.getLogger(__name__)

PROGRAM = "fileserver"


class Fileserver:
    """One file server, from `start` to `stop`."""

    def __init__(self, settings: FileserverSettings) -> None:
        self._settings = settings
        self.metrics = Metrics()
        self.server: Server | None = None

    async def start(self, life: Lifecycle) -> None:
        """Start everything; what was started is stopped by `life`. Raises StartRefused."""
        settings = self._settings
        lag = LoopLag(self.metrics)
        lag.start()
        life.on_stop("loop lag", lag.stop)
        await open_health(
            life,
            settings.health,
            self.metrics,
            ready={"server": lambda: None if self.server else "starting"},
        )
        address = own_address(settings.bind)
        identity = await open_identity(
            settings.identity, settings.node, life, self.metrics, [address] if address else []
        )
        try:
            credentials = Credentials(settings.pairs, settings.client_ca, settings.crl)
        except CredentialsError as problem:
            raise StartRefused(str(problem)) from problem
        self._count_certificates(credentials, own=identity is None)
        router = None
        if settings.catalog:
            from callboard.fileserver.routes.opening import open_routes  # noqa: PLC0415 - aiohttp

            router = open_routes(settings, identity, life, self.metrics)
        await self._listen(life, credentials, router)
        assert self.server is not None
        await register(
            life,
            settings,
            PROGRAM,
            port=self.server.port,
            address=address,
            tls=identity.for_servers() if identity is not None else None,
        )

    async def _listen(
        self, life: Lifecycle, credentials: Credentials, router: Router | None
    ) -> None:
        settings = self._settings
        access = None
        if settings.access_log:
            access = AccessLog(sys.stderr.fileno())
            life.on_stop("access log", _stopper(access))
        folder = Folder(
            os.fsencode(settings.root),
            spa=settings.spa,
            listings=settings.listings,
            csp=settings.csp,
        )
        server = self.server = Server(
            folder,
            credentials,
            host=settings.bind,
            port=settings.port,
            limits=settings.limits,
            allowed_hosts=settings.allowed_hosts,
            access=access,
            router=router,
            asks_certificates=settings.client_ca is not None,
        )
        try:
            await server.start()
        except OSError as problem:
            raise StartRefused(_words(problem, settings)) from problem
        life.on_stop(PROGRAM, server.stop, deadline_s=settings.limits.drain_s + 2)
        life.on_reload(server.look_now)
        self._count(server)
        calm_collector()
        host = f"[{settings.bind}]" if ":" in settings.bind else settings.bind
        log.info(
            "serving", extra={"url": f"https://{host}:{server.port}/", "root": str(settings.root)}
        )

    def _count_certificates(self, credentials: Credentials, *, own: bool) -> None:
        if own:  # an identity's keeper counts the same
            self.metrics.read_gauge(
                "callboard_certificate_days_left",
                "Until this program's certificate ends; negative afterwards.",
                credentials.days_left,
            )
        self.metrics.read_counter(
            "callboard_fileserver_certificate_changes_total",
            "How often certificate, CA or revocation list were taken anew.",
            lambda: float(credentials.generation),
        )
        self.metrics.read_counter(
            "callboard_fileserver_certificate_refusals_total",
            "How often changed files did not fit together, and the old ones stayed.",
            lambda: float(credentials.refusals),
        )

    def _count(self, server: Server) -> None:
        metrics = self.metrics
        metrics.read_counter(
            "callboard_fileserver_requests_total",
            "Requests answered, by status; 0 is a relay without an answer.",
            lambda: _labelled(server.answered),
            ("status",),
        )
        metrics.read_counter(
            "callboard_fileserver_sent_bytes_total",
            "Bytes of bodies and of relayed answers.",
            lambda: float(server.sent_bytes),
        )
        metrics.read_counter(
            "callboard_fileserver_connections_total",
            "Connections accepted.",
            lambda: float(server.accepted),
        )
        metrics.read_counter(
            "callboard_fileserver_connection_failures_total",
            "Connections that ended otherwise than in order, by reason.",
            lambda: _labelled(server.failures),
            ("reason",),
        )
        metrics.read_gauge(
            "callboard_fileserver_connections",
            "Connections open now, by what they are doing.",
            lambda: _states(server),
            ("state",),
        )
        metrics.read_gauge(
            "callboard_fileserver_paths",
            "Paths that can be asked for.",
            lambda: float(len(server.table.paths)),
        )
        metrics.read_gauge(
            "callboard_fileserver_memory_bytes",
            "Of bodies kept in memory.",
            lambda: float(server.table.memory_bytes),
        )


def _labelled(counts: Mapping[str, int] | Mapping[int, int]) -> dict[Labels, float]:
    return {(str(label),): float(count) for label, count in counts.items()}


def _states(server: Server) -> dict[Labels, float]:
    found: dict[Labels, float] = {
        (state.name.lower(),): 0.0 for state in State if state is not State.CLOSED
    }
    for transport in server.connections:
        found[transport.state.name.lower(),] += 1
    return found


def _stopper(access: AccessLog) -> Callable[[], Awaitable[None]]:
    async def stop() -> None:
        access.stop()

    return stop


def _words(problem: OSError, settings: FileserverSettings) -> str:
    where = f"{settings.bind}:{settings.port}"
    if problem.errno == errno.EADDRINUSE:
        return f"{where} is in use: say -port=N for another one"
    if problem.errno == errno.EADDRNOTAVAIL:
        return f"-bind: {settings.bind} is no address of this machine"
    if problem.errno == errno.EACCES:
        return f"{where} may not be listened on by this user"
    return str(problem)
