"""What a person or a tool looks at: the page, figures, documentation, methods, CORS for all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.harness.mercure_hub import detail, local_hub, pattern

from callboard.hub.http.ports import Door

HTML = {"Accept": "text/html,application/xhtml+xml"}
OPEN = Door(open=True)


async def test_the_page_and_its_files_are_served(tmp_path: Path) -> None:
    async with local_hub(tmp_path) as local:
        hub = local.hub
        page = await hub.ask("GET", "/", headers=HTML)
        assert page.status == 200
        assert page.headers["Content-Type"] == "text/html; charset=utf-8"
        assert "default-src 'self'" in page.headers["Content-Security-Policy"]
        for name, kind in (("page.js", "text/javascript"), ("page.css", "text/css")):
            assert name in page.text
            file = await hub.ask("GET", f"/{name}")
            assert file.headers["Content-Type"].partition(";")[0] == kind
            tag = {"If-None-Match": file.headers["ETag"]}
            assert (await hub.ask("GET", f"/{name}", headers=tag)).status == 304


async def test_a_tool_gets_a_line_where_a_browser_gets_the_page(tmp_path: Path) -> None:
    async with local_hub(tmp_path) as local:
        answer = await local.hub.ask("GET", "/", headers={"Accept": "*/*"})
        assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert "/t/" in answer.text
        assert (await local.hub.ask("HEAD", "/")).status == 200


async def test_figures_are_json_and_topics_are_not_for_everybody(tmp_path: Path) -> None:
    async with local_hub(tmp_path, door=OPEN) as local:
        hub = local.hub
        for topic in ("/a", "/b", "/a"):
            await hub.publish(("topic", topic))
        async with hub.stream(("match", "/a")):
            told = json.loads((await hub.ask("GET", "/stats")).body)
        assert told["subscribers"] == 1
        first, *rest = told["topics"]
        assert first == {"topic": "/a", "published": 2}
        assert {"topic": "/b", "published": 1} in rest
        assert "topics" not in json.loads(
            (await hub.ask("GET", "/stats", headers={"X-Forwarded-For": "192.0.2.1"})).body
        )
        for granted, seen in (("*", True), ("/a", False), (pattern("/.well-known/*"), False)):
            token = hub.access_token(detail(["subscribe"], granted))
            answer = await hub.ask("GET", "/stats", token=token)
            assert ("topics" in json.loads(answer.body)) is seen
        assert (await hub.ask("GET", "/stats", token="garbage")).status == 401
        empty = await hub.ask("GET", "/stats", query=[("top", "0")])
        assert json.loads(empty.body)["topics"] == []


async def test_figures_are_told_by_a_hub_that_wants_tokens_of_readers(tmp_path: Path) -> None:
    async with local_hub(tmp_path, anonymous=False) as local:
        assert (await local.hub.ask("GET", "/stats")).status == 200


async def test_the_api_is_documented(tmp_path: Path) -> None:
    async with local_hub(tmp_path) as local:
        schema = json.loads((await local.hub.ask("GET", "/openapi.json")).body)
        assert {"get", "post", "delete"} <= set(schema["paths"]["/t/{topic}"])
        assert schema["paths"]["/.well-known/mercure"]["post"]["description"]
        page = await local.hub.ask("GET", "/docs")
        assert "/t/{topic}" in page.text
        assert "<script" not in page.text


PATHS = [
    "/.well-known/mercure",
    "/t/a",
    "/.well-known/mercure/subscriptions",
    "/.well-known/mercure/subscriptions/exact/%2Fa",
    "/.well-known/oauth-protected-resource/.well-known/mercure",
    "/hooks/ci",
    "/stats",
    "/",
]


@pytest.mark.parametrize("path", PATHS)
async def test_every_path_tells_its_methods(tmp_path: Path, path: str) -> None:
    async with local_hub(tmp_path) as local:
        hub = local.hub
        options = await hub.ask("OPTIONS", path)
        assert options.status == 204
        refused = await hub.ask("PATCH", path)
        assert refused.status == 405
        assert refused.headers["Allow"] == options.headers["Allow"]
        assert "OPTIONS" in refused.headers["Allow"]


@pytest.mark.parametrize("path", ["/nowhere", "/t", "/.well-known/mercurex", "/a\u2028b"])
async def test_there_is_nothing_elsewhere(tmp_path: Path, path: str) -> None:
    async with local_hub(tmp_path) as local:
        assert (await local.hub.ask("GET", path)).status == 404
