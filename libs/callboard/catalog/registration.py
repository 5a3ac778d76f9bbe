"""Bodies of catalog/register and catalog/deregister, as commands (consul.md §5.8)."""

from __future__ import annotations

from callboard.catalog.commands import Deregister, Register
from callboard.catalog.decode import DURATION, decode
from callboard.catalog.fields import Fields
from callboard.catalog.objects import (
    CRITICAL,
    PASSING,
    WARNING,
    Check,
    Node,
    ServiceInstance,
    Weights,
)
from callboard.catalog.specs import (
    CATALOG_CHECK_DEFINITION,
    CATALOG_DEREGISTER,
    CATALOG_REGISTER,
)
from callboard.catalog.validation import (
    META_RESERVED,
    address_error,
    meta_error,
    port_error,
    uuid_error,
    weights_error,
)

NO_PATH_TO_DATACENTER = "No path to datacenter"

_DURATIONS = frozenset(
    name
    for name, kind in CATALOG_CHECK_DEFINITION.fields.items()
    if kind is DURATION and name != "TTL"
)
"""What Consul shows as texts; a TTL it shows as nanoseconds."""
_TYPES = {"GRPC": "grpc", "TTL": "ttl", "HTTP": "http", "TCP": "tcp"}
"""A check's type by the field of its definition, first one first."""


class RegistrationError(ValueError):
    """A registration Consul refuses with a 500 text (`Must provide node`)."""


class WrongDatacenter(RegistrationError):
    """The body names another datacenter (`No path to datacenter`)."""


def register_from_request(body: bytes, datacenter: str, request_id: bytes = b"") -> Register:
    """Of the body of PUT catalog/register. Raises DecodeError (400), RegistrationError (500)."""
    fields = Fields(decode(body, CATALOG_REGISTER))
    _check_datacenter(fields, datacenter)
    node = _node(fields, datacenter)
    given = fields.structs("Checks")
    if fields.any("Check") is not None:
        given = [fields.struct("Check"), *given]
    service = None
    if fields.any("Service") is not None:
        service = _service(node.name, fields.struct("Service"))
    return Register(
        node=node,
        service=service,
        checks=tuple(_check(node.name, each) for each in given),
        skip_node_update=fields.flag("SkipNodeUpdate"),
        request_id=request_id,
    )


def deregister_from_request(body: bytes, datacenter: str, request_id: bytes = b"") -> Deregister:
    """Of the body of PUT catalog/deregister. Raises DecodeError (400), RegistrationError (500)."""
    fields = Fields(decode(body, CATALOG_DEREGISTER))
    _check_datacenter(fields, datacenter)
    if not fields.text("Node"):
        raise RegistrationError("Must provide node")
    return Deregister(
        node=fields.text("Node"),
        service_id=fields.text("ServiceID"),
        check_id=fields.text("CheckID"),
        request_id=request_id,
    )


def _check_datacenter(fields: Fields, datacenter: str) -> None:
    if fields.text("Datacenter") not in ("", datacenter):
        raise WrongDatacenter(NO_PATH_TO_DATACENTER)


def _refuse(reason: str | None) -> None:
    if reason is not None:
        raise RegistrationError(reason)


def _node(fields: Fields, datacenter: str) -> Node:
    name, address, node_id = fields.text("Node"), fields.text("Address"), fields.text("ID")
    if not name:
        raise RegistrationError("Must provide node")
    if not address and not fields.flag("SkipNodeUpdate"):
        raise RegistrationError("Must provide address if SkipNodeUpdate is not set")
    if node_id and (reason := uuid_error(node_id)) is not None:
        raise RegistrationError(f"Bad node ID: {reason}")
    meta = fields.text_map("NodeMeta")
    if (reason := meta_error(meta)) is not None:
        raise RegistrationError(f"Invalid Node Meta: {reason}")
    return Node(
        id=node_id,
        name=name,
        address=address,
        datacenter=datacenter,
        tagged_addresses=fields.text_map("TaggedAddresses"),
        meta=meta,
    )


def _service(node: str, fields: Fields) -> ServiceInstance:
    name, service_id = fields.text("Service"), fields.text("ID")
    if not name:
        raise RegistrationError(
            "Must provide service name (Service.Service) when service ID is provided"
        )
    service = ServiceInstance(
        node=node,
        id=service_id or name,
        service=name,
        tags=fields.texts("Tags"),
        address=fields.text("Address"),
        tagged_addresses=fields.addresses("TaggedAddresses"),
        meta=fields.text_map("Meta"),
        port=fields.number("Port"),
        weights=_weights(fields),
        enable_tag_override=fields.flag("EnableTagOverride"),
        kind=fields.text("Kind"),
    )
    _refuse(address_error(service.address) or port_error(service.port))
    if (reason := meta_error(service.meta, META_RESERVED)) is not None:
        raise RegistrationError(
            f"failed inserting service: Invalid Service Meta for node {node} and serviceID"
            f" {service.id}: {reason}"
        )
    return service


def _weights(fields: Fields) -> Weights:
    """Impossible weights are the default ones: Go's client sends 0 and 0 for none."""
    weights = fields.weights("Weights", 0)
    return weights if weights_error(weights) is None else Weights()


def _check(node: str, fields: Fields) -> Check:
    check_id = fields.text("CheckID") or fields.text("Name")
    if not check_id:
        raise RegistrationError("Must provide CheckID or Name of a check")
    status = fields.text("Status") or CRITICAL
    if status not in (PASSING, WARNING, CRITICAL):
        raise RegistrationError(f'Invalid check status: "{status}"')
    definition = _definition(fields.struct("Definition"))
    return Check(
        node=fields.text("Node") or node,
        check_id=check_id,
        name=fields.text("Name"),
        status=status,
        notes=fields.text("Notes"),
        output=fields.text("Output"),
        service_id=fields.text("ServiceID"),
        type=fields.text("Type") or next((t for f, t in _TYPES.items() if f in definition), ""),
        interval=fields.text("Interval"),
        timeout=fields.text("Timeout"),
        definition=definition,
    )


def _definition(fields: Fields) -> dict[str, object]:
    """The definition as it is shown again: non-zero fields, durations as texts."""
    plain = fields.plain(_DURATIONS)
    for name in ("Interval", "Timeout", "DeregisterCriticalServiceAfter"):
        legacy = plain.pop(f"{name}Duration", None)
        if legacy is not None:
            plain.setdefault(name, legacy)
    return plain
