"""Which instances of a program there are, and which to try: from the catalog's copy.

Agents are those the server was told of; hub and gateway are found in the catalog by their service
name. An instance that could not be reached is left alone for a while, unless all are.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from callboard.catalog.discovery import HealthEntry
from callboard.chassis.listeners import default_port
from callboard.fileserver.routes.policy import AGENT

SHUNNED_S = 5.0
"""An instance that could not be reached is the last choice for so long, and for twice as long each
time that it fails again."""
SHUNNED_MAX_S = 60.0
SHUNNED_MAX = 1024
"""Instances remembered."""

HTTPS_META = "https_port"
"""Service meta by which a program tells its port of mutual TLS; its own port is plain."""

PASSING = "passing"


@dataclass(frozen=True, slots=True)
class Instance:
    """One place to ask."""

    name: str
    """For logs: "hub-1"."""
    host: str
    port: int
    secure: bool
    """By mutual TLS."""
    server_name: str = ""
    """The name its certificate must carry."""

    @property
    def authority(self) -> bytes:
        """Host and port, as a Host field names them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}".encode("latin-1", "replace")

    def __str__(self) -> str:
        return f"{self.name} {self.host}:{self.port}"


class Instances:
    """Chooses among instances."""

    def __init__(
        self,
        agents: Sequence[Instance],
        health: Callable[[str], Sequence[HealthEntry] | None],
        *,
        secure: bool,
        service_domain: str,
        rng: random.Random,
    ) -> None:
        """`health` is the catalog's (`CatalogCopy.health`), None while there is no catalog yet;
        `secure` that we have an identity; `service_domain` ends the names in certificates:
        "service.dc1.consul"."""
        self._agents = tuple(agents)
        self._health = health
        self._secure = secure
        self._service_domain = service_domain
        self._rng = rng
        self._shunned: dict[Instance, tuple[float, float]] = {}
        """Until when, and for how long."""

    def choose(self, service: str, now: float, without: Iterable[Instance] = ()) -> Instance | None:
        """An instance, each first equally often; None when there is none besides `without`."""
        tried = set(without)
        found = [each for each in self._all(service) if each not in tried]
        good = [each for each in found if self._shunned.get(each, (0.0, 0.0))[0] <= now]
        return self._rng.choice(good or found) if found else None

    def why_none(self, service: str) -> str:
        """Why nobody can be asked, for a user: not loaded yet is not empty."""
        if service != AGENT and self._health(service) is None:
            return "the catalog is not known here yet"
        how = " that speaks mutual TLS" if self._secure and service != AGENT else ""
        return f"no healthy instance of {service}{how} is in the catalog"

    def shun(self, instance: Instance, now: float) -> None:
        """It could not be reached."""
        if len(self._shunned) >= SHUNNED_MAX:
            self._shunned = {i: it for i, it in self._shunned.items() if it[0] > now}
        until, span_s = self._shunned.get(instance, (0.0, 0.0))
        if until <= now and len(self._shunned) < SHUNNED_MAX:
            span_s = min(SHUNNED_MAX_S, span_s * 2) or SHUNNED_S
            self._shunned[instance] = now + span_s, span_s

    def welcome(self, instance: Instance) -> None:
        """It answers."""
        self._shunned.pop(instance, None)

    def _all(self, service: str) -> Sequence[Instance]:
        if service == AGENT:
            return self._agents
        entries = [entry for entry in self._health(service) or () if entry.status == PASSING]
        found = (self._instance(service, entry) for entry in entries)
        return tuple(each for each in found if each is not None)

    def _instance(self, service: str, entry: HealthEntry) -> Instance | None:
        port = entry.service.port
        if self._secure:
            told = entry.service.meta.get(HTTPS_META, "")
            port = int(told) if told.isdecimal() and len(told) < 6 else 0
        if not 0 < port < 65536:
            return None
        return Instance(
            name=entry.service.id,
            host=entry.service.address or entry.node.address,
            port=port,
            secure=self._secure,
            server_name=f"{service}.{self._service_domain}" if self._secure else "",
        )


def agents_of(catalog: Sequence[str], service_domain: str) -> tuple[Instance, ...]:
    """The agents that URLs name. Raises ValueError for what is no http or https URL."""
    found = []
    for url in catalog:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is no http or https URL")
        secure = parts.scheme == "https"
        found.append(
            Instance(
                name="agent",
                host=parts.hostname,
                port=parts.port or default_port(AGENT, parts.scheme),
                secure=secure,
                server_name=f"{AGENT}.{service_domain}" if secure else "",
            )
        )
    return tuple(found)
