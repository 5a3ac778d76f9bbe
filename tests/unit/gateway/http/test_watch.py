"""/watch/NAME and what it loads: one document for all streams, with a policy about frames."""

from __future__ import annotations

import pytest
from tests.unit.gateway.http.stand import standing

from callboard.gateway.http.ancestors import ancestors_of
from callboard.gateway.http.watch import LIVE, LOADED, PAGE

NAMES = ["test-pattern", "no-such", "%3Cscript%3Ealert(1)%3Cscript%3E", "a%22onload=%22x", "%"]


async def test_the_document_is_the_same_whatever_the_name_is() -> None:
    async with standing() as stand:
        for name in NAMES:
            answer = await stand.ask("GET", f"/watch/{name}")
            assert answer.status == 200, name
            assert answer.body == (LIVE / PAGE).read_bytes()
            assert answer.headers["Content-Type"] == "text/html; charset=utf-8"


async def test_pages_of_other_sites_may_frame_it_and_it_loads_its_own_files_alone() -> None:
    async with standing() as stand:
        policy = (await stand.ask("GET", "/watch/test")).headers["Content-Security-Policy"]
    directives = dict(each.split(None, 1) for each in policy.split("; "))
    assert directives["frame-ancestors"] == "*"
    assert directives["default-src"] == "'self'"
    assert directives["base-uri"] == directives["form-action"] == "'none'"


async def test_who_may_frame_it_can_be_narrowed() -> None:
    async with standing(frame_ancestors="'self' https://example.com") as stand:
        policy = (await stand.ask("GET", "/watch/test")).headers["Content-Security-Policy"]
        assert policy.endswith("; frame-ancestors 'self' https://example.com")


async def test_what_it_loads_is_the_file_servers_and_is_not_sent_twice() -> None:
    async with standing() as stand:
        for name in LOADED:
            answer = await stand.ask("GET", f"/live/{name}")
            assert answer.body == (LIVE / name).read_bytes()
            assert answer.headers["Cache-Control"] == "no-cache"
            tag = answer.headers["ETag"]
            again = await stand.ask("GET", f"/live/{name}", If_None_Match=f'"x", W/{tag}')
            assert (again.status, again.body) == (304, b"")
            assert again.headers["ETag"] == tag


@pytest.mark.parametrize("path", ["/watch/", "/watch", "/watch/a/b", "/live/index.html", "/live/"])
async def test_there_is_nothing_else(path: str) -> None:
    async with standing() as stand:
        assert (await stand.ask("GET", path)).status == 404


async def test_it_is_read_only() -> None:
    async with standing() as stand:
        assert (await stand.ask("POST", "/watch/test", "x")).status == 405
        assert (await stand.ask("HEAD", "/watch/test")).status == 200


@pytest.mark.parametrize(
    "value",
    ["*", "'none'", "'self'", "https:", "https://example.com:8443", "*.example.com", "[::1]:80"],
)
def test_what_csp_takes_is_taken(value: str) -> None:
    assert ancestors_of(f"  {value} ") == value


@pytest.mark.parametrize(
    "value", ["", "'none' *", "self;", "a; script-src *", "a,b", "javascript:x", "é.example", "'x'"]
)
def test_what_would_end_the_directive_or_mean_nothing_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="origins"):
        ancestors_of(value)
