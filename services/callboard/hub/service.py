"""Start and stop order of the hub.

Health first (it says why we are not ready), then the history, the catalog's topics, readers, last
the listeners and the registration: who finds us may ask us. The stop is the reverse; streams are
ended in order before the history is closed.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time

from callboard.chassis.identity import keep, open_identity
from callboard.chassis.lifecycle import Lifecycle, StartRefused, calm_collector
from callboard.chassis.metrics import LoopLag, Metrics
from callboard.chassis.opening import known_hosts, open_health, open_server, register
from callboard.chassis.registration import own_address
from callboard.chassis.standing import judge_standing
from callboard.files.directories import make_durably
from callboard.hub.auth import keys
from callboard.hub.auth.origins import Origins
from callboard.hub.auth.rates import Rates
from callboard.hub.auth.requests import Authority
from callboard.hub.auth.tokens import Trust
from callboard.hub.catalog.follower import CatalogFollower
from callboard.hub.figures import Figures
from callboard.hub.history.sqlite import SqliteStore
from callboard.hub.history.store import Acknowledge, Store
from callboard.hub.history.stored import StoredHistory
from callboard.hub.http.application import Hub
from callboard.hub.http.hooks import load_hooks
from callboard.hub.http.ports import Door
from callboard.hub.matching.index import Index
from callboard.hub.mercure.webhooks import BadHook
from callboard.hub.settings import HubSettings
from callboard.hub.subscribers.readers import Readers
from callboard.pki.contexts import Material
from callboard.pki.live import LiveIdentity
from callboard.pki.reasons import explain_files
from callboard.serve import Limits, Request, Server, TimerWheel
from callboard.serve.memory import map_tls_buffers

log = logging.getLogger(__name__)

PROGRAM = "hub"
FILESERVER = "fileserver"
"""The role whose X-Forwarded-For is believed."""


class HubProgram:
    """One hub, from `start` to `stop`."""

    def __init__(self, settings: HubSettings) -> None:
        self._settings = settings
        self.metrics = Metrics()
        self._wheel = TimerWheel(asyncio.get_running_loop())
        self.servers: list[Server] = []
        self._ready = False
        self._follower: CatalogFollower | None = None

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
            ready={PROGRAM: lambda: None if self._ready else "starting"},
            remarks={"catalog": self._catalog_problem},
        )
        address = settings.advertise or own_address(settings.bind)
        identity = await open_identity(
            settings.identity, settings.node, life, self.metrics, [address] if address else []
        )
        history = await self._open_history(life)
        await self._follow_catalog(life, identity)
        topics = self._follower.topics if self._follower is not None else None
        readers = Readers(
            history,
            topics,
            Index(settings.resource),
            wheel=self._wheel,
            times=settings.times,
            limits=settings.limits,
            name=settings.node,
        )
        life.on_stop("readers", readers.stop)
        hub = self._hub(history, readers)
        await self._listen(life, hub, identity)
        holders = [server.judge for server in self.servers]
        if self._follower is not None:
            holders.append(self._follower.judge)
        judge_standing(life, identity, *holders)
        await register(
            life,
            settings,
            PROGRAM,
            port=self.servers[0].port,
            address=address,
            tls=identity.for_servers() if identity is not None else None,
            https_port=self.servers[1].port if len(self.servers) > 1 else None,
        )
        self._ready = True
        calm_collector()

    # ------------------------------------------------------------------ parts

    def _catalog_problem(self) -> str | None:
        return self._follower.problem() if self._follower is not None else None

    async def _open_history(self, life: Lifecycle) -> StoredHistory:
        settings = self._settings
        try:
            make_durably(settings.data_dir)
            store: Store
            behind = None
            if settings.store:
                from callboard.hub.history.postgres import PostgresStore  # noqa: PLC0415 - psycopg

                store = PostgresStore(settings.store, settings.retention, settings.data_dir)
            else:
                store = own = SqliteStore(
                    settings.data_dir, settings.acknowledge, settings.retention
                )
                behind = own if settings.acknowledge is Acknowledge.MEMORY else None
            history = StoredHistory(
                store, settings.retention, clock=time.time, fatal=life.fatal, behind=behind
            )
            await history.start()
        except (OSError, ValueError) as problem:
            raise StartRefused(f"history in {settings.data_dir}: {problem}") from problem
        life.on_stop("history", history.close, deadline_s=30.0)
        return history

    async def _follow_catalog(self, life: Lifecycle, identity: LiveIdentity | None) -> None:
        settings = self._settings
        if not settings.catalog:
            return
        follower = self._follower = CatalogFollower(
            settings.catalog,
            token=settings.token,
            tls=identity.for_servers() if identity is not None else None,
            source=settings.source,
        )
        await follower.start()
        life.on_stop("catalog", follower.stop)

    def _hub(self, history: StoredHistory, readers: Readers) -> Hub:
        settings = self._settings
        try:
            own = keys.load(settings.data_dir, settings.publisher_key, settings.subscriber_key)
            hooks = load_hooks(settings.hooks) if settings.hooks is not None else {}
        except (OSError, keys.BadKey, BadHook) as problem:
            raise StartRefused(str(problem)) from problem
        figures = Figures(history, readers)
        figures.register(self.metrics)
        rate = float(settings.publish_rate)
        trust = Trust(settings.resource, settings.issuers)
        return Hub(
            history,
            readers,
            Authority(own, trust, Origins(settings.allowed_origins)),
            figures,
            rates=Rates(rate, max(1.0, rate)),
            anonymous=settings.anonymous,
            hooks=hooks,
            subscriptions=settings.subscriptions,
        )

    async def _listen(self, life: Lifecycle, hub: Hub, identity: LiveIdentity | None) -> None:
        settings = self._settings
        context = None
        if settings.tls is not None:
            shown = self.metrics if identity is None else None
            context = _own_certificate(life, Material(*settings.tls), shown)
        scheme = "https" if context is not None else "http"
        hosts = known_hosts(settings.node, settings.allowed_hosts)
        door = Door(open=settings.open, scheme=scheme, hosts=hosts)
        await self._open(life, hub, door, settings.port, context)
        if identity is not None and settings.https_port >= 0:
            mutual = identity.for_clients(client=ssl.CERT_REQUIRED, alpn=("http/1.1",))
            inner = Door(open=False, scheme="https", hosts=None, proxy=_is_fileserver)
            await self._open(life, hub, inner, settings.https_port, mutual)

    async def _open(
        self, life: Lifecycle, hub: Hub, door: Door, port: int, context: ssl.SSLContext | None
    ) -> None:
        settings = self._settings
        api = hub.api(door)
        if context is not None:
            map_tls_buffers()
        server = Server(
            api.app,
            handlers=api.publishing,
            host=settings.bind,
            port=port,
            ssl_context=context,
            trust=settings.trust_domain,
            limits=Limits(
                connections_max=max(16_384, settings.limits.readers_max + 1_024),
                backlog=4096,
                write_timeout_s=settings.times.stall_s,
            ),
            wheel=self._wheel,
        )
        await open_server(life, server, door.scheme, settings.bind, port)
        self.servers.append(server)


def _is_fileserver(request: Request) -> bool:
    return request.peer is not None and FILESERVER in request.peer.roles


def _own_certificate(
    life: Lifecycle, material: Material, metrics: Metrics | None
) -> ssl.SSLContext:
    """The context of -tls-cert, which follows its files. Raises StartRefused."""
    try:
        live = LiveIdentity(material)
        context = live.for_clients(client=ssl.CERT_NONE, alpn=("http/1.1",))
    except (OSError, ValueError) as problem:
        raise StartRefused(f"-tls-cert: {explain_files(problem, material)}") from problem
    keep(live, life, metrics)
    return context
