"""Opens the routes of a file server: follows the catalog, keeps connections, counts."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

from callboard.catalog.discovery import HealthEntry
from callboard.chassis.guards import OriginGuard
from callboard.chassis.lifecycle import Lifecycle, StartRefused
from callboard.chassis.metrics import Labels, Metrics
from callboard.chassis.standing import judge_standing
from callboard.feed.client import FeedClient
from callboard.feed.copy import CatalogCopy
from callboard.fileserver.routes.instances import Instances, agents_of
from callboard.fileserver.routes.policy import Policy
from callboard.fileserver.routes.pool import Pool
from callboard.fileserver.routes.router import CatalogRouter
from callboard.fileserver.settings import FileserverSettings
from callboard.pki.live import LiveIdentity


def open_routes(
    settings: FileserverSettings,
    identity: LiveIdentity | None,
    life: Lifecycle,
    metrics: Metrics,
) -> CatalogRouter:
    """A router that follows the catalog until the program's end. Raises StartRefused."""
    if identity is None and any(url.startswith("https:") for url in settings.catalog):
        raise StartRefused("-catalog: agents at https want to see a certificate: give -identity")
    tls = identity.for_servers() if identity is not None else None
    service_domain = f"service.{settings.trust_domain}"
    copy = CatalogCopy()
    follower = FeedClient(settings.catalog, copy, tls=tls, source=settings.source)

    def health(service: str) -> Sequence[HealthEntry] | None:
        return copy.health(service) if copy.ready else None

    instances = Instances(
        agents_of(settings.catalog, service_domain),
        health,
        secure=identity is not None,
        service_domain=service_domain,
        rng=random.Random(),
    )
    policy = Policy(OriginGuard(settings.allowed_origins), settings.allow_writes)
    router = CatalogRouter(policy, instances, Pool(tls, source=settings.source))
    router.start()
    life.on_stop("routes", router.stop)
    life.own(follower.run(), "follow the catalog")
    judge_standing(life, identity, follower.judge, router.pool.judge)
    _count(router, copy, metrics)
    return router


def _count(router: CatalogRouter, copy: CatalogCopy, metrics: Metrics) -> None:
    traffic = router.traffic

    def by_service() -> dict[Labels, float]:
        return {(service, kind): count for (service, kind), count in traffic.requests.items()}

    def age_s() -> float:
        age = copy.age_s(asyncio.get_running_loop().time())
        return -1.0 if age == float("inf") else age

    metrics.read_counter(
        "callboard_routes_requests_total",
        "Requests forwarded, by service and the answer's class; none: without an answer.",
        by_service,
        ("service", "class"),
    )
    metrics.read_counter(
        "callboard_routes_retries_total",
        "Requests tried on another instance.",
        lambda: float(traffic.retries),
    )
    metrics.read_gauge(
        "callboard_routes_requests", "Requests under way.", lambda: float(traffic.streams)
    )
    metrics.read_gauge(
        "callboard_routes_catalog_age_seconds",
        "How old the copy of the catalog is; -1 without one.",
        age_s,
    )
