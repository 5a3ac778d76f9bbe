"""`callboard catalog` and `callboard services`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.harness.scripted_http import ScriptedHttp

Callboard = Callable[..., tuple[int, str, str]]

NODE = {
    "ID": "40e4a748-2192-161a-0510-9bf59fe950b5",
    "Node": "agent-1",
    "Address": "127.0.0.1",
    "Datacenter": "dc1",
    "TaggedAddresses": {"wan": "127.0.0.1", "lan": "127.0.0.1"},
    "Meta": {"rack": "7"},
}


def test_datacenters_one_a_line(agent: ScriptedHttp, callboard: Callboard) -> None:
    agent.on("GET", "/v1/catalog/datacenters", ["dc1"])
    assert callboard("catalog", "datacenters") == (0, "dc1\n", "")


def test_nodes_are_a_table_with_short_ids(agent: ScriptedHttp, callboard: Callboard) -> None:
    agent.on("GET", "/v1/catalog/nodes", [NODE])
    assert callboard("catalog", "nodes")[1].splitlines() == [
        "Node     ID        Address    DC",
        "agent-1  40e4a748  127.0.0.1  dc1",
    ]


def test_detailed_nodes_show_all(agent: ScriptedHttp, callboard: Callboard) -> None:
    agent.on("GET", "/v1/catalog/nodes", [NODE])
    line = callboard("catalog", "nodes", "-detailed")[1].splitlines()[1]
    assert line.split("  ") == [
        *("agent-1", NODE["ID"], "127.0.0.1", "dc1", "lan=127.0.0.1, wan=127.0.0.1", "rack=7")
    ]


def test_nodes_of_a_service_are_listed_once(agent: ScriptedHttp, callboard: Callboard) -> None:
    row = {**NODE, "NodeMeta": NODE["Meta"], "ServiceID": "web-1"}
    agent.on("GET", "/v1/catalog/service/web", [row, {**row, "ServiceID": "web-2"}])
    assert len(callboard("catalog", "nodes", "-service=web")[1].splitlines()) == 2


def test_no_node_that_matches_is_told(agent: ScriptedHttp, callboard: Callboard) -> None:
    agent.on("GET", "/v1/catalog/nodes?node-meta=rack%3A8", [])
    code, out, err = callboard("catalog", "nodes", "-node-meta", "rack=8")
    assert (code, out) == (0, "")
    assert err == "No nodes match the given query - try expanding your search.\n"


def test_services_are_listed_by_name(agent: ScriptedHttp, callboard: Callboard) -> None:
    agent.on("GET", "/v1/catalog/services", {"web": ["rails", "a"], "consul": []})
    assert callboard("catalog", "services")[1] == "consul\nweb\n"
    assert callboard("catalog", "services", "-tags")[1] == "consul\nweb     a,rails\n"


def test_services_of_a_node_join_their_tags(agent: ScriptedHttp, callboard: Callboard) -> None:
    services = {
        "web-1": {"Service": "web", "Tags": ["b"]},
        "web-2": {"Service": "web", "Tags": ["a"]},
    }
    agent.on("GET", "/v1/catalog/node/agent-1", {"Node": NODE, "Services": services})
    assert callboard("catalog", "services", "-node=agent-1", "-tags")[1] == "web  a,b\n"


def test_services_of_an_unknown_node_are_none(agent: ScriptedHttp, callboard: Callboard) -> None:
    agent.on("GET", "/v1/catalog/node/nobody", None)
    code, out, err = callboard("catalog", "services", "-node=nobody")
    assert (code, out) == (0, "")
    assert err == "No services match the given query - try expanding your search.\n"


@pytest.mark.parametrize("verb", ["nodes", "services"])
def test_meta_without_a_value_is_refused(callboard: Callboard, verb: str) -> None:
    code, _, err = callboard("catalog", verb, "-node-meta", "rack")
    assert code == 1
    assert err.startswith('invalid value "rack" for flag -node-meta')


def test_a_service_is_registered_by_flags(agent: ScriptedHttp, callboard: Callboard) -> None:
    agent.on("PUT", "/v1/agent/service/register", "")
    words = ["-name=web", "-id=web-1", "-port=80", "-tag=rails", "-tag=v1", "-meta=a=b=c"]
    assert callboard("services", "register", *words) == (0, "Registered service: web\n", "")
    assert json.loads(agent.asked[0].body) == {
        "name": "web",
        "id": "web-1",
        "port": 80,
        "tags": ["rails", "v1"],
        "meta": {"a": "b=c"},
    }


def test_services_are_registered_from_a_file(
    agent: ScriptedHttp, callboard: Callboard, tmp_path: Path
) -> None:
    agent.on("PUT", "/v1/agent/service/register", "")
    agent.on("PUT", "/v1/agent/service/deregister/web-2", "")
    agent.on("PUT", "/v1/agent/service/deregister/db", "")
    path = tmp_path / "services.json"
    path.write_text('{"services": [{"name": "web", "id": "web-2"}, {"Name": "db"}]}')
    assert callboard("services", "register", str(path))[1] == (
        "Registered service: web\nRegistered service: db\n"
    )
    assert callboard("services", "deregister", str(path))[1] == (
        "Deregistered service: web-2\nDeregistered service: db\n"
    )


def test_a_refused_registration_shows_why(agent: ScriptedHttp, callboard: Callboard) -> None:
    agent.on("PUT", "/v1/agent/service/register", "Missing service name", status=400)
    code, _, err = callboard("services", "register", "-name=web")
    assert code == 1
    assert err == (
        'Error registering service "web": Unexpected response code: 400 (Missing service name)\n'
    )


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["register"], "Service registration requires at least one argument or flags."),
        (["register", "-name=a", "f"], "Service registration requires arguments or -id"),
        (["deregister"], "Service deregistration requires at least one argument or -id."),
        (
            ["deregister", "-id=a", "f"],
            "Service deregistration requires arguments or -id",
        ),
        (["register", "/nowhere.json"], "Error: /nowhere.json: no such file or directory"),
        (["register", "web.hcl"], "Error: web.hcl: HCL is not read yet: write it as JSON"),
    ],
)
def test_a_command_line_without_sense_is_told(
    callboard: Callboard, words: list[str], text: str
) -> None:
    code, _, err = callboard("services", *words)
    assert code == 1
    assert err.startswith(text)


@pytest.mark.parametrize("verb", ["datacenters", "nodes", "services"])
def test_more_words_than_wanted_are_refused(callboard: Callboard, verb: str) -> None:
    code, _, err = callboard("catalog", verb, "extra")
    assert (code, err) == (1, "Too many arguments (expected 0, got 1)\n")
