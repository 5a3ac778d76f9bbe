"""Instances of a program, as the catalog has them."""

from __future__ import annotations

from collections.abc import Mapping

from callboard.catalog.discovery import HealthEntry
from callboard.catalog.objects import Check, Node, ServiceInstance
from callboard.gateway.sources.instances import passing_instances

NODE = Node(name="node-1", address="10.0.0.1")


def entry(
    id: str,
    *,
    address: str = "10.0.0.2",
    port: int = 8090,
    status: str = "passing",
    meta: Mapping[str, str] | None = None,
) -> HealthEntry:
    service = ServiceInstance(
        id=id, service="sidecar", address=address, port=port, meta=dict(meta or {})
    )
    return HealthEntry(NODE, service, (Check(check_id=f"service:{id}", status=status),))


def test_in_the_clear_an_instance_is_at_its_own_port() -> None:
    (found,) = passing_instances([entry("a")], "sidecar", service_domain="")
    assert (found.id, found.url, found.server_name) == ("a", "http://10.0.0.2:8090", "")


def test_by_mutual_tls_it_is_at_the_port_that_it_tells_and_has_the_role_s_name() -> None:
    told = {"a": {"https_port": "8091"}, "b": {}, "c": {"https_port": "x1"}}
    entries = [entry(id, meta=meta) for id, meta in told.items()]
    entries.append(entry("d", meta={"https_port": "99999"}))
    (found,) = passing_instances(entries, "sidecar", service_domain="service.dc1.consul")
    assert found.url == "https://10.0.0.2:8091"
    assert found.server_name == "sidecar.service.dc1.consul"


def test_those_that_are_not_passing_are_left_out() -> None:
    entries = [entry("a", status="critical"), entry("b", status="warning"), entry("c")]
    assert [it.id for it in passing_instances(entries, "sidecar", service_domain="")] == ["c"]


def test_they_are_sorted_and_each_is_there_once() -> None:
    entries = [entry("b"), entry("a"), entry("b", address="10.0.0.9")]
    found = passing_instances(entries, "sidecar", service_domain="")
    assert [(it.id, it.host) for it in found] == [("a", "10.0.0.2"), ("b", "10.0.0.2")]


def test_without_an_address_of_its_own_it_is_at_its_node_s() -> None:
    (found,) = passing_instances([entry("a", address="")], "sidecar", service_domain="")
    assert found.host == "10.0.0.1"


def test_an_ipv6_address_has_brackets_in_the_url() -> None:
    (found,) = passing_instances([entry("a", address="::1")], "sidecar", service_domain="")
    assert found.url == "http://[::1]:8090"
