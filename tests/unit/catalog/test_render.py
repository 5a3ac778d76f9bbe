"""JSON per endpoint, byte for byte (consul.md §3 T1)."""

from __future__ import annotations

import json as standard_json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.catalog import render
from callboard.catalog.discovery import HealthEntry
from callboard.catalog.objects import (
    Check,
    KeyValue,
    Node,
    ServiceAddress,
    ServiceInstance,
    Weights,
)

NODE = Node(
    id="7f6d1c2e-9a3b-4c5d-8e7f-0123456789ab",
    name="agent-1",
    address="10.0.0.1",
    tagged_addresses={"wan": "10.0.0.1", "lan": "10.0.0.1"},
    meta={"rack": "7"},
    create_index=5,
    modify_index=6,
)
WEB = ServiceInstance(
    node="agent-1",
    id="web",
    service="web",
    tags=("rails",),
    port=80,
    create_index=7,
    modify_index=8,
)
ADDRESSED = msgspec.structs.replace(
    WEB,
    id="web-2",
    tags=(),
    address="10.0.0.9",
    tagged_addresses={
        "wan_ipv4": ServiceAddress("10.0.0.9", 80),
        "lan_ipv4": ServiceAddress("10.0.0.9", 80),
    },
    meta={"version": "4"},
    weights=Weights(10, 2),
    enable_tag_override=True,
    kind="mesh-gateway",
)
SERF = Check(
    node="agent-1",
    check_id="serfHealth",
    name="Serf Health Status",
    status="passing",
    output="Agent alive and reachable",
    create_index=5,
    modify_index=5,
)
HTTP = Check(
    node="agent-1",
    check_id="service:web",
    name="Service 'web' check",
    status="critical",
    service_id="web",
    service_name="web",
    service_tags=("rails",),
    type="http",
    interval="10s",
    timeout="1s",
    definition={"Interval": "10s", "HTTP": "http://a/?b&c"},
    create_index=7,
    modify_index=9,
)

NODE_JSON = (
    '{"ID":"7f6d1c2e-9a3b-4c5d-8e7f-0123456789ab","Node":"agent-1","Address":"10.0.0.1",'
    '"Datacenter":"dc1","TaggedAddresses":{"lan":"10.0.0.1","wan":"10.0.0.1"},'
    '"Meta":{"rack":"7"},"CreateIndex":5,"ModifyIndex":6}'
)
PROXY = '{"Mode":"","MeshGateway":{},"Expose":{}}'
WEB_JSON = (
    '{"ID":"web","Service":"web","Tags":["rails"],"Address":"","Meta":{},"Port":80,'
    '"Weights":{"Passing":1,"Warning":1},"EnableTagOverride":false,'
    f'"Proxy":{PROXY},"Connect":{{}},"CreateIndex":7,"ModifyIndex":8}}'
)
SERF_JSON = (
    '{"Node":"agent-1","CheckID":"serfHealth","Name":"Serf Health Status","Status":"passing",'
    '"Notes":"","Output":"Agent alive and reachable","ServiceID":"","ServiceName":"",'
    '"ServiceTags":[],"Type":"","Interval":"","Timeout":"","ExposedPort":0,"Definition":{},'
    '"CreateIndex":5,"ModifyIndex":5}'
)


def test_a_node_is_an_element_of_catalog_nodes() -> None:
    assert render.node_json(NODE).decode() == NODE_JSON


def test_a_service_inside_other_answers() -> None:
    assert render.node_service_json(WEB).decode() == WEB_JSON


def test_a_service_with_everything() -> None:
    assert render.node_service_json(ADDRESSED).decode() == (
        '{"Kind":"mesh-gateway","ID":"web-2","Service":"web","Tags":[],"Address":"10.0.0.9",'
        '"TaggedAddresses":{"lan_ipv4":{"Address":"10.0.0.9","Port":80},'
        '"wan_ipv4":{"Address":"10.0.0.9","Port":80}},"Meta":{"version":"4"},"Port":80,'
        '"Weights":{"Passing":10,"Warning":2},"EnableTagOverride":true,'
        f'"Proxy":{PROXY},"Connect":{{}},"CreateIndex":7,"ModifyIndex":8}}'
    )


def test_a_catalog_service_row_is_flat() -> None:
    assert render.catalog_service_row_json(NODE, WEB).decode() == (
        '{"ID":"7f6d1c2e-9a3b-4c5d-8e7f-0123456789ab","Node":"agent-1","Address":"10.0.0.1",'
        '"Datacenter":"dc1","TaggedAddresses":{"lan":"10.0.0.1","wan":"10.0.0.1"},'
        '"NodeMeta":{"rack":"7"},"ServiceKind":"","ServiceID":"web","ServiceName":"web",'
        '"ServiceTags":["rails"],"ServiceAddress":"","ServiceWeights":{"Passing":1,"Warning":1},'
        '"ServiceMeta":{},"ServicePort":80,"ServiceEnableTagOverride":false,'
        f'"ServiceProxy":{PROXY},"ServiceConnect":{{}},"CreateIndex":7,"ModifyIndex":8}}'
    )


def test_a_row_shows_tagged_addresses_when_there_are_any() -> None:
    row = standard_json.loads(render.catalog_service_row_json(NODE, ADDRESSED))
    assert row["ServiceTaggedAddresses"]["lan_ipv4"] == {"Address": "10.0.0.9", "Port": 80}
    assert row["ServiceTags"] == []


def test_a_node_check() -> None:
    assert render.check_json(SERF).decode() == SERF_JSON


def test_a_service_check_escapes_what_html_would_read() -> None:
    assert render.check_json(HTTP).decode() == (
        '{"Node":"agent-1","CheckID":"service:web","Name":"Service \'web\' check",'
        '"Status":"critical","Notes":"","Output":"","ServiceID":"web","ServiceName":"web",'
        '"ServiceTags":["rails"],"Type":"http","Interval":"10s","Timeout":"1s","ExposedPort":0,'
        '"Definition":{"HTTP":"http://a/?b\\u0026c","Interval":"10s"},'
        '"CreateIndex":7,"ModifyIndex":9}'
    )


def test_a_health_entry_joins_node_service_and_checks() -> None:
    assert render.health_entry_json(HealthEntry(NODE, WEB, (SERF,))).decode() == (
        f'{{"Node":{NODE_JSON},"Service":{WEB_JSON},"Checks":[{SERF_JSON}]}}'
    )


def test_a_health_entry_without_checks_has_an_empty_list() -> None:
    assert render.health_entry_json(HealthEntry(NODE, WEB, ())).endswith(b'"Checks":[]}')


def test_catalog_node_maps_services_by_id() -> None:
    services = [msgspec.structs.replace(WEB, id=name) for name in ("b", "a")]
    answer = standard_json.loads(render.catalog_node_json(NODE, services))
    assert list(answer) == ["Node", "Services"]
    assert list(answer["Services"]) == ["a", "b"]


def test_catalog_node_services_is_a_list() -> None:
    assert render.catalog_node_services_json(NODE, [WEB]).decode() == (
        f'{{"Node":{NODE_JSON},"Services":[{WEB_JSON}]}}'
    )


def test_service_names_are_sorted_with_their_tags() -> None:
    assert render.service_names_json({"web": ("a", "b"), "consul": ()}) == (
        b'{"consul":[],"web":["a","b"]}'
    )


def test_an_agent_service_has_exactly_consuls_keys() -> None:
    assert render.agent_service_json(WEB, "dc1").decode() == (
        '{"ID":"web","Service":"web","Tags":["rails"],"Meta":{},"Port":80,"Address":"",'
        '"Weights":{"Passing":1,"Warning":1},"EnableTagOverride":false,"Datacenter":"dc1"}'
    )


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        (
            KeyValue(key="a/b", value=b"\x00\xffx", flags=42, create_index=3, modify_index=4),
            '{"LockIndex":0,"Key":"a/b","Flags":42,"Value":"AP94","CreateIndex":3,"ModifyIndex":4}',
        ),
        (
            KeyValue(key="e", create_index=3, modify_index=4),
            '{"LockIndex":0,"Key":"e","Flags":0,"Value":null,"CreateIndex":3,"ModifyIndex":4}',
        ),
        (
            KeyValue(key="l", value=b"x", lock_index=1, session="s", flags=2**64 - 1),
            '{"LockIndex":1,"Key":"l","Flags":18446744073709551615,"Value":"eA==","Session":"s",'
            '"CreateIndex":0,"ModifyIndex":0}',
        ),
    ],
)
def test_keys_are_base64_or_null(entry: KeyValue, text: str) -> None:
    assert render.key_value_json(entry).decode() == text


def test_pretty_indents_by_four_and_ends_the_line() -> None:
    assert render.pretty(b'{"a":[1,{"b":[]}],"c":{}}') == (
        b'{\n    "a": [\n        1,\n        {\n            "b": []\n        }\n    ],\n'
        b'    "c": {}\n}\n'
    )


def test_separators_that_break_javascript_are_escaped() -> None:
    assert render.json("a\u2028b\u2029c<d>") == b'"a\\u2028b\\u2029c\\u003cd\\u003e"'


@given(st.dictionaries(st.text(), st.text() | st.lists(st.text())))
def test_any_value_reads_back_as_it_was(value: dict[str, object]) -> None:
    document = render.json(value)
    assert standard_json.loads(document) == value
    assert standard_json.loads(render.pretty(document)) == value
    assert list(standard_json.loads(document)) == sorted(value)


def test_a_mapping_sorts_and_escapes_its_keys() -> None:
    assert render.mapping([("b", b"1"), ('a"', b"[]")]) == b'{"a\\"":[],"b":1}'
    assert render.mapping([]) == b"{}"
    assert render.array([]) == b"[]"
