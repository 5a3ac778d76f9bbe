"""Query parameters and the texts for those that are wrong (consul.md 2.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.harness.api import api_site
from tests.harness.raw_http import connect

from callboard.agent.http.parameters import read_options, token_of
from callboard.agent.settings import HttpSettings
from callboard.serve import Request

if TYPE_CHECKING:
    from tests.unit.agent.http.conftest import Asked

READ = "/v1/health/service/web"


@pytest.mark.parametrize(
    ("query", "status", "text"),
    [
        ("index=x", 400, "Invalid index"),
        ("index=-1", 400, "Invalid index"),
        ("index=18446744073709551616", 400, "Invalid index"),
        ("wait=x", 400, "Invalid wait time"),
        ("wait=10", 400, "Invalid wait time"),
        ("max_stale=x", 400, 'Invalid max_stale value "x"'),
        (
            "stale&consistent",
            400,
            "Cannot specify ?stale with ?consistent, conflicting semantics.",
        ),
        (
            "cached&consistent",
            400,
            "Cannot specify ?cached with ?consistent, conflicting semantics.",
        ),
        ("passing=nope", 400, "Invalid value for ?passing"),
        ("dc=elsewhere", 500, "No path to datacenter"),
        ("filter=Service.Port==80", 501, "The query parameter ?filter is not there yet"),
        ("near=_agent", 501, "The query parameter ?near is not there yet"),
        ("node-meta=a:b", 501, "The query parameter ?node-meta is not there yet"),
        ("cached", 501, "The query parameter ?cached is not there yet"),
    ],
)
async def test_wrong_parameter_is_refused_with_consuls_text(
    api: Asked, query: str, status: int, text: str
) -> None:
    answer = await api.get(f"{READ}?{query}")
    assert (answer.status, answer.text) == (status, text)
    assert answer.header("Content-Type") == "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    "query",
    [
        "dc=dc1",
        "dc=",
        "near=&filter=&node-meta=",
        "ns=default&partition=default&sg=&merge-central-config=1",
        "passing",
        "passing=1",
        "passing=false",
        "stale=1",
        "stale=",
        "consistent",
        "leader",
        "max_stale=10s",
        "index=0&wait=120000ms",
        "wait=10.5s",
        "index=18446744073709551615&wait=1ms",
    ],
)
async def test_parameter_of_a_client_is_accepted(api: Asked, query: str) -> None:
    assert (await api.get(f"{READ}?{query}")).status == 200


async def test_other_peers_objects_are_none(api: Asked) -> None:
    await api.put("/v1/agent/service/register", '{"Name":"web"}')
    for path in ("health/service/web", "catalog/service/web", "catalog/nodes", "health/state/any"):
        assert (await api.get(f"/v1/{path}?peer=other")).json == []


@pytest.mark.parametrize(
    ("query", "consistency"),
    [
        ("", "leader"),
        ("?leader", "leader"),
        ("?stale", "stale"),
        ("?consistent", "consistent"),
        ("?max_stale=10s", "stale"),
    ],
)
async def test_effective_consistency_is_told(api: Asked, query: str, consistency: str) -> None:
    answer = await api.get(READ + query)
    assert answer.header("X-Consul-Effective-Consistency") == consistency


async def test_key_reads_do_not_tell_a_consistency(api: Asked) -> None:
    await api.put("/v1/kv/a", "x")
    answer = await api.get("/v1/kv/a")
    assert answer.header("X-Consul-Effective-Consistency") is None
    assert answer.header("X-Consul-Knownleader") == "true"


@pytest.mark.parametrize(("query", "barriers"), [("", 1), ("?consistent", 1), ("?stale", 0)])
async def test_only_stale_reads_pass_no_barrier(api: Asked, query: str, barriers: int) -> None:
    await api.get(READ + query)
    assert api.site.engine.barriers == barriers


async def test_stale_read_of_too_old_a_state_goes_to_the_leader(api: Asked) -> None:
    api.site.engine.last_contact_s = 30.0
    answer = await api.get(f"{READ}?stale&max_stale=10s")
    assert api.site.engine.barriers == 1
    assert answer.header("X-Consul-Effective-Consistency") == "leader"
    assert answer.header("X-Consul-Lastcontact") == "30000"


async def test_never_heard_leader_has_a_large_last_contact(api: Asked) -> None:
    api.site.engine.last_contact_s = float("inf")
    answer = await api.get(f"{READ}?stale")
    assert answer.status == 200 and int(answer.header("X-Consul-Lastcontact") or 0) > 10**9


async def test_discovery_max_stale_makes_catalog_reads_stale_but_not_keys() -> None:
    settings = HttpSettings(discovery_max_stale_s=60.0)
    async with api_site(http=settings) as site, connect(site.port) as client:
        for target in ("/v1/catalog/nodes", READ):
            answer = await client.request("GET", target)
            assert answer.header("X-Consul-Effective-Consistency") == "stale"
        await client.request("GET", "/v1/kv/a")
        assert site.engine.barriers == 1


def request(query: dict[str, list[str]], headers: dict[str, str] | None = None) -> Request:
    """A request with these parameters."""
    return Request("GET", "/", b"/", query, headers or {}, b"", ("127.0.0.1", 1))


def test_waits_are_go_durations() -> None:
    for text, wait_s in (("1m30s", 90.0), ("120000ms", 120.0), ("1.5h", 5400.0), ("20ms", 0.02)):
        assert read_options(request({"wait": [text]}), "dc1").wait_s == wait_s


def test_token_is_found_in_consuls_order() -> None:
    headers = {"x-consul-token": "two", "authorization": "Bearer three"}
    assert token_of(request({"token": ["one"]}, headers)) == "one"
    assert token_of(request({}, headers)) == "two"
    assert token_of(request({}, {"authorization": "bearer three"})) == "three"
    assert token_of(request({}, {"authorization": "Basic eDp5"})) == ""
