"""Blocking queries (consul.md 2.3): the wake matrix over HTTP, waits, disconnects, restores."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest
from tests.harness.api import ApiSite, api_site
from tests.harness.eventually import eventually
from tests.harness.raw_http import RawAnswer, connect, request_bytes

from callboard.agent.http.blocking import effective_wait_s
from callboard.agent.settings import HttpSettings
from callboard.agent.state.store import StateStore
from callboard.raft.messages import Configuration, SnapshotMetadata

if TYPE_CHECKING:
    from tests.unit.agent.http.conftest import Asked

WAKES, SLEEPS = True, False
WEB = '{"Node":"n1","Address":"1.1.1.1","Service":{"Service":"web","Port":80}}'
WEB_81 = '{"Node":"n1","Address":"1.1.1.1","Service":{"Service":"web","Port":81}}'
DB = '{"Node":"n1","Address":"1.1.1.1","Service":{"Service":"db","Port":1}}'
CHECK = '{"Node":"n1","Address":"1.1.1.1","Check":{"Name":"disk","Status":"passing"}}'
WEB_CHECK = CHECK.replace('"Name"', '"ServiceID":"web","Name"')
NODE = '{"Node":"n2","Address":"1.1.1.2"}'
REGISTER, DEREGISTER = "/v1/catalog/register", "/v1/catalog/deregister"

MATRIX = [
    # watch, event (method, target, body), wakes
    ("/v1/kv/a", ("PUT", "/v1/kv/a", "new"), WAKES),
    ("/v1/kv/a", ("PUT", "/v1/kv/a", "old"), SLEEPS),
    ("/v1/kv/a", ("PUT", "/v1/kv/ab", "x"), SLEEPS),
    ("/v1/kv/a", ("DELETE", "/v1/kv/a", ""), WAKES),
    ("/v1/kv/missing", ("PUT", "/v1/kv/other", "x"), SLEEPS),
    ("/v1/kv/missing", ("PUT", "/v1/kv/missing", "x"), WAKES),
    ("/v1/kv/dir/?recurse", ("PUT", "/v1/kv/dir/x", "x"), WAKES),
    ("/v1/kv/dir/?recurse", ("DELETE", "/v1/kv/dir/1", ""), WAKES),
    ("/v1/kv/dir/?recurse", ("PUT", "/v1/kv/other/x", "x"), SLEEPS),
    ("/v1/kv/dir/?keys", ("PUT", "/v1/kv/dir/1", "changed"), WAKES),
    ("/v1/health/service/web", ("PUT", REGISTER, WEB), SLEEPS),
    ("/v1/health/service/web", ("PUT", REGISTER, WEB_81), WAKES),
    ("/v1/health/service/web", ("PUT", REGISTER, DB), SLEEPS),
    ("/v1/health/service/web", ("PUT", "/v1/kv/a", "new"), SLEEPS),
    ("/v1/health/service/missing", ("PUT", REGISTER, WEB_81), SLEEPS),
    ("/v1/health/service/missing", ("PUT", REGISTER, WEB_81.replace("web", "missing")), WAKES),
    ("/v1/health/service/web", ("PUT", DEREGISTER, '{"Node":"n1","ServiceID":"web"}'), WAKES),
    ("/v1/health/service/web", ("PUT", REGISTER, CHECK), WAKES),
    ("/v1/catalog/service/web", ("PUT", REGISTER, WEB_81), WAKES),
    ("/v1/catalog/services", ("PUT", "/v1/kv/a", "new"), SLEEPS),
    ("/v1/catalog/services", ("PUT", REGISTER, WEB_81), SLEEPS),
    ("/v1/catalog/services", ("PUT", REGISTER, DB), WAKES),
    ("/v1/catalog/nodes", ("PUT", REGISTER, WEB_81), SLEEPS),
    ("/v1/catalog/nodes", ("PUT", REGISTER, NODE), WAKES),
    ("/v1/catalog/node/n1", ("PUT", REGISTER, WEB_81), WAKES),
    ("/v1/catalog/node/n1", ("PUT", REGISTER, NODE), SLEEPS),
    ("/v1/health/node/n1", ("PUT", REGISTER, CHECK), WAKES),
    ("/v1/health/state/any", ("PUT", REGISTER, CHECK), WAKES),
    ("/v1/health/checks/web", ("PUT", REGISTER, CHECK), SLEEPS),
    ("/v1/health/checks/web", ("PUT", REGISTER, WEB_CHECK), WAKES),
    ("/v1/catalog/service/web", ("PUT", REGISTER, WEB_CHECK), SLEEPS),
    ("/v1/catalog/service/web", ("PUT", REGISTER, CHECK), SLEEPS),
    ("/v1/catalog/service/missing", ("PUT", REGISTER, WEB_81), SLEEPS),
    ("/v1/catalog/node/n1", ("PUT", REGISTER, CHECK), SLEEPS),
    ("/v1/catalog/node/n1", ("PUT", DEREGISTER, '{"Node":"n1"}'), WAKES),
    ("/v1/catalog/node-services/n1", ("PUT", REGISTER, WEB_81), WAKES),
    ("/v1/health/node/n1", ("PUT", REGISTER, WEB_81), SLEEPS),
    ("/v1/health/node/n3", ("PUT", REGISTER, CHECK.replace("n1", "n3")), WAKES),
    ("/v1/health/state/any", ("PUT", REGISTER, WEB_81), SLEEPS),
    ("/v1/health/state/passing", ("PUT", REGISTER, CHECK), WAKES),
    ("/v1/health/state/critical", ("PUT", REGISTER, CHECK), SLEEPS),
]


async def block(site: ApiSite, target: str, wait: str) -> tuple[RawAnswer, RawAnswer]:
    """Read, then block on the index read; the caller runs this as a task."""
    async with connect(site.port) as client:
        before = await client.request("GET", target)
        separator = "&" if "?" in target else "?"
        index = before.header("X-Consul-Index")
        after = await client.request("GET", f"{target}{separator}index={index}&wait={wait}")
        return before, after


@pytest.mark.parametrize(
    ("watch", "event", "wakes"),
    MATRIX,
    ids=[f"{w} {e[1]} {n}" for n, (w, e, _) in enumerate(MATRIX)],
)
async def test_wake_matrix(
    fast: Asked, watch: str, event: tuple[str, str, str], wakes: bool
) -> None:
    for target, body in (("/v1/kv/a", "old"), ("/v1/kv/dir/1", "x"), (REGISTER, WEB)):
        assert (await fast.put(target, body)).status == 200
    query = asyncio.ensure_future(block(fast.site, watch, "10s" if wakes else "150ms"))
    await eventually(lambda: fast.site.store.waiting() == 1)
    method, target, body = event
    changed = await fast.client.request(method, target, body.encode() or None)
    assert changed.status == 200
    before, after = await asyncio.wait_for(query, 5.0)
    old, new = before.header("X-Consul-Index"), after.header("X-Consul-Index")
    assert (int(new or 0) > int(old or 0)) is wakes
    assert wakes or (after.body, after.status) == (before.body, before.status)
    assert fast.site.store.waiting() == 0


@pytest.mark.parametrize("mode", ["", "&stale", "&consistent"])
async def test_query_blocks_in_every_consistency_mode(api: Asked, mode: str) -> None:
    await api.put("/v1/kv/a", "1")
    async with connect(api.site.port) as client:
        await client.send(request_bytes("GET", f"/v1/kv/a?index=1&wait=10s{mode}"))
        await eventually(lambda: api.site.store.waiting() == 1)
        await api.put("/v1/kv/a", "2")
        assert (await client.answer()).header("X-Consul-Index") == "2"


async def test_index_below_ours_answers_at_once(api: Asked) -> None:
    await api.put("/v1/kv/a", "1")
    await api.put("/v1/kv/a", "2")
    assert (await api.get("/v1/kv/a?index=1&wait=10m")).header("X-Consul-Index") == "2"


async def test_index_0_does_not_block(api: Asked) -> None:
    await api.put("/v1/kv/a", "1")
    assert (await api.get("/v1/kv/a?index=0&wait=10m")).status == 200


async def test_wait_that_is_over_answers_200_with_the_whole_body(api: Asked) -> None:
    await api.put("/v1/kv/a", "1")
    plain = await api.get("/v1/kv/a")
    begun = time.monotonic()
    answer = await api.get("/v1/kv/a?index=1&wait=100ms")
    assert 0.1 <= time.monotonic() - begun < 2.0
    assert (answer.status, answer.body) == (200, plain.body)
    assert answer.header("X-Consul-Index") == "1"


async def test_index_above_ours_waits_and_gets_our_index(api: Asked) -> None:
    await api.put("/v1/kv/a", "1")
    begun = time.monotonic()
    answer = await api.get("/v1/kv/a?index=1000&wait=100ms")
    assert time.monotonic() - begun >= 0.1
    assert (answer.status, answer.header("X-Consul-Index")) == (200, "1")


async def test_index_above_ours_is_not_woken_by_a_lower_one(api: Asked) -> None:
    await api.put("/v1/kv/a", "1")
    async with connect(api.site.port) as client:
        await client.send(request_bytes("GET", "/v1/kv/a?index=3&wait=10s"))
        await eventually(lambda: api.site.store.waiting() == 1)
        for value in "234":
            await api.put("/v1/kv/a", value)
        assert (await client.answer()).header("X-Consul-Index") == "4"


async def test_missing_key_can_block(api: Asked) -> None:
    async with connect(api.site.port) as client:
        await client.send(request_bytes("GET", "/v1/kv/new?index=1&wait=10s"))
        await eventually(lambda: api.site.store.waiting() == 1)
        await api.put("/v1/kv/x", "1")
        await api.put("/v1/kv/new", "2")
        answer = await client.answer()
    assert answer.status == 200 and answer.header("X-Consul-Index") == "2"


async def test_abandoned_query_is_freed_within_a_second(api: Asked) -> None:
    await api.put("/v1/kv/a", "1")
    async with connect(api.site.port) as client:
        await client.send(request_bytes("GET", "/v1/kv/a?index=1&wait=10m"))
        await eventually(lambda: api.site.store.waiting() == 1)
    await eventually(lambda: api.site.store.waiting() == 0, timeout_s=1.0)
    await eventually(lambda: len(api.site.context.wheel) <= 1)


async def test_snapshot_restore_wakes_everybody_and_the_index_may_fall(api: Asked) -> None:
    other = StateStore("dc1", epoch="test")
    for value in "123":
        await api.put("/v1/kv/a", value)
    async with connect(api.site.port) as client:
        await client.send(request_bytes("GET", "/v1/kv/a?index=3&wait=10m"))
        await eventually(lambda: api.site.store.waiting() == 1)
        other.advance(1)
        metadata = SnapshotMetadata(1, 1, Configuration(()))
        api.site.store.restore(metadata, other.snapshot())
        for waiter in api.site.store.drain_woken():
            waiter.wake()
        answer = await client.answer()
    assert answer.status == 404 and answer.header("X-Consul-Index") == "1"


async def test_many_queries_of_one_service_are_all_woken_once(fast: Asked) -> None:
    await fast.put(REGISTER, WEB)
    index = (await fast.get("/v1/health/service/web")).header("X-Consul-Index")
    raw = request_bytes("GET", f"/v1/health/service/web?index={index}&wait=10m")
    opened = [await asyncio.open_connection("127.0.0.1", fast.site.port) for _ in range(200)]
    for _, writer in opened:
        writer.write(raw)
    await eventually(lambda: fast.site.store.waiting() == 200)
    await fast.put(REGISTER, WEB_81)
    for reader, writer in opened:
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5.0)
        assert head.startswith(b"HTTP/1.1 200 ")
        writer.close()
        await writer.wait_closed()


async def test_wait_has_a_default_a_maximum_and_jitter() -> None:
    async with api_site() as site:
        context = site.context
        for asked_s, least_s in ((0.0, 300.0), (-5.0, 300.0), (10.0, 10.0), (3600.0, 600.0)):
            waits = {effective_wait_s(context, asked_s) for _ in range(50)}
            assert len(waits) > 10
            assert least_s <= min(waits) and max(waits) <= least_s * 17 / 16


async def test_wait_is_limited_by_the_settings() -> None:
    settings = HttpSettings(default_query_time_s=0.05, max_query_time_s=0.1)
    async with api_site(http=settings) as site, connect(site.port) as client:
        for query in ("index=1", "index=1&wait=10m"):
            assert (await client.request("GET", f"/v1/kv/a?{query}", timeout_s=5.0)).status == 404
