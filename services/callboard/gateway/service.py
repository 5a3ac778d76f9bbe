"""Start and stop order of the gateway.

Health first (it says why we are not ready), then the media port and the fan-out, the catalog, the
streams and what tells the hub of them, their sources, sessions, last the listeners and the
registration: who finds us may watch. The stop is the reverse: viewers are told good-bye while their
transports still stand, and the hub of what has ended.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from pathlib import Path

from callboard.chassis.identity import open_identity
from callboard.chassis.lifecycle import Lifecycle, StartRefused, calm_collector
from callboard.chassis.metrics import LoopLag, Metrics
from callboard.chassis.opening import known_hosts, open_health, open_server, register
from callboard.chassis.registration import own_address
from callboard.chassis.standing import judge_standing
from callboard.gateway.announcing.announcer import Announcer
from callboard.gateway.announcing.hubs import Hubs
from callboard.gateway.announcing.readings import readings
from callboard.gateway.fanout.choosing import open_fanout
from callboard.gateway.figures import Figures
from callboard.gateway.http.application import Gateway
from callboard.gateway.http.bearer import Bearer
from callboard.gateway.http.ice_servers import IceServers
from callboard.gateway.janus.listening import JanusListeners
from callboard.gateway.live import Streams
from callboard.gateway.peer.transports import MediaTransports
from callboard.gateway.ports import Fanout
from callboard.gateway.session.sessions import SessionLimits, Sessions
from callboard.gateway.settings import GatewaySettings
from callboard.gateway.snapshots.pictures import Pictures
from callboard.gateway.sources.catalog import Catalog
from callboard.gateway.sources.instances import Instance
from callboard.gateway.sources.opening import Sources, open_sources, script_senders
from callboard.gateway.sources.senders import is_in
from callboard.pki.live import LiveIdentity
from callboard.serve import Limits, Request, Server, TimerWheel
from callboard.serve.memory import map_tls_buffers
from callboard.serve.resources import Door

log = logging.getLogger(__name__)

PROGRAM = "gateway"
HUB = "hub"
FILESERVER = "fileserver"
"""The role whose X-Forwarded-For and -Prefix are believed."""
CONNECTIONS_MAX = 16_384
ANY = ("0.0.0.0", "::")
TOKEN_BYTES_MAX = 4096


class GatewayProgram:
    """One gateway, from `start` to `stop`."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self.metrics = Metrics()
        self._wheel = TimerWheel(asyncio.get_running_loop())
        self.servers: list[Server] = []
        self._catalog: Catalog | None = None
        self._transports: MediaTransports | None = None
        self._ready = False
        self.streams: Streams
        self.sources: Sources
        self.janus: JanusListeners

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
            remarks={"catalog": self._catalog_problem, "media port": self._media_problem},
        )
        address = settings.advertise or own_address(settings.bind)
        identity = await open_identity(
            settings.identity, settings.node, life, self.metrics, [address] if address else []
        )
        transports, fanout = await self._open_media(life)
        self._follow_catalog(life, identity)
        self.streams = Streams(fanout)
        announcer = await self._announce(life, identity)
        rng = random.SystemRandom()
        self.sources = open_sources(self.streams, settings, self._catalog, identity, life, rng=rng)
        limits = SessionLimits(settings.max_viewers, settings.max_viewers)
        sessions = Sessions(self.streams, transports, fanout, limits, rng=rng)
        await sessions.start()
        life.on_stop("sessions", sessions.stop)
        figures = Figures(self.streams, sessions, self.sources, announcer, transports.counters)
        figures.register(self.metrics)
        life.own(figures.follow(), "figures")
        watching = _bearer(settings.whep_token, "whep-token")
        await self._listen(life, self._gateway(life, sessions, watching), identity)
        await self._listen_as_janus(life, sessions, watching)
        judge_standing(life, identity, *(server.judge for server in self.servers))
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
        return self._catalog.problem() if self._catalog is not None else None

    def _media_problem(self) -> str | None:
        missing = self._transports.missing if self._transports is not None else ()
        return f"no address is known of {', '.join(missing)}" if missing else None

    async def _open_media(self, life: Lifecycle) -> tuple[MediaTransports, Fanout]:
        settings = self._settings
        advertised = settings.advertised
        if not advertised and settings.media_bind in ANY:
            advertised = tuple(filter(None, [own_address(settings.media_bind)]))
        where = f"{settings.media_bind}:{settings.media_port}"
        try:
            transports = MediaTransports(settings.media_bind, settings.media_port, advertised)
            life.on_stop("media port", transports.stop)
            await transports.start()
            self._transports = transports
        except (OSError, ValueError) as problem:
            raise StartRefused(f"media port {where}: {problem}") from problem
        log.info(
            "media port open",
            extra={"port": transports.port, "receive_buffer": transports.receive_buffer_bytes},
        )
        return transports, open_fanout(transports.socket, settings.fanout)

    def _follow_catalog(self, life: Lifecycle, identity: LiveIdentity | None) -> None:
        settings = self._settings
        if not settings.catalog:
            return
        if identity is None and any(url.startswith("https:") for url in settings.catalog):
            raise StartRefused("-catalog: agents at https want to see a certificate: -identity")
        self._catalog = Catalog(
            settings.catalog,
            token=settings.token,
            tls=identity.for_servers() if identity is not None else None,
            source=settings.source,
            service_domain=f"service.{settings.trust_domain}" if identity is not None else "",
        )
        judge_standing(life, identity, self._catalog.judge)
        life.own(self._catalog.run(), "follow the catalog")

    async def _announce(self, life: Lifecycle, identity: LiveIdentity | None) -> Announcer:
        """Media events, to a hub: by mutual TLS if there is a token to show, since a hub takes none
        without one there; else at the port for people and tools."""
        settings, catalog = self._settings, self._catalog
        token = _read_token(settings.hub_token, "hub-token")

        def instances() -> tuple[Instance, ...]:
            return catalog.instances(HUB, plain=not token) if catalog is not None else ()

        clock = asyncio.get_running_loop().time
        hubs = Hubs(instances, clock=clock, rng=random.Random(), fixed=settings.hub)
        announcer = Announcer(
            lambda: readings(self.streams),
            hubs.find,
            avoid=hubs.avoid,
            token=token,
            tls=identity.for_servers() if identity is not None else None,
        )
        await announcer.start()
        life.on_stop("media events", announcer.stop)
        return announcer

    def _gateway(self, life: Lifecycle, sessions: Sessions, watching: Bearer | None) -> Gateway:
        settings, pictures = self._settings, Pictures()
        life.on_stop("snapshots", pictures.stop)
        secret = _read_token(settings.turn_secret, "turn-secret")
        # (scripts may send RTP without a token: who publishes from there need not show one, either)
        here = script_senders(settings)
        return Gateway(
            sessions,
            watching=watching,
            publishing=_bearer(settings.whip_token, "whip-token"),
            is_here=lambda host: is_in(host, here),
            ice_servers=IceServers(
                settings.ice_servers, secret, good_for_s=settings.turn_lifetime_s
            ),
            allowed_origins=settings.allowed_origins,
            snapshot=pictures.of,
            frame_ancestors=settings.frame_ancestors,
        )

    async def _listen(
        self, life: Lifecycle, gateway: Gateway, identity: LiveIdentity | None
    ) -> None:
        settings = self._settings
        await self._open(
            life,
            gateway,
            Door(hosts=known_hosts(settings.node, settings.allowed_hosts)),
            settings.port,
            None,
        )
        if identity is not None and settings.https_port >= 0:
            mutual = identity.for_clients(client=ssl.CERT_REQUIRED, alpn=("http/1.1",))
            map_tls_buffers()
            inner = Door(hosts=None, proxy=_is_fileserver)
            await self._open(life, gateway, inner, settings.https_port, mutual)

    async def _listen_as_janus(
        self, life: Lifecycle, sessions: Sessions, watching: Bearer | None
    ) -> None:
        settings = self._settings
        self.janus = JanusListeners(
            sessions,
            watching=watching,
            hosts=known_hosts(settings.node, settings.allowed_hosts),
            allowed_origins=settings.allowed_origins,
            wheel=self._wheel,
        )
        await self.janus.start(life, settings.bind, settings.janus_port, settings.janus_ws_port)

    async def _open(
        self,
        life: Lifecycle,
        gateway: Gateway,
        door: Door,
        port: int,
        context: ssl.SSLContext | None,
    ) -> None:
        settings = self._settings
        api = gateway.api(door)
        server = Server(
            api.app,
            handlers=api.before,
            host=settings.bind,
            port=port,
            ssl_context=context,
            trust=settings.trust_domain,
            limits=Limits(connections_max=CONNECTIONS_MAX),
            wheel=self._wheel,
        )
        scheme = "http" if context is None else "https"
        await open_server(life, server, scheme, settings.bind, port)
        self.servers.append(server)


def _is_fileserver(request: Request) -> bool:
    return request.peer is not None and FILESERVER in request.peer.roles


def _bearer(path: Path | None, flag: str) -> Bearer | None:
    if path is None:
        return None
    try:
        return Bearer(_read_token(path, flag))
    except ValueError as problem:
        raise StartRefused(f"-{flag}={path}: {problem}") from problem


def _read_token(path: Path | None, flag: str) -> str:
    """The one line of a file; "" if none is named. Raises StartRefused."""
    if path is None:
        return ""
    try:
        with path.open("rb") as file:
            token = file.read(TOKEN_BYTES_MAX + 1).decode().strip()
    except (OSError, UnicodeDecodeError) as problem:
        raise StartRefused(f"-{flag}={path}: {problem}") from problem
    if not token or len(token) > TOKEN_BYTES_MAX:
        raise StartRefused(f"-{flag}={path}: it has no token in it")
    return token
