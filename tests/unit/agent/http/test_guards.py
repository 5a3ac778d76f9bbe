"""DNS rebinding, foreign pages, and who may write."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.harness.api import api_site
from tests.harness.raw_http import connect

from callboard.agent.settings import HttpSettings
from callboard.chassis.guards import HostGuard, OriginGuard, WriteGuard, host_name
from callboard.chassis.listeners import is_loopback

if TYPE_CHECKING:
    from tests.unit.agent.http.conftest import Asked


def guard() -> HostGuard:
    """The guard of agent-1, which knows agent-2 as a node."""
    return HostGuard(
        names=("agent-1", "Public.Example", ""),
        domains=("consul.", ""),
        is_node=lambda name: name == "agent-2",
    )


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1:8500",
        "[::1]:8500",
        "[fe80::1%eth0]",
        "10.1.2.3:1",
        "localhost",
        "LOCALHOST:8500",
        "x.localhost",
        "agent-1:8500",
        "agent-2",
        "public.example",
        "PUBLIC.example.:443",
        "agent-1.node.consul",
        "consul.service.dc1.consul:8500",
    ],
)
def test_names_of_the_agent_are_known(host: str) -> None:
    known = guard()
    assert known.allows(host) and known.allows(host)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8500",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "consul",
        "evilconsul",
        "agent-3",
        "",
        ":8500",
        "[::1",
        "a:b:c",
        "agent-1:8500x",
        "2130706433",
    ],
)
def test_other_names_are_not(host: str) -> None:
    assert not guard().allows(host)


@given(st.text(max_size=30))
def test_any_host_text_is_judged(host: str) -> None:
    guard().allows(host)
    host_name(host)
    OriginGuard(()).allows(host, host)
    is_loopback(host)


@pytest.mark.parametrize(
    ("origin", "host", "allowed"),
    [
        ("http://localhost:3000", "localhost:8500", True),
        ("https://agent-1", "agent-1:8500", True),
        ("http://[::1]:1", "[::1]:8500", True),
        ("http://evil.example", "localhost:8500", False),
        ("null", "localhost:8500", False),
        ("http://localhost.evil.example", "localhost:8500", False),
        ("https://ui.example", "localhost:8500", True),
        ("http://ui.example", "localhost:8500", False),
    ],
)
def test_only_pages_of_the_same_host_or_allowed_ones_write(
    origin: str, host: str, allowed: bool
) -> None:
    assert OriginGuard(("https://ui.example/",)).allows(origin, host) is allowed


@pytest.mark.parametrize(
    ("client", "allowed"),
    [("127.0.0.1", True), ("10.0.0.1", False), ("::ffff:127.0.0.9", True), ("", False)],
)
def test_only_given_networks_write(client: str, allowed: bool) -> None:
    assert WriteGuard(("127.0.0.0/8",)).allows(client) is allowed
    assert WriteGuard(()).allows(client)


def test_wrong_network_is_told_at_start() -> None:
    with pytest.raises(ValueError, match="nonsense"):
        WriteGuard(("nonsense",))


async def test_unknown_host_is_403_everywhere(api: Asked) -> None:
    for target in ("/", "/nowhere", "/v1/catalog/nodes", "/v1/kv", "/docs", "/openapi.json"):
        answer = await api.get(target, {"Host": "evil.example"})
        assert answer.status == 403 and "evil.example" in answer.text


async def test_write_from_a_foreign_page_is_403_and_changes_nothing(api: Asked) -> None:
    answer = await api.put("/v1/kv/a", "x", {"Origin": "http://evil.example"})
    assert answer.status == 403
    assert (await api.get("/v1/kv/a")).status == 404
    assert (await api.put("/v1/kv/a", "x", {"Origin": "http://localhost:3000"})).status == 200


async def test_foreign_page_may_read(api: Asked) -> None:
    assert (await api.get("/v1/catalog/nodes", {"Origin": "http://evil.example"})).status == 200


async def test_client_outside_the_networks_that_write_is_403() -> None:
    settings = HttpSettings(allow_write_http_from=("10.0.0.0/8",))
    async with api_site(http=settings) as site, connect(site.port) as client:
        answer = await client.request("PUT", "/v1/kv/a", b"x")
        assert (answer.status, answer.text) == (403, "Access is restricted")
        assert (await client.request("GET", "/v1/catalog/nodes")).status == 200


async def test_allowed_hosts_and_members_are_known() -> None:
    settings = HttpSettings(allowed_hosts=("catalog.example",))
    async with api_site(http=settings) as site, connect(site.port) as client:
        for host in ("catalog.example", "agent-1:8500", "web.service.consul"):
            answer = await client.request("GET", "/v1/catalog/nodes", None, {"Host": host})
            assert answer.status == 200
