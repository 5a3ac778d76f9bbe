"""What all endpoints share (consul.md 2.1)."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING

import pytest
from tests.harness.api import api_site
from tests.harness.raw_http import connect

from callboard.agent.http.frame import NOSNIFF
from callboard.agent.settings import HttpSettings
from callboard.catalog.authorizer import DENY_ALL
from callboard.pki.roles import Peer
from callboard.serve import Answer, Request

if TYPE_CHECKING:
    from tests.unit.agent.http.conftest import Asked


async def test_root_says_consul_agent(api: Asked) -> None:
    answer = await api.get("/")
    assert (answer.status, answer.body) == (200, b"Consul Agent")
    assert answer.header("Content-Type") == "text/plain; charset=utf-8"


async def test_root_answers_a_proxys_question_whether_we_are_there(api: Asked) -> None:
    answer = await api.client.request("HEAD", "/")
    assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize("own", [[], [NOSNIFF]])
async def test_nosniff_is_said_once_by_mutual_tls_and_not_in_the_clear(
    own: list[tuple[str, str]],
) -> None:
    async with api_site() as site:
        route = site.api.routes.find("GET", "/")
        assert route is not None and route.finish is not None
        for peer, times in ((Peer(frozenset({"hub"}), ""), 1), (None, len(own))):
            request = Request("GET", "/", b"/", {}, {}, b"", ("127.0.0.1", 1), peer)
            answer = route.finish(request, Answer(200, b"", own))
            assert isinstance(answer, Answer)
            assert [name for name, _ in answer.headers].count(NOSNIFF[0]) == times


@pytest.mark.parametrize("target", ["/nowhere", "/v1/nowhere", "/v1", "/ui/", "/v1/catalog"])
async def test_unknown_path_is_404_without_a_body(api: Asked, target: str) -> None:
    for method in ("GET", "PUT"):
        answer = await api.client.request(method, target)
        assert (answer.status, answer.body) == (404, b"")


async def test_other_method_is_405_and_names_the_allowed_ones(api: Asked) -> None:
    answer = await api.client.request("POST", "/v1/catalog/nodes")
    assert answer.status == 405 and answer.text == "method POST not allowed"
    assert answer.header("Allow") == "OPTIONS,GET"
    assert answer.header("Content-Type") == "text/plain; charset=utf-8"


async def test_head_is_not_allowed_as_in_consul(api: Asked) -> None:
    answer = await api.client.request("HEAD", "/v1/catalog/nodes")
    assert answer.status == 405


async def test_options_lists_the_methods(api: Asked) -> None:
    answer = await api.client.request("OPTIONS", "/v1/kv/a")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.header("Allow") == "OPTIONS,GET,PUT,DELETE"


async def test_path_without_its_slash_is_redirected(api: Asked) -> None:
    answer = await api.get("/v1/kv?keys")
    assert answer.status == 301 and answer.header("Location") == "/v1/kv/?keys="


async def test_header_names_are_written_as_go_writes_them(api: Asked) -> None:
    names = {name for name, _ in (await api.get("/v1/catalog/nodes")).headers}
    assert {
        "X-Consul-Index",
        "X-Consul-Knownleader",
        "X-Consul-Lastcontact",
        "X-Consul-Effective-Consistency",
        "Content-Type",
        "Content-Length",
        "Vary",
        "Date",
    } <= names


async def test_json_is_compact_unless_pretty_is_asked(api: Asked) -> None:
    assert (await api.get("/v1/catalog/datacenters")).body == b'["dc1"]'
    assert (await api.get("/v1/catalog/datacenters?pretty")).body == b'[\n    "dc1"\n]\n'


async def test_development_mode_is_pretty_without_the_newline() -> None:
    async with api_site(http=HttpSettings(pretty=True)) as site, connect(site.port) as client:
        assert (await client.request("GET", "/v1/catalog/datacenters")).body == b'[\n    "dc1"\n]'


@pytest.mark.parametrize("accepted", ["gzip", "br, GZIP", "deflate, gzip;q=0.5", "*;q=0, gzip"])
async def test_body_is_gzipped_for_who_accepts_it(api: Asked, accepted: str) -> None:
    answer = await api.get("/v1/status/leader", {"Accept-Encoding": accepted})
    assert answer.header("Content-Encoding") == "gzip"
    assert gzip.decompress(answer.body) == b'"127.0.0.1:8300"'
    assert answer.header("Vary") == "Accept-Encoding"


async def test_vary_is_always_there(api: Asked) -> None:
    for target in ("/", "/nowhere", "/v1/kv/none", "/v1/catalog/nodes"):
        assert (await api.get(target)).header("Vary") == "Accept-Encoding"


@pytest.mark.parametrize(
    "accepted", ["gzip;q=0", "gzip;q=0.0", "gzip;q=x", "br", "identity", "*", "x-gzip"]
)
async def test_body_is_plain_for_who_does_not_accept_gzip(api: Asked, accepted: str) -> None:
    answer = await api.get("/v1/status/leader", {"Accept-Encoding": accepted})
    assert answer.header("Content-Encoding") is None and answer.body == b'"127.0.0.1:8300"'


async def test_long_body_is_gzipped_too(api: Asked) -> None:
    value = bytes(range(256)) * 1500
    await api.put("/v1/kv/long", value)
    answer = await api.get("/v1/kv/long?raw", {"Accept-Encoding": "gzip"})
    assert gzip.decompress(answer.body) == value


async def test_agent_writes_answer_nothing_and_no_content_type(api: Asked) -> None:
    answer = await api.put("/v1/agent/service/register", '{"Name":"web"}')
    assert (answer.status, answer.body) == (200, b"")
    assert answer.header("Content-Type") is None


async def test_unprintable_path_is_400(api: Asked) -> None:
    assert (await api.get("/v1/kv/a%00b")).status == 400
    assert (await api.get("/v1/kv/a%0ab")).status == 400


async def test_unprintable_path_is_served_when_the_filter_is_off() -> None:
    settings = HttpSettings(unprintable_filter=False)
    async with api_site(http=settings) as site, connect(site.port) as client:
        assert (await client.request("GET", "/v1/kv/a%07b")).status == 404


async def test_blocked_endpoint_is_403() -> None:
    settings = HttpSettings(block_endpoints=("/v1/agent/force-leave",))
    async with api_site(http=settings) as site, connect(site.port) as client:
        answer = await client.request("PUT", "/v1/agent/force-leave/x")
    assert answer.status == 403 and answer.text == "Endpoint is blocked by agent configuration"


async def test_configured_response_headers_are_on_every_answer() -> None:
    settings = HttpSettings(response_headers={"Access-Control-Allow-Origin": "*"})
    async with api_site(http=settings) as site, connect(site.port) as client:
        for target in ("/", "/nowhere", "/v1/kv/x"):
            answer = await client.request("GET", target)
            assert answer.header("Access-Control-Allow-Origin") == "*"


@pytest.mark.parametrize(
    "target",
    [
        "/v1/catalog/node/a",
        "/v1/kv/a",
        "/v1/kv/a?recurse",
        "/v1/agent/self",
        "/v1/agent/metrics?format=prometheus",
        "/v1/internal/feed",
    ],
)
async def test_without_rights_single_reads_show_nothing(target: str) -> None:
    async with api_site(authorize=lambda request: DENY_ALL) as site, connect(site.port) as client:
        await client.request("PUT", "/v1/kv/a", b"x")
        answer = await client.request("GET", target)
    assert answer.status == 403 or answer.body == b"null"


async def test_without_rights_every_list_is_empty_and_every_write_refused(fast: Asked) -> None:
    await fast.put("/v1/agent/service/register", '{"Name":"web","Check":{"TTL":"1m"}}')
    resources = fast.site.api.resources
    denied = api_site(authorize=lambda request: DENY_ALL, store=fast.site.store)
    async with denied as site, connect(site.port) as client:
        for resource in resources:
            if resource.tags in ((), ("docs",), ("status",)):
                continue
            rest = {"state": "any", "node": "agent-1"}.get(resource.rest, "web")
            target = resource.pattern + (rest if resource.rest else "")
            for method in resource.methods:
                answer = await client.request(method, target, b"{}" if method == "PUT" else None)
                refused = answer.status in (400, 403, 404, 500, 501)
                assert refused or json.loads(answer.body) in _HARMLESS, (method, target)


_HARMLESS: tuple[object, ...] = ([], {}, None, ["dc1"], {"Node": None, "Services": None})
