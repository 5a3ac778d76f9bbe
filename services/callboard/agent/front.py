"""The agent's face: HTTP and DNS on the state store, the feed, and what wakes readers."""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from callboard.agent.cluster import Cluster
from callboard.agent.debug_config import debug_config
from callboard.agent.feed_over_rpc import METHOD as FEED
from callboard.agent.feed_over_rpc import FeedReader, FeedService
from callboard.agent.http.application import Api, build_api
from callboard.agent.http.context import ApiContext, Forwarding
from callboard.agent.http.problems import ApiError
from callboard.agent.local.registry import LocalRegistry
from callboard.agent.membership.tags import from_wire
from callboard.agent.ports import Engine, NotReady
from callboard.agent.settings import OFF, AgentSettings
from callboard.agent.state.store import StateStore
from callboard.catalog.discovery import DiscoveryView
from callboard.chassis.metrics import Labels, LoopLag, Metrics
from callboard.dns.forwarder import RecursorForwarder
from callboard.dns.recursors import WILDCARDS, recursor_address, without_own
from callboard.dns.server import DnsServer
from callboard.dns.settings import TTL_MAX_S, DnsSettings, Soa
from callboard.feed.copy import CatalogCopy
from callboard.feed.source import FeedCluster, FeedSource, TooManyReaders, UnknownFormat
from callboard.feed.wire import Member as FedMember
from callboard.pki.live import Judge, LiveIdentity
from callboard.pki.roles import trust_domain
from callboard.serve import FanOut, Limits, Request, Server, Stream, TimerWheel
from callboard.swim.serf_members import SerfMember

log = logging.getLogger(__name__)

METHODS = frozenset({"GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS"})
"""Told apart in metrics; what else clients make up counts as one."""

FINISH_S = 3.0
"""How long requests that are being answered have at a stop."""
UNHEARD_S = 5.0
"""Without dns_config.allow_stale: a leader not heard for so long is none, and DNS is SERVFAIL."""


class Front:
    """HTTP and DNS of one agent."""

    def __init__(
        self,
        settings: AgentSettings,
        store: StateStore,
        *,
        rng: random.Random,
        metrics: Metrics | None = None,
        identity: LiveIdentity | None = None,
    ) -> None:
        """`identity`: open https, for other programs and for people with a certificate."""
        self._settings = settings
        self._store = store
        self._rng = rng
        loop = asyncio.get_running_loop()
        self._wheel = TimerWheel(loop)
        self._fanout = FanOut(loop)
        self._http: list[Server] = []
        self._dns: list[DnsServer] = []
        self._feed: FeedSource | None = None
        self._reader: FeedReader | None = None
        self._forwarder: RecursorForwarder | None = None
        self.metrics = metrics or Metrics()
        self._identity = identity
        self._https: list[Server] = []
        self._lag = LoopLag(self.metrics)
        self._answers = self.metrics.counter(
            "callboard_http_answers", "HTTP answers by method and status", ("method", "status")
        )
        self.metrics.read_counter(
            "callboard_https_refused_total",
            "https connections that failed at the handshake, or were cut later (standing).",
            self._https_refused,
            ("why",),
        )

    def _https_refused(self) -> dict[Labels, float]:
        return {
            ("handshake",): float(sum(server.handshakes_failed for server in self._https)),
            ("standing",): float(sum(server.cut for server in self._https)),
        }

    @property
    def https_port(self) -> int:
        """The port of the first https listener; -1 when https is off."""
        return self._https[0].port if self._https else OFF

    @property
    def http_port(self) -> int:
        """The port of the first HTTP listener; -1 when HTTP is off."""
        return self._http[0].port if self._http else OFF

    @property
    def dns_port(self) -> int:
        """The port of the first DNS listener; -1 when DNS is off."""
        return self._dns[0].udp_port if self._dns else OFF

    def wake(self) -> None:
        """After each slice of applied entries: tell listeners, wake whose resource moved."""
        for waiter in self._store.drain_woken():
            waiter.wake()

    async def start(
        self,
        cluster: Cluster,
        local: LocalRegistry,
        *,
        reload: Callable[[], Awaitable[None]],
        leave: Callable[[], Awaitable[None]],
    ) -> None:
        """Open the listeners. Raises OSError naming the address that cannot be had."""
        self._lag.start()
        engine = cluster.engine
        if cluster.driver is not None:
            names = _feed_cluster(cluster, self._settings.node_name)
            feed = self._feed = FeedSource(self._store, names)
            feed.start()
            cluster.rpc.register(FEED, FeedService(feed, lambda: engine.ready).serve)
        api = build_api(self._context(cluster, local, reload, leave))
        cluster.rpc.register("http", lambda peer, body: api.serve_forwarded(body))
        await self._open_http(api)
        await self._open_https(api)
        await self._open_dns(cluster)

    async def stop(self) -> None:
        """Close the listeners; parked requests are ended."""
        for dns in self._dns:
            await dns.stop()
        if self._forwarder is not None:
            self._forwarder.close()
        if self._reader is not None:
            await self._reader.stop()
        if self._feed is not None:
            self._feed.stop()
        for http in (*self._http, *self._https):
            await http.stop(FINISH_S)
        self._wheel.close()
        await self._lag.stop()

    async def _open_http(self, api: Api) -> None:
        settings = self._settings
        if settings.ports.http != OFF:
            for address in settings.http_addresses:
                port = settings.ports.http
                self._http.append(await self._listen(api, "http", address, port, None))

    async def _open_https(self, api: Api) -> None:
        settings = self._settings
        if self._identity is not None and settings.ports.https != OFF:
            context = self._identity.for_clients(client=ssl.CERT_REQUIRED, alpn=("http/1.1",))
            for address in settings.https_addresses:
                port = settings.ports.https
                self._https.append(await self._listen(api, "https", address, port, context))

    async def _listen(
        self, api: Api, name: str, address: str, port: int, context: ssl.SSLContext | None
    ) -> Server:
        per_client = max(0, self._settings.http.max_connections_per_client)  # 0 and -1: no limit
        server = Server(
            api.app,
            handlers=api.routes,
            host=address,
            port=port,
            ssl_context=context,
            trust=trust_domain(self._settings.datacenter, self._settings.domain),
            limits=Limits(connections_per_client_max=per_client),
            wheel=self._wheel,
            observe=self._observe,
        )
        await _named(server.start(), name, address, port)
        log.info("%s listens", name, extra={"address": f"{address}:{server.port}"})
        return server

    def judge(self, judge: Judge) -> None:
        """Cut https connections whose certificate is not accepted any more."""
        for server in self._https:
            server.judge(judge)

    def _observe(self, method: str, pattern: str, status: int, seconds: float) -> None:
        self._answers.inc(method if method in METHODS else "other", str(status))

    async def _open_dns(self, cluster: Cluster) -> None:
        settings = self._settings
        if settings.ports.dns == OFF:
            return
        view: DiscoveryView = self._store
        age_s = _contact_of(cluster)
        if cluster.driver is None:
            copy = CatalogCopy(settings.datacenter)
            view, loop = copy, asyncio.get_running_loop()
            age_s = lambda: copy.age_s(loop.time())
            self._reader = FeedReader(copy, cluster.client, cluster.directory.alive)
            self._reader.start()
        self._forwarder = forwarder(settings, self._rng)
        for address in settings.dns_addresses:
            dns = DnsServer(
                view,
                dns_settings(settings),
                address,
                settings.ports.dns,
                forwarder=self._forwarder,
                age_s=age_s,
            )
            await _named(dns.start(), "dns", address, settings.ports.dns)
            self._dns.append(dns)

    def _context(
        self,
        cluster: Cluster,
        local: LocalRegistry,
        reload: Callable[[], Awaitable[None]],
        leave: Callable[[], Awaitable[None]],
    ) -> ApiContext:
        settings = self._settings
        feed = self._feed
        return ApiContext(
            store=self._store,
            engine=cluster.engine,
            local=local,
            membership=cluster.membership,
            wheel=self._wheel,
            fanout=self._fanout,
            rng=self._rng,
            now=time.monotonic,
            node_name=settings.node_name,
            node_id=cluster.node_id,
            datacenter=settings.datacenter,
            domain=settings.domain,
            alt_domain=settings.alt_domain,
            server=settings.server,
            http=settings.http,
            known_hosts=(socket.gethostname(),),
            hold_timeout_s=settings.rpc_hold_timeout_s,
            allow_plain=settings.allow_plain and self._identity is None,
            forwarding=None if settings.server else _Forwarding(cluster),
            feed=None if feed is None else partial(_open_feed, feed, cluster.engine),
            reload=reload,
            leave=leave,
            debug_config=debug_config(settings, cluster.node_id),
            stats=lambda: {"serf_lan": cluster.membership.stats()},
            metrics=self.metrics.text,
        )


class _Forwarding(Forwarding):
    """How a client agent's API reaches servers."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def servers(self) -> Sequence[str]:
        return self._cluster.directory.alive()

    async def call(self, address: str, method: str, body: bytes, timeout_s: float) -> bytes:
        return await self._cluster.client.call(address, method, body, timeout_s)


def dns_settings(settings: AgentSettings) -> DnsSettings:
    """The agent's settings in the words of the DNS library."""
    dns = settings.dns
    return DnsSettings(
        domain=settings.domain,
        alt_domain=settings.alt_domain,
        node_ttl_s=_ttl(dns.node_ttl_s),
        service_ttl_s={name.lower(): _ttl(ttl_s) for name, ttl_s in dns.service_ttl_s.items()},
        only_passing=dns.only_passing,
        udp_answer_limit=dns.udp_answer_limit,
        a_record_limit=dns.a_record_limit,
        enable_truncate=dns.enable_truncate,
        node_meta_txt=dns.enable_additional_node_meta_txt,
        recursors=dns.recursors,
        recursor_timeout_s=dns.recursor_timeout_s,
        max_stale_s=dns.max_stale_s if dns.allow_stale else min(dns.max_stale_s, UNHEARD_S),
        soa=Soa(
            refresh_s=dns.soa.refresh_s,
            retry_s=dns.soa.retry_s,
            expire_s=dns.soa.expire_s,
            min_ttl_s=dns.soa.minimum_ttl_s,
        ),
    )


def forwarder(settings: AgentSettings, rng: random.Random) -> RecursorForwarder | None:
    """What asks the agent's recursors, but for the agent itself; None if there are none."""
    dns = settings.dns
    own = [*settings.dns_addresses]
    if WILDCARDS.intersection(own):
        own += [settings.bind_address, settings.advertise_address]
    recursors = without_own(map(recursor_address, dns.recursors), own, settings.ports.dns)
    if not recursors:
        return None
    shuffle = rng if dns.recursor_strategy == "random" else None
    return RecursorForwarder(recursors, dns.recursor_timeout_s, shuffle=shuffle)


def _ttl(ttl_s: float) -> int:
    """Whole seconds that fit a record."""
    return min(int(ttl_s), TTL_MAX_S)


def _feed_cluster(cluster: Cluster, node_name: str) -> FeedCluster:
    engine = cluster.engine
    return FeedCluster(
        agent=node_name,
        epoch=lambda: cluster.local.cluster_id,
        leader=lambda: engine.leader.address if engine.leader is not None else "",
        term=lambda: engine.term,
        last_contact_s=lambda: engine.last_contact_s,
        members=lambda: [_fed(member) for member in cluster.membership.members()],
    )


def _fed(member: SerfMember) -> FedMember:
    tags = from_wire(member.tags)
    return FedMember(
        name=member.name,
        address=member.address,
        status=str(member.status),
        server=tags is not None and tags.server,
    )


def _open_feed(feed: FeedSource, engine: Engine, request: Request) -> Stream:
    if not engine.ready:
        raise NotReady("the catalog is not loaded yet")
    try:
        return feed.open_for(request.query)
    except UnknownFormat as problem:
        raise ApiError(400, str(problem)) from None
    except TooManyReaders:
        raise ApiError(503, "too many readers of the feed") from None


def _contact_of(cluster: Cluster) -> Callable[[], float]:
    return lambda: cluster.engine.last_contact_s


async def _named(opening: Awaitable[None], what: str, address: str, port: int) -> None:
    try:
        await opening
    except OSError as problem:
        raise OSError(
            problem.errno, f"{what} cannot listen on {address}:{port}: {problem}"
        ) from None
