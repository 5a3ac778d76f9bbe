"""/v1/health (consul.md 3)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.unit.agent.http.conftest import Asked


async def register(api: Asked, node: str, status: str, tags: tuple[str, ...] = ()) -> None:
    """One instance of web with a check in this status, on a node with a passing check."""
    body = {
        "Node": node,
        "Address": "10.0.0.1",
        "Service": {"Service": "web", "Tags": tags, "Port": 80},
        "Checks": [
            {"CheckID": "alive", "Name": "alive", "Status": "passing"},
            {"CheckID": "web", "Name": "web", "Status": status, "ServiceID": "web"},
        ],
    }
    assert (await api.put("/v1/catalog/register", json.dumps(body))).json is True


async def names(api: Asked, target: str) -> list[str]:
    """The nodes of a list of health entries."""
    entries = (await api.get(target)).json
    assert isinstance(entries, list)
    return [entry["Node"]["Node"] for entry in entries]


async def test_entry_has_node_service_and_the_checks_of_both(api: Asked) -> None:
    await register(api, "n1", "passing")
    entries = (await api.get("/v1/health/service/web")).json
    assert isinstance(entries, list)
    assert set(entries[0]) == {"Node", "Service", "Checks"}
    assert [check["CheckID"] for check in entries[0]["Checks"]] == ["alive", "web"]
    assert entries[0]["Service"]["Weights"] == {"Passing": 1, "Warning": 1}


async def test_passing_leaves_out_warning_and_critical(api: Asked) -> None:
    for node, status in (("n1", "passing"), ("n2", "warning"), ("n3", "critical")):
        await register(api, node, status)
    assert await names(api, "/v1/health/service/web") == ["n1", "n2", "n3"]
    for query in ("passing", "passing=1", "passing=true"):
        assert await names(api, f"/v1/health/service/web?{query}") == ["n1"]
    assert await names(api, "/v1/health/service/web?passing=0") == ["n1", "n2", "n3"]


async def test_tags_narrow_the_list(api: Asked) -> None:
    await register(api, "n1", "passing", ("a", "B"))
    await register(api, "n2", "passing", ("a",))
    assert await names(api, "/v1/health/service/web?tag=a&tag=b") == ["n1"]


async def test_checks_of_a_service_and_of_a_node(api: Asked) -> None:
    await register(api, "n1", "passing")
    service = (await api.get("/v1/health/checks/web")).json
    node = (await api.get("/v1/health/node/n1")).json
    assert isinstance(service, list) and isinstance(node, list)
    assert [check["CheckID"] for check in service] == ["web"]
    assert [check["CheckID"] for check in node] == ["alive", "web"]


@pytest.mark.parametrize(
    ("state", "checks"), [("any", 2), ("passing", 1), ("critical", 1), ("warning", 0)]
)
async def test_checks_by_state(api: Asked, state: str, checks: int) -> None:
    await register(api, "n1", "critical")
    found = (await api.get(f"/v1/health/state/{state}")).json
    assert isinstance(found, list) and len(found) == checks


@pytest.mark.parametrize(
    "path", ["service/none", "checks/none", "node/none", "connect/none", "state/bad"]
)
async def test_unknown_is_an_empty_list_with_an_index(api: Asked, path: str) -> None:
    answer = await api.get(f"/v1/health/{path}")
    assert (answer.status, answer.body) == (200, b"[]")
    assert answer.header("X-Consul-Index") == "1"


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("service/", "Missing service name"),
        ("checks/", "Missing service name"),
        ("node/", "Missing node name"),
        ("state/", "Missing check state"),
    ],
)
async def test_missing_or_wrong_name_is_400(api: Asked, path: str, text: str) -> None:
    answer = await api.get(f"/v1/health/{path}")
    assert (answer.status, answer.text) == (400, text)
