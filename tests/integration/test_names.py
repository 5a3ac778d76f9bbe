"""Every name that the DNS front answers, on a running stack."""

from __future__ import annotations

from collections import Counter

import dns.rcode
import dns.rdatatype
import pytest
from tests.harness.asking import addresses, get, http
from tests.harness.catalog import deregister, nodes_of, register, resolve
from tests.harness.eventually import eventually_sync
from tests.harness.stack import AGENTS, SERVERS, Stack

WEB = {"agent-1", "agent-4"}
"""The agents that announce `web` from examples/consul.d."""


def inside(stack: Stack, *names: str) -> set[str]:
    """Return the addresses of services as the catalog has them."""
    return {stack.inside_address(name) for name in names}


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize("suffix", ["node.consul", "node.dc1.consul"])
def test_a_node_resolves_to_its_address(stack: Stack, agent: str, suffix: str) -> None:
    assert set(addresses(resolve(stack, f"{agent}.{suffix}"))) == inside(stack, agent)


@pytest.mark.parametrize(
    "name",
    [
        "web.service.consul",
        "web.service.dc1.consul",
        "rails.web.service.consul",
        "rails.web.service.dc1.consul",
        "_web._tcp.service.consul",
        "_web._rails.service.dc1.consul",
        "WEB.Service.Consul",
    ],
)
@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
def test_a_service_resolves_to_all_that_announce_it(stack: Stack, name: str, tcp: bool) -> None:
    answer = resolve(stack, name, tcp=tcp)
    assert set(addresses(answer)) == inside(stack, *WEB)


@pytest.mark.parametrize("name", ["web.service.consul", "_web._tcp.service.consul"])
def test_srv_names_targets_and_their_addresses(stack: Stack, name: str) -> None:
    answer = resolve(stack, name, "SRV")
    records = [record for rrset in answer.answer for record in rrset]
    assert {record.port for record in records} == {80}
    targets = {str(record.target) for record in records}
    found = {
        record.address
        for rrset in answer.additional
        if rrset.rdtype == dns.rdatatype.A and str(rrset.name) in targets
        for record in rrset
    }
    assert found == inside(stack, *WEB)


def test_each_instance_is_first_equally_often(stack: Stack) -> None:
    rounds = 400
    first = Counter(addresses(resolve(stack, "web.service.consul"))[0] for _ in range(rounds))
    assert set(first) == inside(stack, *WEB)
    # binomial(400, 1/2): six standard deviations are 60
    assert all(abs(count - rounds / 2) < 60 for count in first.values()), first


def test_an_unknown_name_does_not_exist(stack: Stack) -> None:
    answer = resolve(stack, "nobody.service.consul")
    assert answer.rcode() == dns.rcode.NXDOMAIN
    assert any(rrset.rdtype == dns.rdatatype.SOA for rrset in answer.authority)


def test_a_known_name_without_such_a_record_is_no_error(stack: Stack) -> None:
    answer = resolve(stack, "agent-1.node.consul", "AAAA")
    assert answer.rcode() == dns.rcode.NOERROR
    assert not answer.answer


def test_a_registered_service_resolves_and_a_deregistered_one_no_more(stack: Stack) -> None:
    register(stack, "agent-2", {"Name": "cache", "ID": "cache-1", "Port": 6379, "Tags": ["hot"]})
    try:
        eventually_sync(lambda: addresses(resolve(stack, "hot.cache.service.consul")))
        assert nodes_of(stack, "cache") == ["agent-2"]
    finally:
        deregister(stack, "agent-2", "cache-1")
    eventually_sync(lambda: resolve(stack, "cache.service.consul").rcode() == dns.rcode.NXDOMAIN)


def test_a_service_that_fails_its_check_is_not_resolved(stack: Stack) -> None:
    check = {"TTL": "300s", "CheckID": "queue-ttl", "Status": "passing"}
    definition = {"Name": "queue", "ID": "queue-1", "Port": 5672, "Check": check}
    register(stack, "agent-3", definition)
    try:
        eventually_sync(lambda: addresses(resolve(stack, "queue.service.consul")))
        failing = stack.url("agent-3", "/v1/agent/check/fail/queue-ttl")
        assert http("PUT", failing).status == 200
        eventually_sync(
            lambda: resolve(stack, "queue.service.consul").rcode() == dns.rcode.NXDOMAIN
        )
        assert get(stack.url("agent-1", "/v1/health/service/queue?passing")) == []
    finally:
        deregister(stack, "agent-3", "queue-1")


@pytest.mark.parametrize("agent", SERVERS)
def test_every_server_lists_all_nodes(stack: Stack, agent: str) -> None:
    names = {node["Node"] for node in get(stack.url(agent, "/v1/catalog/nodes"))}
    assert names == set(AGENTS)
