"""The gateway's copy of the catalog: where sidecars and hubs are."""

from __future__ import annotations

import ssl
from collections.abc import Sequence

from callboard.feed.client import FeedClient
from callboard.feed.copy import CatalogCopy
from callboard.feed.following import follow_for_ever, why_not_ready
from callboard.gateway.sources.instances import Instance, passing_instances


class Catalog:
    """Follows the feed of the agents; `run` is its task."""

    def __init__(
        self,
        addresses: Sequence[str],
        *,
        token: str = "",
        tls: ssl.SSLContext | None = None,
        source: str = "",
        service_domain: str = "",
    ) -> None:
        """`addresses` are the agents' URLs; `tls` is how https ones are spoken to. With a
        `service_domain` ("service.dc1.consul") programs are asked by mutual TLS, else in the
        clear."""
        self._copy = CatalogCopy()
        self._service_domain = service_domain
        self._client = FeedClient(
            addresses,
            self._copy,
            headers={"X-Consul-Token": token} if token else {},
            tls=tls,
            source=source,
        )
        self.judge = self._client.judge
        """Leave an agent whose certificate (DER) is not accepted any more."""

    async def run(self) -> None:
        """Follow for ever; cancel to stop."""
        await follow_for_ever(self._client.run, lambda: None)

    @property
    def version(self) -> int:
        """Goes up with every change."""
        return self._copy.version

    @property
    def ready(self) -> bool:
        """Whether a complete catalog is there: until then nobody is missing from it."""
        return self._copy.ready

    def problem(self) -> str | None:
        """Why nothing is known of the catalog; None if something is."""
        return why_not_ready(self._copy, self._client)

    def instances(self, service: str, *, plain: bool = False) -> tuple[Instance, ...]:
        """The healthy instances of a service; `plain`: at their ports without TLS."""
        domain = "" if plain else self._service_domain
        return passing_instances(self._copy.health(service), service, service_domain=domain)
