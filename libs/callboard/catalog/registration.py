"""Bodies of catalog/register and catalog/deregister, as commands (consul.md §5.8)."""

from __future__ import annotations

from callboard.catalog.commands import Deregister, Register
from callboard.catalog.decode import DURATION, decode
from callboard.catalog.fields import Fields
from callboard.catalog.objects import CRITICAL, PASSING, WARNING, Check, Node, ServiceInstance
from callboard.catalog.specs import (
    CATALOG_CHECK_DEFINITION,
    CATALOG_DEREGISTER,
    CATALOG_REGISTER,
)
from callboard.catalog.validation import (
    address_error,
    meta_error,
    port_error,
    uuid_error,
    weights_error,
)

NO_PATH_TO_DATACENTER = "No path to datacenter"

_DURATIONS = frozenset(
    name for name, kind in CATALOG_CHECK_DEFINITION.fields.items() if kind is DURATION
)


class RegistrationError(ValueError):
    """A registration Consul refuses with a 500 text (`Must provide node`)."""


class WrongDatacenter(RegistrationError):
    """The body names another datacenter (`No path to datacenter`)."""


def register_from_request(body: bytes, datacenter: str, request_id: bytes = b"") -> Register:
    """Of the body of PUT catalog/register. Raises DecodeError (400), RegistrationError (500)."""
    fields = Fields(decode(body, CATALOG_REGISTER))
    _check_datacenter(fields, datacenter)
    node = _node(fields, datacenter)
    given = [each for each in (fields.struct("Check"), *fields.structs("Checks")) if each]
    service_fields = fields.struct("Service")
    service = _service(node.name, service_fields) if service_fields else None
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
    if fields.text("Datacenter").lower() not in ("", datacenter.lower()):
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
        weights=fields.weights("Weights"),
        enable_tag_override=fields.flag("EnableTagOverride"),
        kind=fields.text("Kind"),
    )
    _refuse(address_error(service.address) or port_error(service.port))
    if (reason := meta_error(service.meta)) is not None:
        raise RegistrationError(f"Invalid Service Meta: {reason}")
    if (reason := weights_error(service.weights)) is not None:
        raise RegistrationError(f"Invalid Weights: {reason}")
    return service


def _check(node: str, fields: Fields) -> Check:
    check_id = fields.text("CheckID") or fields.text("Name")
    if not check_id:
        raise RegistrationError("Must provide CheckID or Name of a check")
    status = fields.text("Status") or CRITICAL
    if status not in (PASSING, WARNING, CRITICAL):
        raise RegistrationError(f'Invalid check status: "{status}"')
    return Check(
        node=fields.text("Node") or node,
        check_id=check_id,
        name=fields.text("Name"),
        status=status,
        notes=fields.text("Notes"),
        output=fields.text("Output"),
        service_id=fields.text("ServiceID"),
        type=fields.text("Type"),
        interval=fields.text("Interval"),
        timeout=fields.text("Timeout"),
        definition=_definition(fields.struct("Definition")),
    )


def _definition(fields: Fields) -> dict[str, object]:
    """The definition as it is shown again: non-zero fields, durations as texts."""
    plain = fields.plain(_DURATIONS)
    for name in ("Interval", "Timeout", "DeregisterCriticalServiceAfter"):
        legacy = plain.pop(f"{name}Duration", None)
        if legacy is not None:
            plain.setdefault(name, legacy)
    return plain
