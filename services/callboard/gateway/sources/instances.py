"""Which instances of a program are in the catalog, and how they are reached. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from callboard.catalog.discovery import HealthEntry

HTTPS_META = "https_port"
"""Service meta by which a program tells its port of mutual TLS; its own port is plain."""
PASSING = "passing"


@dataclass(frozen=True, slots=True)
class Instance:
    """One place to ask."""

    id: str
    """In the catalog: "sidecar-1"."""
    host: str
    port: int
    server_name: str = ""
    """The name that its certificate must carry, by mutual TLS; "": in the clear."""

    @property
    def url(self) -> str:
        """Without a slash at its end."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.server_name else 'http'}://{host}:{self.port}"


def passing_instances(
    entries: Iterable[HealthEntry], service: str, *, service_domain: str
) -> tuple[Instance, ...]:
    """The healthy ones, sorted by their IDs, each once. `service_domain` ends the names in
    certificates ("service.dc1.consul"); "": they are spoken to in the clear."""
    found: dict[str, Instance] = {}
    for entry in entries:
        if entry.status == PASSING:
            made = _instance(entry, service, service_domain)
            if made is not None:
                found.setdefault(made.id, made)
    return tuple(found[id] for id in sorted(found))


def _instance(entry: HealthEntry, service: str, service_domain: str) -> Instance | None:
    port = entry.service.port
    if service_domain:
        told = entry.service.meta.get(HTTPS_META, "")
        port = int(told) if told.isascii() and told.isdecimal() and len(told) < 6 else 0
    if not 0 < port < 65536:
        return None
    host = entry.service.address or entry.node.address
    server_name = f"{service}.{service_domain}" if service_domain else ""
    return Instance(entry.service.id, host, port, server_name)
