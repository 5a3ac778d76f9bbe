"""The mount of the feed, and the documentation."""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.harness.api import ApiSite, api_site
from tests.harness.eventually import eventually
from tests.harness.raw_http import connect, request_bytes

from callboard.agent.http.application import build_api, build_app
from callboard.agent.http.frame import Call
from callboard.catalog.authorizer import ALLOW_ALL
from callboard.pki.roles import NOBODY, Peer
from callboard.serve import Request, StreamConnection, Streamed

if TYPE_CHECKING:
    from tests.unit.agent.http.conftest import Asked


class Frames:
    """A stream of two frames that then waits."""

    def __init__(self) -> None:
        self.cancelled = False

    def start(self, connection: StreamConnection) -> None:
        connection.write(b"snapshot")
        connection.write(b"delta")

    def cancel(self) -> None:
        self.cancelled = True


async def test_feed_is_streamed_until_its_reader_goes() -> None:
    made: list[Frames] = []

    def feed(request: Request) -> Frames:
        assert request.query == {"epoch": ["e"], "index": ["5"]}
        made.append(Frames())
        return made[-1]

    async with api_site(feed=feed) as site:
        async with connect(site.port) as client:
            await client.send(request_bytes("GET", "/v1/internal/feed?epoch=e&index=5"))
            head = await client.reader.readuntil(b"\r\n\r\n")
            assert b"application/vnd.callboard.feed" in head
            assert [await client.chunk(), await client.chunk()] == [b"snapshot", b"delta"]
        await eventually(lambda: made[0].cancelled, timeout_s=1.0)


def ask_feed(site: ApiSite, client: str, peer: Peer | None = None) -> object:
    """What the feed endpoint gives to a client at this address."""
    resource = next(r for r in site.api.resources if r.pattern == "/v1/internal/feed")
    request = Request("GET", resource.pattern, b"", {}, {}, b"", (client, 1), peer)
    try:
        return resource.methods["GET"](Call(request, "", ALLOW_ALL))
    except Exception as refused:
        return refused


def peer(role: str) -> Peer:
    return Peer(frozenset({role}), "")


async def test_feed_is_for_loopback_readers_by_role_and_allowed_plain() -> None:
    async with api_site(feed=lambda request: Frames()) as site:
        assert isinstance(ask_feed(site, "127.0.0.2"), Streamed)
        assert isinstance(ask_feed(site, "::1"), Streamed)
        assert isinstance(ask_feed(site, "10.0.0.1", peer("hub")), Streamed)
        for stranger in (NOBODY, peer("issuer")):
            assert "for programs of the farm" in str(ask_feed(site, "127.0.0.1", stranger))
        assert "for programs of the farm" in str(ask_feed(site, "10.0.0.1"))
    async with api_site(feed=lambda request: Frames(), allow_plain=True) as site:
        assert isinstance(ask_feed(site, "10.0.0.1"), Streamed)


async def test_agent_without_a_feed_says_so(api: Asked) -> None:
    assert (await api.get("/v1/internal/feed")).status == 501


async def test_description_names_every_endpoint(api: Asked) -> None:
    document = (await api.get("/openapi.json")).json
    assert isinstance(document, dict)
    paths = document["paths"]
    assert {"/v1/kv/{key}", "/v1/health/service/{service}", "/v1/agent/self"} <= set(paths)
    assert set(paths["/v1/kv/{key}"]) == {"get", "put", "delete"}
    assert "/v1/session/{rest}" not in paths


async def test_documentation_is_a_page_that_loads_nothing_else(api: Asked) -> None:
    answer = await api.get("/docs")
    assert answer.status == 200
    assert answer.header("Content-Type") == "text/html; charset=utf-8"
    page = answer.body.decode()
    assert re.findall(r"(?:src|href|url)\W*=?\W*[\"'(]([^\"')]*)", page) == ["openapi.json"]
    assert "<script" not in page and "//" not in page


async def test_documentation_names_every_endpoint(api: Asked) -> None:
    document, page = (await api.get("/openapi.json")).json, (await api.get("/docs")).text
    assert isinstance(document, dict)
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert f"<code>{method.upper()} {path}</code>" in page
            assert html.escape(operation["summary"]) in page


async def test_application_can_be_built_at_once(fast: Asked) -> None:
    app = build_app(fast.site.context)
    assert app.title == "Callboard"


async def test_every_resource_says_what_it_is_and_takes_only_bytes(fast: Asked) -> None:
    for resource in build_api(fast.site.context).resources:
        assert resource.summary and resource.pattern.startswith("/")
        assert all(
            endpoint.__doc__ or resource.pattern == "/" for endpoint in resource.methods.values()
        )


def test_serving_does_not_import_a_framework() -> None:
    code = (
        "import sys, callboard.agent.http.application, callboard.serve;"
        "print(sorted(m for m in ('fastapi', 'starlette', 'pydantic') if m in sys.modules))"
    )
    environment = {"PATH": os.environ["PATH"]}
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert ran.stdout.strip() == "[]"
