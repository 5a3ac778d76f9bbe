"""Answers as they were measured on Consul's own agent: status and text, to the letter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.unit.agent.http.conftest import Asked

DECODE = "Request decode failed: "
SERVICE = "/v1/agent/service/register"
CHECK = "/v1/agent/check/register"
NODE = '"Node":"ext","Address":"10.0.0.9"'


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        ("/v1/kv/a?acquire=", "v", 500, "missing session"),
        ("/v1/kv/a?release", "v", 500, "missing session"),
        ("/v1/kv/a?index=x", "v", 400, "Invalid index"),
        (SERVICE, "", 400, DECODE + "EOF"),
        (SERVICE, "{", 400, DECODE + "unexpected EOF"),
        (SERVICE, "\0", 400, DECODE + "invalid character '\\x00' looking for beginning of value"),
        (
            SERVICE,
            '{"Name":5}',
            400,
            DECODE + "json: cannot unmarshal number into Go struct field .Name of type string",
        ),
        (
            SERVICE,
            '{"Name":"web","Meta":{"a":1}}',
            400,
            DECODE + "json: cannot unmarshal number into Go struct field .Meta of type string",
        ),
        (
            SERVICE,
            '{"Name":"web","Frobnicate":1}',
            400,
            DECODE + 'json: unknown field "Frobnicate"',
        ),
        (
            SERVICE,
            '{"Name":"web","Check":{"TTL":"10s","Status":"bad"}}',
            400,
            "Status for checks must 'passing', 'warning', 'critical'",
        ),
        (
            SERVICE,
            '{"Name":"web","Meta":{"consul-x":"1"}}',
            400,
            "Invalid Service Meta: Couldn't load metadata pair ('consul-x', '1'): Key prefix"
            " 'consul-' is reserved for internal use",
        ),
        (
            SERVICE,
            '{"Name":"web","Checks":[{}]}',
            400,
            "Invalid check: TTL must be > 0 for TTL checks",
        ),
        (SERVICE, '{"Name":"web","Check":{"TTL":"0s","Args":[],"HTTP":""}}', 200, ""),
        (
            SERVICE,
            '{"Name":"web","Weights":{"Passing":0,"Warning":0}}',
            400,
            "Invalid Weights: Passing must be greater than 0",
        ),
        (CHECK, '{"Name":"c","TTL":"10s","Status":"bogus"}', 400, "Bad check status"),
        (CHECK, '{"Name":"c"}', 400, "Invalid check: TTL must be > 0 for TTL checks"),
        (
            "/v1/agent/check/update/c",
            "[]",
            400,
            DECODE + "json: cannot unmarshal array into Go value of type agent.checkUpdate",
        ),
        (
            "/v1/catalog/register",
            "[]",
            400,
            DECODE + "json: cannot unmarshal array into Go value of type structs.RegisterRequest",
        ),
        (
            "/v1/catalog/register",
            "{" + NODE + ',"ID":"zf1b1e2c-0000-4000-8000-0000000000aa"}',
            500,
            "Bad node ID: encoding/hex: invalid byte: U+007A 'z'",
        ),
        (
            "/v1/catalog/register",
            "{" + NODE + ',"Check":{"CheckID":"k","ServiceID":"nope"}}',
            500,
            'failed inserting check: Missing service registration on node "ext"',
        ),
        (
            "/v1/catalog/register",
            "{" + NODE + ',"Service":{"Service":"w","Meta":{"consul-x":"c"}}}',
            500,
            "failed inserting service: Invalid Service Meta for node ext and serviceID w: "
            "Couldn't load metadata pair ('consul-x', 'c'): Key prefix 'consul-' is reserved"
            " for internal use",
        ),
        (
            "/v1/catalog/register",
            "{" + NODE + ',"Check":{"CheckID":"k","Definition":{"Newer":1}}}',
            200,
            "true",
        ),
        ("/v1/catalog/deregister", '{"Node":"ext","Address":"10.0.0.9"}', 200, "true"),
        (
            "/v1/catalog/register",
            "{" + NODE + ',"Service":{"Service":"w","Meta":{"a b":"c"}}}',
            500,
            "failed inserting service: Invalid Service Meta for node ext and serviceID w: "
            "Couldn't load metadata pair ('a b', 'c'): Key contains invalid characters",
        ),
    ],
)
async def test_write_is_answered_in_consuls_words(
    api: Asked, path: str, body: str, status: int, text: str
) -> None:
    answer = await api.put(path, body)
    assert (answer.status, answer.text) == (status, text)


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/v1/kv/a?dc=DC1", 500, "No path to datacenter"),
        (
            "/v1/status/leader?stale&consistent",
            400,
            "Cannot specify ?stale with ?consistent, conflicting semantics.",
        ),
        ("/v1/kv", 301, '<a href="/v1/kv/">Moved Permanently</a>.\n\n'),
        ("/v1/catalog/service/", 400, "Missing service name"),
    ],
)
async def test_bad_read_is_refused_in_consuls_words(
    api: Asked, path: str, status: int, text: str
) -> None:
    answer = await api.get(path)
    assert (answer.status, answer.text) == (status, text)


async def test_warning_weight_not_given_is_none_at_all(api: Asked) -> None:
    await api.put(SERVICE, '{"Name":"web","Weights":{"Passing":10}}')
    services = (await api.get("/v1/agent/services")).json
    assert isinstance(services, dict)
    assert services["web"]["Weights"] == {"Passing": 10, "Warning": 0}


async def test_members_keys_have_consuls_order(api: Asked) -> None:
    members = (await api.get("/v1/agent/members")).json
    assert isinstance(members, list)
    assert list(members[0]) == [
        *("Name", "Addr", "Port", "Tags", "Status"),
        *("ProtocolMin", "ProtocolMax", "ProtocolCur"),
        *("DelegateMin", "DelegateMax", "DelegateCur"),
    ]


async def test_servers_have_names_in_the_wide_area_pool(api: Asked) -> None:
    members = (await api.get("/v1/agent/members?wan=1")).json
    assert isinstance(members, list)
    assert [member["Name"] for member in members] == ["agent-1.dc1"]
