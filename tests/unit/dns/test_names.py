"""How a name is taken apart (Consul: DNS interface; RFC 1034, 3.1)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.dns.names import Domains, Kind, labels_of, labels_to_wire, packed_address, to_wire

DOMAINS = Domains("consul.", "farm.example")


def parse(name: str):  # type: ignore[no-untyped-def]
    return DOMAINS.parse(labels_of(to_wire(name.lower())))


@pytest.mark.parametrize(
    ("name", "kind", "found", "tag", "datacenter"),
    [
        ("a.node.consul", Kind.NODE, "a", "", ""),
        ("a.b.node.dc1.consul", Kind.NODE, "a.b", "", "dc1"),
        ("a.node.dc1.dc.consul", Kind.NODE, "a", "", "dc1"),
        ("web.service.consul", Kind.SERVICE, "web", "", ""),
        ("v1.0.web.service.dc1.consul", Kind.SERVICE, "web", "v1.0", "dc1"),
        ("_web._tcp.service.consul", Kind.SERVICE, "web", "", ""),
        ("_web._udp.service.consul", Kind.SERVICE, "web", "udp", ""),
        ("_web._rails.dc1.consul", Kind.SERVICE, "web", "rails", "dc1"),
        ("service.node.consul", Kind.NODE, "service", "", ""),
        ("node.service.consul", Kind.SERVICE, "node", "", ""),
        ("web.service.default.ns.default.ap.dc1.dc.consul", Kind.SERVICE, "web", "", "dc1"),
        ("web.service.default.ns.consul", Kind.SERVICE, "web", "", ""),
        ("web.service.other.ns.consul", Kind.MISSING, "", "", ""),
        ("web.service.default.ns.default.ns.consul", Kind.MISSING, "", "", ""),
        ("web.service.default.ap.default.ns.default.ap.dc1.consul", Kind.MISSING, "", "", ""),
        ("web.service.x.peer.consul", Kind.MISSING, "", "", ""),
        ("web.service.farm.example", Kind.SERVICE, "web", "", ""),
        ("0a000001.addr.consul", Kind.ADDRESS, "10.0.0.1", "", ""),
        ("consul", Kind.APEX, "", "", ""),
        ("ns.consul", Kind.NAMESERVER, "", "", ""),
        ("service.dc1.consul", Kind.EMPTY, "", "", "dc1"),
        ("example.com", Kind.OUTSIDE, "", "", ""),
        ("notconsul", Kind.OUTSIDE, "", "", ""),
        ("1.0.0.10.in-addr.arpa", Kind.REVERSE, "10.0.0.1", "", ""),
        ("256.0.0.10.in-addr.arpa", Kind.OUTSIDE, "", "", ""),
    ],
)
def test_name_is_taken_apart(name: str, kind: Kind, found: str, tag: str, datacenter: str) -> None:
    lookup = parse(name)
    assert (lookup.kind, lookup.name, lookup.tag, lookup.datacenter) == (
        kind, found, tag, datacenter,
    )  # fmt: skip


@given(st.lists(st.binary(min_size=1, max_size=63), max_size=3))
def test_any_labels_are_taken_apart_without_an_error(labels: list[bytes]) -> None:
    for below in ([], [b"node", b"consul"], [b"service", b"consul"], [b"addr", b"consul"]):
        DOMAINS.parse(tuple(label.lower() for label in labels) + tuple(below))


@given(st.lists(st.sampled_from([b"service", b"node", b"_tcp", b"_a", b"dc", b"dc1", b"ns", b"_"])))
def test_any_order_of_special_labels_is_taken_apart_without_an_error(labels: list[bytes]) -> None:
    DOMAINS.parse((*labels, b"consul"))


def test_hexadecimal_address_has_no_spaces_in_it() -> None:
    label = b"0a00 0001"
    assert DOMAINS.parse((label, b"addr", b"consul")).kind is Kind.MISSING
    label = b"0a000001".ljust(32)
    assert DOMAINS.parse((label, b"addr", b"consul")).kind is Kind.MISSING


@given(st.lists(st.binary(min_size=1, max_size=63), max_size=3))
def test_labels_survive_the_wire(labels: list[bytes]) -> None:
    assert labels_of(labels_to_wire(labels)) == tuple(labels)


@pytest.mark.parametrize("name", ["a..b", "x" * 64, ".".join(["y" * 60] * 5), "."])
def test_domain_that_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError):
        Domains(name)


def test_text_that_is_no_address_has_no_octets() -> None:
    assert packed_address("www.example.com") == b""
    assert packed_address("") == b""
    assert packed_address("10.0.0.1") == b"\x0a\0\0\1"
