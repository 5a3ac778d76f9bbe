"""/v1/catalog (consul.md 3, 5.8)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from callboard.agent.ports import Applied, ProposalUnknown
from callboard.catalog.commands import Deregister

if TYPE_CHECKING:
    from tests.unit.agent.http.conftest import Asked

ROW_KEYS = {
    "ID",
    "Node",
    "Address",
    "Datacenter",
    "TaggedAddresses",
    "NodeMeta",
    "ServiceKind",
    "ServiceID",
    "ServiceName",
    "ServiceTags",
    "ServiceAddress",
    "ServiceWeights",
    "ServiceMeta",
    "ServicePort",
    "ServiceEnableTagOverride",
    "ServiceProxy",
    "ServiceConnect",
    "CreateIndex",
    "ModifyIndex",
}


async def register(api: Asked, node: str, *tags: str, service: str = "web") -> None:
    """Register one instance on a node of its own."""
    body = {
        "Node": node,
        "Address": "10.0.0.1",
        "Service": {"Service": service, "Tags": list(tags), "Port": 80},
    }
    answer = await api.put("/v1/catalog/register", json.dumps(body))
    assert (answer.status, answer.body) == (200, b"true"), answer.body


async def test_empty_catalog_has_lists_that_are_empty_and_not_null(api: Asked) -> None:
    assert (await api.get("/v1/catalog/nodes")).body == b"[]"
    assert (await api.get("/v1/catalog/services")).body == b"{}"
    assert (await api.get("/v1/catalog/service/none")).body == b"[]"


async def test_index_is_never_0(api: Asked) -> None:
    for path in ("nodes", "services", "service/none", "node/none"):
        assert (await api.get(f"/v1/catalog/{path}")).header("X-Consul-Index") == "1"


async def test_registration_whose_answer_was_lost_is_asked_again_and_done_once(
    api: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = api.site.engine
    propose, first = engine.propose, True

    async def lose_the_first_answer(command: bytes, timeout_s: float = 7.0) -> Applied:
        nonlocal first
        if not first:
            return await propose(command, timeout_s)
        first = False
        await propose(command, timeout_s)
        api.site.commit(Deregister("n1"))  # somebody else's, later than ours
        raise ProposalUnknown("the leader is gone")

    monkeypatch.setattr(engine, "propose", lose_the_first_answer)
    await register(api, "n1")
    assert not first
    assert (await api.get("/v1/catalog/service/web")).json == []


async def test_registration_whose_fate_nobody_learns_in_time_is_answered_500(
    api: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0

    async def never(command: bytes, timeout_s: float = 7.0) -> Applied:
        nonlocal asked
        asked += 1
        raise ProposalUnknown("nobody knows")

    monkeypatch.setattr(api.site.engine, "propose", never)
    answer = await api.put("/v1/catalog/register", '{"Node": "n1", "Address": "10.0.0.1"}')
    assert (answer.status, answer.body) == (500, b"leadership lost while committing log")
    assert asked > 1


async def test_registration_is_visible_when_answered(api: Asked) -> None:
    await register(api, "n1", "a")
    rows = (await api.get("/v1/catalog/service/web")).json
    assert isinstance(rows, list) and len(rows) == 1
    assert set(rows[0]) >= ROW_KEYS
    assert rows[0]["ServiceTags"] == ["a"] and rows[0]["ServicePort"] == 80


async def test_services_lists_the_union_of_tags(api: Asked) -> None:
    await register(api, "n1", "b", "a")
    await register(api, "n2", "c", "a")
    await register(api, "n2", service="bare")
    assert (await api.get("/v1/catalog/services")).json == {"bare": [], "web": ["a", "b", "c"]}


async def test_tag_is_repeatable_and_without_regard_to_case(api: Asked) -> None:
    await register(api, "n1", "Rails", "x")
    await register(api, "n2", "rails")

    async def nodes(query: str) -> list[str]:
        rows = (await api.get(f"/v1/catalog/service/web?{query}")).json
        assert isinstance(rows, list)
        return [row["Node"] for row in rows]

    assert await nodes("tag=RAILS") == ["n1", "n2"]
    assert await nodes("tag=rails&tag=X") == ["n1"]
    assert await nodes("tag=none") == []


async def test_names_are_without_regard_to_case(api: Asked) -> None:
    await register(api, "N1")
    rows = (await api.get("/v1/catalog/service/WEB")).json
    assert isinstance(rows, list) and len(rows) == 1
    assert (await api.get("/v1/catalog/node/n1")).body != b"null"


async def test_node_has_its_services_by_id(api: Asked) -> None:
    await register(api, "n1", "a")
    document = (await api.get("/v1/catalog/node/n1")).json
    assert isinstance(document, dict)
    assert document["Node"]["Node"] == "n1" and document["Services"]["web"]["Port"] == 80
    listed = (await api.get("/v1/catalog/node-services/n1")).json
    assert isinstance(listed, dict) and listed["Services"][0]["ID"] == "web"


async def test_unknown_node_is_null(api: Asked) -> None:
    answer = await api.get("/v1/catalog/node/none")
    assert (answer.status, answer.body) == (200, b"null")


async def test_services_of_an_unknown_node_are_a_null_list(api: Asked) -> None:
    answer = await api.get("/v1/catalog/node-services/none")
    assert (answer.status, answer.body) == (200, b'{"Node":null,"Services":null}')


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("service/", "Missing service name"),
        ("connect/", "Missing service name"),
        ("node/", "Missing node name"),
        ("node-services/", "Missing node name"),
    ],
)
async def test_missing_name_is_400(api: Asked, path: str, text: str) -> None:
    answer = await api.get(f"/v1/catalog/{path}")
    assert (answer.status, answer.text) == (400, text)


async def test_no_instance_is_mesh_capable(api: Asked) -> None:
    await register(api, "n1")
    answer = await api.get("/v1/catalog/connect/web")
    assert answer.body == b"[]" and answer.header("X-Consul-Index")


async def test_deregister_removes_a_service_a_check_or_a_node(api: Asked) -> None:
    await register(api, "n1")
    assert (await api.put("/v1/catalog/deregister", '{"Node":"n1","ServiceID":"web"}')).json is True
    assert (await api.get("/v1/catalog/service/web")).json == []
    assert (await api.put("/v1/catalog/deregister", '{"Node":"n1"}')).json is True
    assert (await api.get("/v1/catalog/nodes")).json == []


async def test_deregister_of_an_unknown_node_is_true(api: Asked) -> None:
    assert (await api.put("/v1/catalog/deregister", '{"Node":"none"}')).json is True


@pytest.mark.parametrize("path", ["register", "deregister"])
@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ("", 400, "Request decode failed: EOF"),
        (
            '{"Frobnicate":1,"Node":"a"}',
            400,
            'Request decode failed: json: unknown field "Frobnicate"',
        ),
        ('{"Datacenter":"elsewhere","Node":"a"}', 500, "No path to datacenter"),
    ],
)
async def test_wrong_body_is_refused_with_consuls_text(
    api: Asked, path: str, body: str, status: int, text: str
) -> None:
    answer = await api.put(f"/v1/catalog/{path}", body)
    assert (answer.status, answer.text) == (status, text)


@pytest.mark.parametrize(
    "body", ['{"Node":', "[]", '"x"', '{"Node":5}', "\xff\x00", '{"Service":{"Port":"x"}}']
)
async def test_malformed_json_is_400_and_the_agent_serves_on(api: Asked, body: str) -> None:
    answer = await api.put("/v1/catalog/register", body)
    assert answer.status == 400 and answer.text.startswith("Request decode failed: ")
    assert (await api.get("/v1/catalog/nodes")).status == 200


async def test_body_needs_no_content_type(api: Asked) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = await api.put("/v1/catalog/register", '{"node":"a","address":"1.2.3.4"}', form)
    assert answer.json is True


async def test_oversize_body_is_413(api: Asked) -> None:
    answer = await api.put("/v1/catalog/register", b"x" * ((1 << 20) + 1))
    assert answer.status == 413
    assert answer.header("Vary") == "Accept-Encoding"
    assert answer.header("X-Consul-Default-Acl-Policy") == "allow"


async def test_datacenters_lists_ours(api: Asked) -> None:
    assert (await api.get("/v1/catalog/datacenters")).json == ["dc1"]


async def test_answer_follows_every_change(fast: Asked) -> None:
    for number in range(5):
        await register(fast, f"n{number}")
        rows = (await fast.get("/v1/catalog/service/web")).json
        again = (await fast.get("/v1/catalog/service/web")).json
        assert isinstance(rows, list) and len(rows) == number + 1 and rows == again
    await fast.put("/v1/catalog/register", '{"Node":"n0","Address":"10.9.9.9"}')
    rows = (await fast.get("/v1/catalog/service/web")).json
    assert isinstance(rows, list) and rows[0]["Address"] == "10.9.9.9"
