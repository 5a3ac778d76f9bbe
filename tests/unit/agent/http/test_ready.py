"""Nothing is called empty before it is loaded (dns-and-http.md 7)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.unit.agent.http.conftest import Asked

REST = {"service": "web", "node": "agent-1", "state": "any", "key": "a"}


@pytest.mark.parametrize("mode", ["", "?stale", "?consistent", "?stale&index=1&wait=10ms"])
async def test_no_endpoint_answers_200_before_ready(api: Asked, mode: str) -> None:
    api.site.engine.ready = False
    asked = 0
    for resource in api.site.api.resources:
        if not resource.replicated or "status" in resource.tags or "GET" not in resource.methods:
            continue
        answer = await api.get(resource.pattern + REST.get(resource.rest, "") + mode)
        assert answer.status == 500, resource.pattern
        assert answer.text == "Agent is not ready: its catalog is not loaded yet"
        asked += 1
    assert asked >= 13


async def test_key_lists_are_500_before_ready(api: Asked) -> None:
    api.site.engine.ready = False
    for target in ("/v1/kv/?keys", "/v1/kv/?recurse", "/v1/kv/a?raw"):
        assert (await api.get(target)).status == 500


async def test_reads_are_served_once_ready(api: Asked) -> None:
    api.site.engine.ready = False
    assert (await api.get("/v1/catalog/nodes")).status == 500
    api.site.engine.ready = True
    assert (await api.get("/v1/catalog/nodes")).status == 200


async def test_status_answers_without_a_leader(api: Asked) -> None:
    api.site.engine.leader = None
    api.site.engine.ready = False
    answer = await api.get("/v1/status/leader")
    assert (answer.status, answer.body) == (200, b'""')
    assert (await api.get("/v1/status/peers")).json == ["127.0.0.1:8300"]
    assert answer.header("X-Consul-Index") is None


@pytest.mark.parametrize("mode", ["", "?consistent"])
async def test_read_without_a_leader_is_500_no_cluster_leader(api: Asked, mode: str) -> None:
    api.site.engine.leader = None
    for target in ("/v1/catalog/nodes", "/v1/health/service/web", "/v1/kv/a"):
        answer = await api.get(target + mode)
        assert (answer.status, answer.text) == (500, "No cluster leader")


async def test_stale_read_answers_without_a_leader(api: Asked) -> None:
    api.site.engine.leader = None
    answer = await api.get("/v1/catalog/nodes?stale")
    assert answer.status == 200
    assert answer.header("X-Consul-Knownleader") == "false"
    assert answer.header("X-Consul-Effective-Consistency") == "stale"


async def test_write_without_a_leader_is_500(api: Asked) -> None:
    api.site.engine.leader = None
    answer = await api.put("/v1/kv/a", "x")
    assert (answer.status, answer.text) == (500, "No cluster leader")
