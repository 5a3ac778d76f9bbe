"""Start and stop order of the name server.

Health first (it says why we are not ready), then the copy from disk, so that the first query finds
it, then DNS, then the feed in the background, last the registration: who finds us may ask us. The
stop is the reverse; the copy is saved once nothing changes it any more.
"""

from __future__ import annotations

import logging
import ssl
from dataclasses import replace
from pathlib import Path

from callboard.chassis.health import HealthServer
from callboard.chassis.lifecycle import Lifecycle, StartRefused
from callboard.chassis.metrics import Labels, LoopLag, Metrics
from callboard.chassis.opening import register
from callboard.chassis.registration import own_address
from callboard.chassis.standing import judge_standing
from callboard.dns.server import DnsServer
from callboard.dns.settings import DnsSettings
from callboard.nameserver.forwarder import RESOLV_CONF, forwarder, system_recursors
from callboard.nameserver.settings import NameserverSettings
from callboard.nameserver.view import CatalogView
from callboard.pki.live import LiveIdentity

log = logging.getLogger(__name__)

PROGRAM = "nameserver"


class Nameserver:
    """One name server, from `start` to `stop`."""

    def __init__(
        self,
        settings: NameserverSettings,
        *,
        metrics: Metrics | None = None,
        identity: LiveIdentity | None = None,
    ) -> None:
        """`identity`: how it proves itself to agents, and to resolvers by DNS over TLS."""
        self._settings = settings
        self.metrics = metrics or Metrics()
        self._identity = identity
        self._tls = identity.for_servers() if identity is not None else None
        self.view = CatalogView(settings, tls=self._tls)
        address = settings.advertise or own_address(settings.bind)
        dns = settings.dns
        if settings.system_recursors:
            try:
                found = system_recursors(Path(RESOLV_CONF).read_text("utf-8", "replace"))
            except OSError as problem:
                raise StartRefused(f"-recursor=system: {problem}") from problem
            dns = replace(dns, recursors=(*dns.recursors, *found))
        own = (address,) if address else ()
        self._dns_settings: DnsSettings = replace(
            dns, nameserver_addresses=own, server_id=settings.node
        )
        self._address = address
        self._forwarder = forwarder(self._dns_settings, (settings.bind, address), settings.port)
        self.dns = DnsServer(
            self.view.copy,
            self._dns_settings,
            settings.bind,
            settings.port,
            forwarder=self._forwarder,
            age_s=self.view.age_s,
            tls=_dot_context(settings, identity),
            tls_port=settings.dot_port,
        )
        self.health: HealthServer | None = None

    async def start(self, life: Lifecycle) -> None:
        """Start everything; what was started is stopped by `life`. Raises StartRefused."""
        lag = LoopLag(self.metrics)
        self._count()
        lag.start()
        life.on_stop("loop lag", lag.stop)
        try:
            await self._start_health(life)
            await self.view.start()
            life.on_stop("view", self.view.stop)
            judge_standing(life, self._identity, self.view.follower.judge)
            await self.dns.start()
            life.on_stop("dns", self._stop_dns)
        except OSError as problem:
            raise StartRefused(str(problem)) from problem
        await register(
            life,
            self._settings,
            PROGRAM,
            port=self.dns.udp_port,
            address=self._address,
            tls=self._tls,
        )

    async def _stop_dns(self) -> None:
        await self.dns.stop()
        if self._forwarder is not None:
            self._forwarder.close()

    def ready(self) -> str | None:
        """Why we are not ready; a stale copy is ready until it is too old to answer from."""
        problem = self.view.problem()
        if problem is None and self.view.age_s() > self._dns_settings.max_stale_s:
            problem = f"the catalog is {self.view.age_s():.0f} s old"
        return problem

    def staleness(self) -> str | None:
        """How old the catalog is; None while that is nothing unusual."""
        age_s = self.view.age_s()
        return f"{age_s:.0f} s old" if age_s >= self._dns_settings.stale_after_s else None

    def status(self) -> dict[str, object]:
        """What GET /v1/dns/status shows."""
        return {
            **self.view.status(),
            "condition": self.dns.condition.name.lower(),
            "max_stale_s": self._dns_settings.max_stale_s,
            "domain": self._dns_settings.domain,
            "recursors": list(self._dns_settings.recursors),
            **self.dns.figures(),
        }

    async def _start_health(self, life: Lifecycle) -> None:
        if self._settings.health is None:
            return
        self.health = HealthServer(*self._settings.health, self.metrics)
        self.health.ready_when("catalog", self.ready)
        self.health.remark("catalog", self.staleness)
        self.health.page("/v1/dns/status", self.status)
        await self.health.start()
        life.on_stop("health", self.health.stop)

    def _count(self) -> None:
        metrics, view, figures = self.metrics, self.view, self.dns.figures
        metrics.read_gauge(
            "callboard_dns_catalog_age_seconds",
            "How old the copy of the catalog is; -1 without one.",
            lambda: -1.0 if view.age_s() == float("inf") else view.age_s(),
        )
        metrics.read_gauge(
            "callboard_dns_catalog_index",
            "The log index the copy stands at.",
            lambda: float(view.copy.applied_index),
        )
        metrics.read_gauge(
            "callboard_dns_answers_kept",
            "Answers in the cache.",
            lambda: float(figures()["answers_kept"]),
        )
        metrics.read_counter(
            "callboard_dns_queries_total",
            "Queries received, by transport.",
            self._queries,
            ("transport",),
        )
        metrics.read_counter(
            "callboard_dns_forwarded_total",
            "Queries for other names, sent to a recursor.",
            lambda: float(figures()["forwarded"]),
        )
        metrics.read_counter(
            "callboard_dns_answers_held_back_total",
            "UDP answers not given to networks outside that had had too many.",
            lambda: float(figures()["answers_held_back"]),
        )
        metrics.read_counter(
            "callboard_dns_handshakes_failed_total",
            "Connections of DNS over TLS that did not come about.",
            lambda: float(figures()["handshakes_failed"]),
        )
        metrics.read_counter(
            "callboard_dns_answers_unsent_total",
            "Answers the system did not take.",
            lambda: float(figures()["answers_unsent"]),
        )
        metrics.read_counter(
            "callboard_dns_feed_switches_total",
            "How often an agent was left or lost.",
            lambda: float(view.follower.switches),
        )
        metrics.read_counter(
            "callboard_dns_catalog_histories_total",
            "How often the copy was replaced by a catalog of another history.",
            lambda: float(view.copy.histories),
        )
        metrics.read_counter(
            "callboard_dns_image_failures_total",
            "How often the copy could not be saved.",
            lambda: float(view.save_failures),
        )

    def _queries(self) -> dict[Labels, float]:
        figures = self.dns.figures()
        return {(kind,): float(figures[f"queries_{kind}"]) for kind in ("udp", "tcp", "tls")}


def _dot_context(
    settings: NameserverSettings, identity: LiveIdentity | None
) -> ssl.SSLContext | None:
    """Of DNS over TLS (RFC 7858): resolvers show no certificate."""
    if identity is None or settings.dot_port < 0:
        return None
    return identity.for_clients(client=ssl.CERT_NONE, alpn=("dot",))
