"""Limits of names, metadata, weights and addresses."""

from __future__ import annotations

import pytest

from callboard.catalog.objects import ServiceAddress, Weights
from callboard.catalog.validation import (
    address_error,
    filled_addresses,
    meta_error,
    name_warning,
    port_error,
    uuid_error,
    weights_error,
)

UUID = "7f6d1c2e-9a3b-4c5d-8e7f-0123456789ab"


@pytest.mark.parametrize(
    ("meta", "reason"),
    [
        ({"": "x"}, "Key cannot be blank"),
        ({"a b": "x"}, "Key contains invalid characters"),
        ({"k" * 129: "x"}, "Key is too long (limit: 128 characters)"),
        ({"k": "v" * 513}, "Value is too long (limit: 512 characters)"),
        ({f"k{i}": "" for i in range(65)}, "cannot contain more than 64 key/value pairs"),
    ],
)
def test_metadata_beyond_its_limits_is_refused(meta: dict[str, str], reason: str) -> None:
    assert reason in (meta_error(meta) or "")


def test_metadata_within_its_limits_is_allowed() -> None:
    assert meta_error({"k" * 128: "v" * 512, "A-z_9": ""}) is None


@pytest.mark.parametrize(
    ("weights", "reason"),
    [
        (Weights(1, 0), None),
        (Weights(65535, 65535), None),
        (Weights(0, 1), "Passing must be greater than 0"),
        (Weights(1, -1), "Warning must be greater or equal than 0"),
        (Weights(65536, 1), "DNS Weight must be between 0 and 65535"),
    ],
)
def test_weights_are_dns_weights(weights: Weights, reason: str | None) -> None:
    assert weights_error(weights) == reason


@pytest.mark.parametrize(
    ("port", "allowed"), [(0, True), (65535, True), (-1, False), (65536, False)]
)
def test_ports_are_sixteen_bits(port: int, allowed: bool) -> None:
    assert (port_error(port) is None) is allowed


def test_any_is_nobodys_address() -> None:
    assert address_error("0.0.0.0") == address_error("::") == "Invalid service address"
    assert address_error("10.0.0.1") is None


def test_node_ids_are_uuids() -> None:
    assert uuid_error(UUID) is uuid_error(UUID.upper()) is None
    assert uuid_error("nope") == "uuid string is wrong length"
    assert uuid_error(UUID.replace("-", "_")) is not None
    assert uuid_error("z" * 36) is not None


def test_names_dns_cannot_find_give_a_warning() -> None:
    assert name_warning("Service", "web-1") is None
    assert "invalid characters" in (name_warning("Service", "web_1") or "")
    assert "too long" in (name_warning("Service", "w" * 64) or "")


@pytest.mark.parametrize(("address", "version"), [("10.0.0.1", 4), ("2001:db8::1", 6)])
def test_an_ip_address_fills_the_tagged_ones(address: str, version: int) -> None:
    own = ServiceAddress(address, 80)
    filled = filled_addresses(address, 80, {})
    assert filled == {f"lan_ipv{version}": own, f"wan_ipv{version}": own}


def test_given_tagged_addresses_win() -> None:
    given = {"wan_ipv4": ServiceAddress("1.2.3.4", 8080)}
    assert filled_addresses("10.0.0.1", 80, given)["wan_ipv4"] == given["wan_ipv4"]


@pytest.mark.parametrize("address", ["", "db.example.com"])
def test_no_ip_address_fills_nothing(address: str) -> None:
    assert filled_addresses(address, 80, {}) == {}
