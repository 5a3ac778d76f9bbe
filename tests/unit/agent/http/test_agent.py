"""/v1/agent (consul.md 3, 2.9)."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, cast

import pytest
from tests.harness.api import api_site
from tests.harness.raw_http import connect

from callboard.agent.http.frame import Call
from callboard.agent.http.problems import ApiError
from callboard.catalog.authorizer import ALLOW_ALL
from callboard.pki.roles import Peer
from callboard.serve import Answer, Request
from callboard.swim.serf_members import MemberStatus, SerfMember

if TYPE_CHECKING:
    from tests.unit.agent.http.conftest import Asked

WEB = '{"Name":"web","Tags":["rails"],"Port":80,"Check":{"TTL":"10s"}}'


async def test_self_has_the_keys_that_clients_read(api: Asked) -> None:
    document = (await api.get("/v1/agent/self")).json
    assert isinstance(document, dict)
    assert set(document) == {"Config", "DebugConfig", "Coord", "Member", "Stats", "Meta", "xDS"}
    config = document["Config"]
    assert config["Datacenter"] == "dc1" and config["NodeName"] == "agent-1"
    assert config["Server"] is True
    assert tuple(map(int, config["Version"].split("."))) >= (1, 20, 0)
    assert document["Stats"]["consul"]["leader_addr"] == "127.0.0.1:8300"
    assert document["Member"]["Name"] == "agent-1"
    assert all(
        isinstance(value, str)
        for section in document["Stats"].values()
        for value in section.values()
    )


async def test_self_of_an_agent_without_the_catalog_shows_the_configured_meta() -> None:
    configured = {"NodeMeta": {"rack": "r1"}}
    async with api_site(debug_config=configured) as site, connect(site.port) as client:
        assert (await client.request("GET", "/v1/agent/self")).json["Meta"] == {"rack": "r1"}  # type: ignore[index]


async def test_members_show_the_role_that_consuls_users_know(api: Asked) -> None:
    api.site.membership.known.append(
        SerfMember("agent-0", "10.0.0.9", 8301, {"role": "callboard"}, MemberStatus.FAILED)
    )
    for query in ("", "?segment=_all"):
        members = (await api.get(f"/v1/agent/members{query}")).json
        assert isinstance(members, list)
        assert [m["Name"] for m in members] == ["agent-0", "agent-1"]
        assert [m["Tags"]["role"] for m in members] == ["node", "consul"]
        assert [m["Status"] for m in members] == [4, 1]
        assert members[1]["Addr"] == "127.0.0.1" and members[1]["Port"] == 8301
        assert {"ProtocolMin", "ProtocolMax", "ProtocolCur"} <= set(members[1])
        assert {"DelegateMin", "DelegateMax", "DelegateCur"} <= set(members[1])


async def test_registered_service_is_in_the_catalog_when_answered(api: Asked) -> None:
    assert (await api.put("/v1/agent/service/register", WEB)).status == 200
    rows = (await api.get("/v1/catalog/service/web")).json
    assert isinstance(rows, list) and rows[0]["ServiceTags"] == ["rails"]
    checks = (await api.get("/v1/agent/checks")).json
    assert isinstance(checks, dict) and set(checks) == {"service:web"}
    assert checks["service:web"]["Type"] == "ttl"


async def test_agent_services_have_exactly_the_keys_of_consul(api: Asked) -> None:
    await api.put("/v1/agent/service/register", WEB)
    services = (await api.get("/v1/agent/services")).json
    assert isinstance(services, dict)
    assert set(services["web"]) == {
        "ID",
        "Service",
        "Tags",
        "Meta",
        "Port",
        "Address",
        "Weights",
        "EnableTagOverride",
        "Datacenter",
    }


async def test_one_service_has_a_hash_of_its_content(api: Asked) -> None:
    await api.put("/v1/agent/service/register", WEB)
    answer = await api.get("/v1/agent/service/web")
    document = answer.json
    assert isinstance(document, dict)
    assert document["ContentHash"] == answer.header("X-Consul-Contenthash")
    await api.put("/v1/agent/service/register", '{"Name":"web","Port":81}')
    other = (await api.get("/v1/agent/service/web")).header("X-Consul-Contenthash")
    assert other != document["ContentHash"]


async def test_unknown_service_is_404(api: Asked) -> None:
    answer = await api.get("/v1/agent/service/none")
    assert (answer.status, answer.text) == (404, "unknown service ID: none")


async def test_hash_blocking_is_not_there_yet(api: Asked) -> None:
    answer = await api.get("/v1/agent/service/web?hash=abc&wait=1s")
    assert (answer.status, answer.text) == (501, "The query parameter ?hash is not there yet")


async def test_deregistered_service_takes_its_checks_along(api: Asked) -> None:
    await api.put("/v1/agent/service/register", WEB)
    answer = await api.put("/v1/agent/service/deregister/web")
    assert (answer.status, answer.body) == (200, b"")
    assert (await api.get("/v1/agent/services")).json == {}
    assert (await api.get("/v1/agent/checks")).json == {}
    assert (await api.get("/v1/catalog/service/web")).json == []


async def test_deregister_of_an_unknown_service_is_404(api: Asked) -> None:
    answer = await api.put("/v1/agent/service/deregister/none")
    assert answer.status == 404 and answer.text.startswith('Unknown service ID "none".')


@pytest.mark.parametrize(
    ("query", "replaced"),
    [
        ("", False),
        ("?replace-existing-checks", True),
        ("?replace-existing-checks=true", True),
        ("?replace-existing-checks=false", False),
    ],
)
async def test_replacing_checks_is_asked_for(api: Asked, query: str, replaced: bool) -> None:
    await api.put(f"/v1/agent/service/register{query}", WEB)
    assert api.site.registry.replaced == [replaced]


@pytest.mark.parametrize(
    ("path", "status"), [("pass", "passing"), ("warn", "warning"), ("fail", "critical")]
)
async def test_ttl_check_is_set_by_path(api: Asked, path: str, status: str) -> None:
    await api.put("/v1/agent/service/register", WEB)
    assert (await api.put(f"/v1/agent/check/{path}/service:web?note=all%20well")).status == 200
    checks = (await api.get("/v1/health/checks/web")).json
    assert isinstance(checks, list)
    assert (checks[0]["Status"], checks[0]["Output"]) == (status, "all well")


async def test_ttl_check_is_set_by_body(api: Asked) -> None:
    await api.put("/v1/agent/service/register", WEB)
    body = '{"status":"warning","output":"hot"}'
    assert (await api.put("/v1/agent/check/update/service:web", body)).status == 200
    checks = (await api.get("/v1/agent/checks")).json
    assert isinstance(checks, dict) and checks["service:web"]["Output"] == "hot"


async def test_update_with_a_status_that_is_none_is_400(api: Asked) -> None:
    await api.put("/v1/agent/service/register", WEB)
    answer = await api.put("/v1/agent/check/update/service:web", '{"Status":"maybe"}')
    assert (answer.status, answer.text) == (400, "Invalid check status: 'maybe'")


@pytest.mark.parametrize("path", ["pass", "warn", "fail", "update", "deregister"])
async def test_unknown_check_is_404_with_the_text_vault_matches(api: Asked, path: str) -> None:
    answer = await api.put(f"/v1/agent/check/{path}/none", '{"Status":"passing"}')
    assert answer.status == 404
    assert answer.text == (
        'Unknown check ID "none". Ensure that the check ID is passed, not the check name.'
    )


async def test_check_is_registered_and_deregistered(api: Asked) -> None:
    assert (await api.put("/v1/agent/check/register", '{"Name":"disk","TTL":"1m"}')).status == 200
    checks = (await api.get("/v1/agent/checks")).json
    assert isinstance(checks, dict) and checks["disk"]["Status"] == "critical"
    assert (await api.put("/v1/agent/check/deregister/disk")).status == 200
    assert (await api.get("/v1/agent/checks")).json == {}


async def test_check_of_an_unknown_service_is_404(api: Asked) -> None:
    body = '{"Name":"c","TTL":"1m","ServiceID":"none"}'
    assert (await api.put("/v1/agent/check/register", body)).status == 404


@pytest.mark.parametrize("path", ["service/register", "check/register", "check/update/x"])
@pytest.mark.parametrize("body", ["", "{", "[]", '{"Frobnicate":1}', '{"Name":5,"Status":5}'])
async def test_malformed_body_is_400(api: Asked, path: str, body: str) -> None:
    answer = await api.put(f"/v1/agent/{path}", body)
    assert answer.status == 400 and answer.text.startswith("Request decode failed: ")


async def test_join_goes_to_gossip(api: Asked) -> None:
    assert (await api.put("/v1/agent/join/10.0.0.7:8301")).status == 200
    assert api.site.membership.joined == ["10.0.0.7:8301"]


async def test_failed_join_is_500_with_the_reason(api: Asked) -> None:
    answer = await api.put("/v1/agent/join/nowhere")
    assert (answer.status, answer.text) == (
        500,
        "1 error occurred:\n\t* Failed to join nowhere: no member answers at nowhere\n\n",
    )


async def test_force_leave_may_prune(api: Asked) -> None:
    assert (await api.put("/v1/agent/force-leave/agent-1")).status == 200
    assert (await api.put("/v1/agent/force-leave/agent-1?prune")).status == 200
    assert api.site.membership.forced == [("agent-1", False), ("agent-1", True)]


async def test_force_leave_of_an_unknown_member_is_500(api: Asked) -> None:
    answer = await api.put("/v1/agent/force-leave/none")
    assert answer.status == 500 and "No node found with name 'none'" in answer.text


async def test_leave_and_reload_call_the_agent() -> None:
    called: list[str] = []

    async def leave() -> None:
        called.append("leave")

    async def reload() -> None:
        raise ValueError("web.json: unknown key")

    async with api_site(leave=leave, reload=reload) as site, connect(site.port) as client:
        assert (await client.request("PUT", "/v1/agent/leave")).status == 200
        answer = await client.request("PUT", "/v1/agent/reload")
    assert called == ["leave"]
    assert (answer.status, answer.text) == (500, "web.json: unknown key")


@pytest.mark.parametrize("path", ["leave", "reload", "join/127.0.0.2", "force-leave/agent-1"])
async def test_certificates_of_programs_do_not_change_agents(path: str) -> None:
    """One of them that is broken into must not stop the catalog."""
    called: list[str] = []

    async def call() -> None:
        called.append(path)

    async with api_site(leave=call, reload=call) as site:

        async def put(role: str) -> int:
            whole = f"/v1/agent/{path}"
            resource = max(
                (one for one in site.api.resources if whole.startswith(one.pattern)),
                key=lambda one: len(one.pattern),
            )
            peer = Peer(frozenset({role}), "")
            request = Request("PUT", whole, b"", {}, {}, b"", ("10.0.0.1", 1), peer)
            rest = whole.removeprefix(resource.pattern)
            try:
                answer = await cast(
                    "Awaitable[Answer]", resource.methods["PUT"](Call(request, rest, ALLOW_ALL))
                )
            except ApiError as refused:
                assert "is for agent, operator, server; the certificate has" in str(refused)
                return refused.status
            return answer.status

        for role in ("hub", "gateway", "fileserver", "sidecar", "nameserver"):
            assert await put(role) == 403
        assert (called, site.membership.joined) == ([], [])
        for role in ("server", "agent", "operator"):
            assert await put(role) == 200


async def test_version_names_both(api: Asked) -> None:
    document = (await api.get("/v1/agent/version")).json
    assert isinstance(document, dict) and document["HumanVersion"] and document["Callboard"]


async def test_metrics_are_there_in_prometheus_format() -> None:
    async with api_site(metrics=lambda: b"up 1\n") as site, connect(site.port) as client:
        answer = await client.request("GET", "/v1/agent/metrics?format=prometheus")
        assert (answer.status, answer.body) == (200, b"up 1\n")
        assert (await client.request("GET", "/v1/agent/metrics")).status == 501


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("PUT", "/v1/session/create", 501),
        ("PUT", "/v1/txn", 501),
        ("PUT", "/v1/event/fire/x", 501),
        ("GET", "/v1/query", 501),
        ("GET", "/v1/query/x/execute", 501),
        ("GET", "/v1/coordinate/nodes", 501),
        ("GET", "/v1/operator/raft/configuration", 501),
        ("GET", "/v1/snapshot", 501),
        ("GET", "/v1/acl/tokens", 501),
        ("PUT", "/v1/agent/maintenance?enable=true", 501),
        ("GET", "/v1/agent/health/service/name/web", 501),
        ("GET", "/v1/agent/monitor", 501),
        ("GET", "/v1/agent/metrics/stream", 501),
        ("GET", "/v1/connect/ca/roots", 404),
        ("GET", "/v1/peerings", 404),
        ("GET", "/v1/imported-services", 404),
    ],
)
async def test_what_is_not_there_yet_says_so(
    api: Asked, method: str, target: str, status: int
) -> None:
    answer = await api.client.request(method, target, b"{}" if method == "PUT" else None)
    assert answer.status == status and len(answer.text) > 10
