"""py-consul, a client written for Consul, on an agent of ours: unmodified, every call it has for
what is there today."""

from __future__ import annotations

from urllib.parse import urlsplit

import consul
import pytest

from callboard.testing import Catalog


@pytest.fixture
def client(catalog: Catalog) -> consul.Consul:
    """The client, pointed at an agent of this test's own."""
    place = urlsplit(catalog.url)
    return consul.Consul(host=str(place.hostname), port=int(place.port or 0))


def test_keys_are_written_read_and_deleted(client: consul.Consul) -> None:
    assert client.kv.put("dir/a", "1") is True
    assert client.kv.put("dir/a", "2", cas=0) is False
    index, entry = client.kv.get("dir/a")
    assert (int(index), entry["Value"], entry["Flags"]) == (entry["ModifyIndex"], b"1", 0)
    assert client.kv.put("dir/a", "3", cas=entry["ModifyIndex"], flags=7) is True
    assert client.kv.put("dir/b", "") is True
    _, entries = client.kv.get("dir/", recurse=True)
    found = [(e["Key"], e["Value"], e["Flags"]) for e in entries]
    assert found == [("dir/a", b"3", 7), ("dir/b", None, 0)]
    assert client.kv.get("", keys=True, separator="/")[1] == ["dir/"]
    assert client.kv.delete("dir/", recurse=True) is True
    assert client.kv.get("dir/a")[1] is None


def test_blocking_query_returns_its_index_when_the_wait_is_over(client: consul.Consul) -> None:
    client.kv.put("a", "1")
    index, _ = client.kv.get("a")
    again, entry = client.kv.get("a", index=index, wait="20ms")
    assert (again, entry["Value"]) == (index, b"1")


def test_service_is_registered_checked_found_and_deregistered(client: consul.Consul) -> None:
    agent, health = client.agent, client.health
    ttl = consul.Check.ttl("10s")
    assert agent.service.register("web", "web-1", port=80, tags=["rails"], check=ttl) is True
    assert health.service("web", passing=True)[1] == []
    assert agent.check.ttl_pass("service:web-1", "all is well") is True
    _, [entry] = health.service("web", passing=True, tag="rails")
    assert (entry["Service"]["ID"], entry["Service"]["Port"]) == ("web-1", 80)
    assert {check["CheckID"] for check in entry["Checks"]} == {"serfHealth", "service:web-1"}
    assert agent.check.ttl_warn("service:web-1") is True
    assert [check["Status"] for check in health.checks("web")[1]] == ["warning"]
    assert agent.check.ttl_fail("service:web-1") is True
    assert [check["CheckID"] for check in health.state("critical")[1]] == ["service:web-1"]
    assert set(agent.services()) == {"web-1"}
    assert set(agent.checks()) == {"service:web-1"}
    assert agent.service.deregister("web-1") is True
    assert client.catalog.service("web")[1] == []


def test_every_kind_of_check_that_is_run_is_taken(client: consul.Consul) -> None:
    register = client.agent.check.register
    http = consul.Check.http("http://127.0.0.1:1/", "10s", timeout="2s", deregister="1m")
    assert register("by http", http) is True
    assert register("by tcp", consul.Check.tcp("127.0.0.1", 1, "10s")) is True
    assert register("of nobody", consul.Check.ttl("10s"), service_id="nobody") is False  # a 404
    assert set(client.agent.checks()) == {"by http", "by tcp"}
    assert client.agent.check.deregister("by tcp") is True


def test_catalog_is_written_and_read(client: consul.Consul) -> None:
    catalog = client.catalog
    service = {"service": "printer", "port": 631, "tags": ["laser"]}
    check = {"name": "paper", "status": "passing"}
    assert catalog.register("office", "10.0.0.9", service=service, check=check) is True
    _, [row] = catalog.service("printer", tag="laser")
    assert (row["Node"], row["Address"], row["ServicePort"]) == ("office", "10.0.0.9", 631)
    assert catalog.services()[1] == {"consul": [], "printer": ["laser"]}
    assert "office" in {node["Node"] for node in catalog.nodes()[1]}
    assert set(catalog.node("office")[1]["Services"]) == {"printer"}
    assert [check["Name"] for check in client.health.node("office")[1]] == ["paper"]
    assert catalog.datacenters() == ["dc1"]
    assert catalog.deregister("office") is True
    assert catalog.node("office")[1] is None


def test_agent_and_cluster_tell_who_they_are(client: consul.Consul) -> None:
    told = client.agent.self()
    assert set(told) == {"Config", "Coord", "DebugConfig", "Member", "Meta", "Stats", "xDS"}
    [member] = client.agent.members()
    assert (member["Name"], member["Tags"]["role"]) == (told["Config"]["NodeName"], "consul")
    assert [client.status.leader()] == client.status.peers()


@pytest.mark.parametrize("consistency", ["default", "consistent", "stale"])
def test_every_consistency_mode_reads(client: consul.Consul, consistency: str) -> None:
    client.kv.put("a", "1")
    assert client.kv.get("a", consistency=consistency)[1]["Value"] == b"1"
    assert "consul" in client.catalog.services(consistency=consistency)[1]


def test_refusals_become_the_clients_own_errors(client: consul.Consul) -> None:
    with pytest.raises(consul.ConsulException, match="No path to datacenter"):
        client.catalog.nodes(dc="elsewhere")
    with pytest.raises(consul.ConsulException, match="not there yet"):
        client.session.create()
