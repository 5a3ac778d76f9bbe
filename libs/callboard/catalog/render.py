"""JSON of the HTTP API, in Consul's shape and key order. Compact bytes, one function per shape.

Lists are joins of elements: `array(parts)`. Map keys are sorted and `<`, `>`, `&` escaped, as Go's
encoder does. Tags are [] and never null; an empty value of a key is null.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from callboard.catalog.discovery import HealthEntry
from callboard.catalog.objects import Check, KeyValue, Node, ServiceInstance


def node_json(node: Node) -> bytes:
    """An element of catalog/nodes; the "Node" of other answers."""
    raise NotImplementedError


def catalog_service_row_json(node: Node, service: ServiceInstance) -> bytes:
    """An element of catalog/service/:name."""
    raise NotImplementedError


def node_service_json(service: ServiceInstance) -> bytes:
    """A service inside catalog/node, catalog/node-services and health/service."""
    raise NotImplementedError


def check_json(check: Check) -> bytes:
    """An element of health/checks, health/node, health/state, and of "Checks"."""
    raise NotImplementedError


def health_entry_json(entry: HealthEntry) -> bytes:
    """An element of health/service/:name: {"Node":…,"Service":…,"Checks":[…]}."""
    raise NotImplementedError


def catalog_node_json(node: Node, services: Iterable[ServiceInstance]) -> bytes:
    """The whole of catalog/node/:name: {"Node":…,"Services":{id: service}}."""
    raise NotImplementedError


def catalog_node_services_json(node: Node, services: Iterable[ServiceInstance]) -> bytes:
    """The whole of catalog/node-services/:name: {"Node":…,"Services":[…]}."""
    raise NotImplementedError


def service_names_json(names: Mapping[str, tuple[str, ...]]) -> bytes:
    """The whole of catalog/services: {"name":["tag",…]}."""
    raise NotImplementedError


def agent_service_json(service: ServiceInstance, datacenter: str) -> bytes:
    """A value of agent/services: exactly ID, Service, Tags, Meta, Port, Address, Weights,
    EnableTagOverride, Datacenter (and TaggedAddresses when there are any)."""
    raise NotImplementedError


def key_value_json(entry: KeyValue) -> bytes:
    """An element of kv/:key."""
    raise NotImplementedError


def array(parts: Iterable[bytes]) -> bytes:
    """A JSON array of encoded elements."""
    return b"[" + b",".join(parts) + b"]"


def mapping(parts: Iterable[tuple[str, bytes]]) -> bytes:
    """A JSON object of encoded values; the caller sorts by key, as Go does."""
    raise NotImplementedError


def json(value: object) -> bytes:
    """Any plain value as Go would encode it: compact, map keys sorted, HTML-safe."""
    raise NotImplementedError


def pretty(document: bytes) -> bytes:
    """The document as `?pretty` gives it: 4-space indent and a newline at the end."""
    raise NotImplementedError
