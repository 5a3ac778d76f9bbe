"""Bodies of catalog/register and catalog/deregister (consul.md §5.8)."""

from __future__ import annotations

import json

import pytest

from callboard.catalog.commands import Deregister
from callboard.catalog.decode import DecodeError
from callboard.catalog.objects import Weights
from callboard.catalog.registration import (
    RegistrationError,
    WrongDatacenter,
    deregister_from_request,
    register_from_request,
)

UUID = "7f6d1c2e-9a3b-4c5d-8e7f-0123456789ab"


def body(**fields: object) -> bytes:
    return json.dumps(fields).encode()


def test_a_node_alone_is_registered() -> None:
    command = register_from_request(
        body(
            Datacenter="dc1",
            ID=UUID,
            Node="ext",
            Address="10.0.0.1",
            TaggedAddresses={"lan": "10.0.0.1"},
            NodeMeta={"rack": "7"},
        ),
        "dc1",
        b"request",
    )
    assert (command.node.id, command.node.name, command.node.address) == (UUID, "ext", "10.0.0.1")
    assert command.node.meta == {"rack": "7"}
    assert command.node.datacenter == "dc1"
    assert command.service is None
    assert command.checks == ()
    assert command.request_id == b"request"


def test_a_service_and_checks_come_along() -> None:
    command = register_from_request(
        body(
            Node="ext",
            Address="10.0.0.1",
            Service={"Service": "db", "Tags": ["a"], "Port": 5432, "Weights": {"Passing": 3}},
            Check={"Name": "alive", "Status": "passing"},
            Checks=[{"CheckID": "service:db", "ServiceID": "db", "Status": "warning"}],
        ),
        "dc1",
    )
    assert command.service is not None
    assert (command.service.id, command.service.node) == ("db", "ext")
    assert command.service.weights == Weights(3, 0)
    assert [check.check_id for check in command.checks] == ["alive", "service:db"]
    assert command.checks[1].status == "warning"


def test_a_check_without_a_status_is_critical() -> None:
    command = register_from_request(body(Node="a", Address="b", Check={"Name": "x"}), "dc1")
    assert command.checks[0].status == "critical"


def test_a_check_definition_is_kept_with_durations_as_texts() -> None:
    definition = {
        "TCP": "localhost:8888",
        "Interval": "5s",
        "Timeout": 1_000_000_000,
        "DeregisterCriticalServiceAfter": "30s",
        "TLSSkipVerify": False,
    }
    command = register_from_request(
        body(Node="a", Address="b", Check={"Name": "x", "Definition": definition}), "dc1"
    )
    assert command.checks[0].definition == {
        "TCP": "localhost:8888",
        "Interval": "5s",
        "Timeout": "1s",
        "DeregisterCriticalServiceAfter": "30s",
    }


def test_skip_node_update_needs_no_address() -> None:
    assert register_from_request(body(Node="a", SkipNodeUpdate=True), "dc1").skip_node_update


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({}, "Must provide node"),
        ({"Node": "a"}, "Must provide address if SkipNodeUpdate is not set"),
        ({"Node": "a", "Address": "b", "ID": "x"}, "Bad node ID: uuid string is wrong length"),
        (
            {"Node": "a", "Address": "b", "Service": {"ID": "x"}},
            "Must provide service name (Service.Service) when service ID is provided",
        ),
        (
            {"Node": "a", "Address": "b", "Service": {"Service": "x", "Address": "::"}},
            "Invalid service address",
        ),
        (
            {"Node": "a", "Address": "b", "Service": {"Service": "x", "Port": -1}},
            "Invalid port -1: must be between 0 and 65535",
        ),
        (
            {"Node": "a", "Address": "b", "Check": {"Name": "x", "Status": "good"}},
            'Invalid check status: "good"',
        ),
        (
            {"Node": "a", "Address": "b", "Check": {"Status": "passing"}},
            "Must provide CheckID or Name of a check",
        ),
    ],
)
def test_bad_registrations_are_refused(fields: dict[str, object], error: str) -> None:
    with pytest.raises(RegistrationError) as caught:
        register_from_request(body(**fields), "dc1")
    assert str(caught.value) == error


def test_node_metadata_is_limited() -> None:
    with pytest.raises(RegistrationError, match="Key contains invalid characters"):
        register_from_request(body(Node="a", Address="b", NodeMeta={"a b": ""}), "dc1")


def test_another_datacenter_is_refused() -> None:
    with pytest.raises(WrongDatacenter, match="No path to datacenter"):
        register_from_request(body(Node="a", Address="b", Datacenter="dc2"), "dc1")
    with pytest.raises(WrongDatacenter):
        deregister_from_request(body(Node="a", Datacenter="dc2"), "dc1")


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(DecodeError, match='json: unknown field "Nod"'):
        register_from_request(body(Nod="a"), "dc1")


def test_what_the_catalog_shows_may_be_sent_back() -> None:
    check = {
        "Node": "a",
        "CheckID": "x",
        "Name": "x",
        "Status": "passing",
        "ServiceTags": [],
        "Type": "",
        "ExposedPort": 0,
        "Definition": {},
        "CreateIndex": 5,
        "ModifyIndex": 5,
    }
    assert register_from_request(body(Node="a", Address="b", Check=check), "dc1").checks


def test_deregistrations_name_what_goes() -> None:
    assert deregister_from_request(body(Node="a", ServiceID="s"), "dc1", b"r") == Deregister(
        node="a", service_id="s", request_id=b"r"
    )
    assert deregister_from_request(body(node="a", checkid="c"), "dc1").check_id == "c"


def test_a_deregistration_needs_a_node() -> None:
    with pytest.raises(RegistrationError, match="Must provide node"):
        deregister_from_request(b"{}", "dc1")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"Passing": 10, "Warning": 3}, Weights(10, 3)),
        ({"Passing": 10}, Weights(10, 0)),
        ({"Passing": 0, "Warning": 0}, Weights(1, 1)),  # what Go's client sends for none
        ({"Passing": 0, "Warning": 7}, Weights(1, 1)),
        ({"Passing": -3, "Warning": -1}, Weights(1, 1)),
        ({"Passing": 70000, "Warning": 70000}, Weights(1, 1)),
        ({}, Weights(1, 1)),
        (None, Weights(1, 1)),
    ],
)
def test_impossible_weights_are_the_default_ones(given: object, kept: Weights) -> None:
    service = {"Service": "db", "Weights": given}
    command = register_from_request(body(Node="a", Address="b", Service=service), "dc1")
    assert command.service is not None and command.service.weights == kept


@pytest.mark.parametrize(
    ("definition", "kind"),
    [
        ({"HTTP": "http://x", "TCP": "x:1"}, "http"),
        ({"TCP": "x:1"}, "tcp"),
        ({"TTL": "5s"}, "ttl"),
        ({"GRPC": "x:1"}, "grpc"),
        ({"Interval": "5s"}, ""),
        ({}, ""),
    ],
)
def test_a_checks_type_is_told_by_its_definition(definition: object, kind: str) -> None:
    check = {"Name": "x", "Definition": definition}
    command = register_from_request(body(Node="a", Address="b", Check=check), "dc1")
    assert command.checks[0].type == kind


def test_a_ttl_in_a_definition_is_shown_in_nanoseconds() -> None:
    check = {"Name": "x", "Type": "ttl", "Definition": {"TTL": "5s"}}
    command = register_from_request(body(Node="a", Address="b", Check=check), "dc1")
    assert command.checks[0].definition == {"TTL": 5_000_000_000}


@pytest.mark.parametrize("field", ["Service", "Check"])
def test_an_empty_service_or_check_is_refused(field: str) -> None:
    with pytest.raises(RegistrationError):
        register_from_request(body(Node="a", Address="b", **{field: {}}), "dc1")


def test_a_catalog_service_has_no_snake_case_names() -> None:
    service = {"Service": "db", "enable_tag_override": True}
    with pytest.raises(DecodeError, match='json: unknown field "enable_tag_override"'):
        register_from_request(body(Node="a", Address="b", Service=service), "dc1")


def test_a_datacenter_is_named_exactly() -> None:
    with pytest.raises(WrongDatacenter):
        register_from_request(body(Node="a", Address="b", Datacenter="DC1"), "dc1")
