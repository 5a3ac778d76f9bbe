"""JSON of the HTTP API, in Consul's shape and key order. Compact bytes, one function per shape.

Each shape is a struct with Consul's key order, encoded in one go (about a microsecond): nothing is
remembered per object, so a hundred thousand of them cost no memory here. Lists are joins:
`array(map(node_json, nodes))`. Map keys are sorted and `<`, `>`, `&` escaped, as Go's encoder
does. Tags are [] and maps {}, never null; only the empty value of a key is null.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Mapping

import msgspec
from msgspec import UNSET, Raw, UnsetType

from callboard.catalog.discovery import HealthEntry
from callboard.catalog.objects import (
    Check,
    KeyValue,
    Node,
    ServiceAddress,
    ServiceInstance,
    Weights,
)

_Addresses = dict[str, ServiceAddress]
_Weights = Weights

_ENCODER = msgspec.json.Encoder(order="deterministic")
_PROXY = Raw(b'{"Mode":"","MeshGateway":{},"Expose":{}}')
_CONNECT = Raw(b"{}")


class _ServiceRow(msgspec.Struct, gc=False):
    """structs.ServiceNode: catalog/service."""

    ID: str
    Node: str
    Address: str
    Datacenter: str
    TaggedAddresses: dict[str, str]
    NodeMeta: dict[str, str]
    ServiceKind: str
    ServiceID: str
    ServiceName: str
    ServiceTags: tuple[str, ...]
    ServiceAddress: str
    ServiceTaggedAddresses: _Addresses | UnsetType
    ServiceWeights: _Weights
    ServiceMeta: dict[str, str]
    ServicePort: int
    ServiceEnableTagOverride: bool
    ServiceProxy: Raw
    ServiceConnect: Raw
    CreateIndex: int
    ModifyIndex: int


class _NodeService(msgspec.Struct, gc=False):
    """structs.NodeService: the service in catalog/node and health/service."""

    Kind: str | UnsetType
    ID: str
    Service: str
    Tags: tuple[str, ...]
    Address: str
    TaggedAddresses: _Addresses | UnsetType
    Meta: dict[str, str]
    Port: int
    Weights: _Weights
    EnableTagOverride: bool
    Proxy: Raw
    Connect: Raw
    CreateIndex: int
    ModifyIndex: int


class _HealthCheck(msgspec.Struct, gc=False):
    """structs.HealthCheck: health/* and agent/checks."""

    Node: str
    CheckID: str
    Name: str
    Status: str
    Notes: str
    Output: str
    ServiceID: str
    ServiceName: str
    ServiceTags: tuple[str, ...]
    Type: str
    Interval: str
    Timeout: str
    ExposedPort: int
    Definition: dict[str, object]
    CreateIndex: int
    ModifyIndex: int


class _AgentService(msgspec.Struct, gc=False):
    """api.AgentService: a value of agent/services."""

    ID: str
    Service: str
    Tags: tuple[str, ...]
    Meta: dict[str, str]
    Port: int
    Address: str
    TaggedAddresses: _Addresses | UnsetType
    Weights: _Weights
    EnableTagOverride: bool
    Datacenter: str


class _KeyEntry(msgspec.Struct, gc=False):
    """structs.DirEntry: kv."""

    LockIndex: int
    Key: str
    Flags: int
    Value: Raw
    Session: str | UnsetType
    CreateIndex: int
    ModifyIndex: int


def node_json(node: Node) -> bytes:
    """An element of catalog/nodes; the "Node" of other answers."""
    return json(node)


def catalog_service_row_json(node: Node, service: ServiceInstance) -> bytes:
    """An element of catalog/service/:name."""
    return json(
        _ServiceRow(
            node.id,
            node.name,
            node.address,
            node.datacenter,
            node.tagged_addresses,
            node.meta,
            service.kind,
            service.id,
            service.service,
            service.tags,
            service.address,
            service.tagged_addresses or UNSET,
            service.weights,
            service.meta,
            service.port,
            service.enable_tag_override,
            _PROXY,
            _CONNECT,
            service.create_index,
            service.modify_index,
        )
    )


def node_service_json(service: ServiceInstance) -> bytes:
    """A service inside catalog/node, catalog/node-services and health/service."""
    return json(
        _NodeService(
            service.kind or UNSET,
            service.id,
            service.service,
            service.tags,
            service.address,
            service.tagged_addresses or UNSET,
            service.meta,
            service.port,
            service.weights,
            service.enable_tag_override,
            _PROXY,
            _CONNECT,
            service.create_index,
            service.modify_index,
        )
    )


def check_json(check: Check) -> bytes:
    """An element of health/checks, health/node, health/state, of "Checks"; of agent/checks."""
    return json(
        _HealthCheck(
            check.node,
            check.check_id,
            check.name,
            check.status,
            check.notes,
            check.output,
            check.service_id,
            check.service_name,
            check.service_tags,
            check.type,
            check.interval,
            check.timeout,
            0,
            check.definition,
            check.create_index,
            check.modify_index,
        )
    )


def health_entry_json(entry: HealthEntry) -> bytes:
    """An element of health/service/:name: {"Node":…,"Service":…,"Checks":[…]}."""
    node, service, checks = entry
    return b'{"Node":%b,"Service":%b,"Checks":%b}' % (
        node_json(node),
        node_service_json(service),
        array(map(check_json, checks)),
    )


def catalog_node_json(node: Node, services: Iterable[ServiceInstance]) -> bytes:
    """The whole of catalog/node/:name: {"Node":…,"Services":{id: service}}; unknown: `null`."""
    parts = ((service.id, node_service_json(service)) for service in services)
    return b'{"Node":%b,"Services":%b}' % (node_json(node), mapping(parts))


def catalog_node_services_json(node: Node, services: Iterable[ServiceInstance]) -> bytes:
    """The whole of catalog/node-services/:name: {"Node":…,"Services":[…]}."""
    return b'{"Node":%b,"Services":%b}' % (
        node_json(node),
        array(map(node_service_json, services)),
    )


def service_names_json(names: Mapping[str, tuple[str, ...]]) -> bytes:
    """The whole of catalog/services: {"name":["tag",…]}."""
    return json(names)


def agent_service_json(service: ServiceInstance, datacenter: str) -> bytes:
    """A value of agent/services: exactly ID, Service, Tags, Meta, Port, Address, Weights,
    EnableTagOverride, Datacenter (and TaggedAddresses when there are any)."""
    return json(
        _AgentService(
            service.id,
            service.service,
            service.tags,
            service.meta,
            service.port,
            service.address,
            service.tagged_addresses or UNSET,
            service.weights,
            service.enable_tag_override,
            datacenter,
        )
    )


def key_value_json(entry: KeyValue) -> bytes:
    """An element of kv/:key; Session only when it is locked, Value null when it is empty."""
    return json(
        _KeyEntry(
            entry.lock_index,
            entry.key,
            entry.flags,
            Raw(b'"%b"' % b64encode(entry.value) if entry.value else b"null"),
            entry.session or UNSET,
            entry.create_index,
            entry.modify_index,
        )
    )


def array(parts: Iterable[bytes]) -> bytes:
    """A JSON array of encoded elements."""
    return b"[%b]" % b",".join(parts)


def mapping(parts: Iterable[tuple[str, bytes]]) -> bytes:
    """A JSON object of encoded values, by sorted keys."""
    return b"{%b}" % b",".join(b"%b:%b" % (json(key), value) for key, value in sorted(parts))


def json(value: object) -> bytes:
    """Any plain value as Go would encode it: compact, map keys sorted, HTML-safe."""
    document = _ENCODER.encode(value)
    if b"<" in document or b">" in document or b"&" in document or b"\xe2\x80" in document:
        # These stand in strings only; U+2028 and U+2029 break JavaScript (Go's json.HTMLEscape).
        for plain, escaped in _ESCAPES:
            document = document.replace(plain, escaped)
    return document


_ESCAPES = (
    (b"<", b"\\u003c"),
    (b">", b"\\u003e"),
    (b"&", b"\\u0026"),
    (b"\xe2\x80\xa8", b"\\u2028"),
    (b"\xe2\x80\xa9", b"\\u2029"),
)


def pretty(document: bytes) -> bytes:
    """The document as `?pretty` gives it: 4-space indent and a newline at the end."""
    return msgspec.json.format(document, indent=4) + b"\n"
