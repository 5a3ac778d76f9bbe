"""The catalog's objects, with Consul's JSON spelling as their wire names.

Immutable, untracked by the garbage collector (`gc=False`), strings interned by whoever decodes
them: a catalog holds 100,000 of each. JSON of the HTTP API is made in `render`.
"""

from __future__ import annotations

import msgspec

PASSING = "passing"
WARNING = "warning"
CRITICAL = "critical"
SERF_HEALTH = "serfHealth"


class Weights(msgspec.Struct, frozen=True, gc=False):
    """SRV weights by health (Consul: Service.Weights)."""

    passing: int = msgspec.field(default=1, name="Passing")
    warning: int = msgspec.field(default=1, name="Warning")


class ServiceAddress(msgspec.Struct, frozen=True, gc=False):
    """One tagged address of a service (Consul: Service.TaggedAddresses values)."""

    address: str = msgspec.field(default="", name="Address")
    port: int = msgspec.field(default=0, name="Port")


class Node(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A machine of the farm."""

    id: str = msgspec.field(default="", name="ID")
    name: str = msgspec.field(name="Node")
    address: str = msgspec.field(default="", name="Address")
    datacenter: str = msgspec.field(default="dc1", name="Datacenter")
    tagged_addresses: dict[str, str] = msgspec.field(default_factory=dict, name="TaggedAddresses")
    meta: dict[str, str] = msgspec.field(default_factory=dict, name="Meta")
    create_index: int = msgspec.field(default=0, name="CreateIndex")
    modify_index: int = msgspec.field(default=0, name="ModifyIndex")


class ServiceInstance(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One instance of a service, on one node."""

    node: str = msgspec.field(default="", name="Node")
    id: str = msgspec.field(name="ID")
    service: str = msgspec.field(name="Service")
    tags: tuple[str, ...] = msgspec.field(default=(), name="Tags")
    address: str = msgspec.field(default="", name="Address")
    tagged_addresses: dict[str, ServiceAddress] = msgspec.field(
        default_factory=dict, name="TaggedAddresses"
    )
    meta: dict[str, str] = msgspec.field(default_factory=dict, name="Meta")
    port: int = msgspec.field(default=0, name="Port")
    weights: Weights = msgspec.field(default=Weights(), name="Weights")
    enable_tag_override: bool = msgspec.field(default=False, name="EnableTagOverride")
    kind: str = msgspec.field(default="", name="Kind")
    create_index: int = msgspec.field(default=0, name="CreateIndex")
    modify_index: int = msgspec.field(default=0, name="ModifyIndex")


class Check(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A health check as the catalog holds it."""

    node: str = msgspec.field(default="", name="Node")
    check_id: str = msgspec.field(name="CheckID")
    name: str = msgspec.field(default="", name="Name")
    status: str = msgspec.field(default=CRITICAL, name="Status")
    notes: str = msgspec.field(default="", name="Notes")
    output: str = msgspec.field(default="", name="Output")
    service_id: str = msgspec.field(default="", name="ServiceID")
    service_name: str = msgspec.field(default="", name="ServiceName")
    service_tags: tuple[str, ...] = msgspec.field(default=(), name="ServiceTags")
    type: str = msgspec.field(default="", name="Type")
    interval: str = msgspec.field(default="", name="Interval")
    timeout: str = msgspec.field(default="", name="Timeout")
    definition: dict[str, object] = msgspec.field(default_factory=dict, name="Definition")
    create_index: int = msgspec.field(default=0, name="CreateIndex")
    modify_index: int = msgspec.field(default=0, name="ModifyIndex")


class KeyValue(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One key of the key/value store; `value` is raw bytes (base64 only in JSON)."""

    key: str = msgspec.field(name="Key")
    value: bytes = msgspec.field(default=b"", name="Value")
    flags: int = msgspec.field(default=0, name="Flags")
    lock_index: int = msgspec.field(default=0, name="LockIndex")
    session: str = msgspec.field(default="", name="Session")
    create_index: int = msgspec.field(default=0, name="CreateIndex")
    modify_index: int = msgspec.field(default=0, name="ModifyIndex")
