"""Clients and verbs against a real agent: what the fakes elsewhere promise is kept."""

from __future__ import annotations

import asyncio
import json
import threading

import pytest
from tests.harness.eventually import eventually, eventually_sync

from callboard.chassis.command import main
from callboard.client import AsyncClient, Client
from callboard.testing.inprocess import Catalog


def run(catalog: Catalog, capfd: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(words, {"CALLBOARD_HTTP_ADDR": catalog.url})
    captured = capfd.readouterr()
    return code, captured.out, captured.err


def test_a_service_is_registered_resolved_and_forgotten(catalog: Catalog) -> None:
    with Client(catalog.url) as client:
        with client.registered("web", port=80, tags=["rails"], meta={"v": "1"}):
            (web,) = eventually_sync(lambda: client.resolve("web", tag="rails"))
            assert (web.address, web.port, web.tags, web.status) == (
                *("127.0.0.1", 80, ("rails",), "passing"),
            )
        eventually_sync(lambda: "web" not in client.services())


def test_a_ttl_that_runs_out_takes_an_instance_away(catalog: Catalog) -> None:
    with Client(catalog.url) as client:
        client.register("web", port=80, ttl_s=10)
        client.report("service:web")
        eventually_sync(lambda: client.resolve("web"))
        catalog.clock.advance(11)
        eventually_sync(lambda: not client.resolve("web"))
        (web,) = client.resolve("web", passing=False)
        assert web.status == "critical"


def test_keys_are_kept(catalog: Catalog) -> None:
    with Client(catalog.url) as client:
        assert client.get("a/b") is None
        assert client.put("a/b", b"\x00\xff", flags=7)
        pair = client.get("a/b")
        assert pair is not None
        assert (pair.value, pair.flags) == (b"\x00\xff", 7)
        assert not client.put("a/b", b"x", cas=pair.modify_index + 1)
        assert client.put("a/b", b"x", cas=pair.modify_index)
        assert client.keys("a/") == ["a/b"]
        assert [kept.key for kept in client.list("a/")] == ["a/b"]
        assert client.delete("a/", recurse=True)
        assert client.keys() == []


def test_a_blocking_watch_sees_a_change_at_once(catalog: Catalog) -> None:
    seen: list[int] = []
    with Client(catalog.url) as client:
        watch = Client(catalog.url).watch("web", wait_s=10)

        def look() -> None:
            for _ in range(2):
                seen.append(len(next(watch)))
            watch.close()  # type: ignore[attr-defined]  # it is a generator

        thread = threading.Thread(target=look)
        thread.start()
        eventually_sync(lambda: seen == [0])
        client.register("web", port=80)
        thread.join(5)
        assert seen == [0, 1]


async def test_an_async_watch_sees_each_change(catalog: Catalog) -> None:
    async with AsyncClient(catalog.url) as client:
        seen: list[bytes | None] = []

        async def look() -> None:
            async for pair in client.watch_key("a", wait_s=10):
                seen.append(pair.value if pair is not None else None)

        task = asyncio.get_running_loop().create_task(look())
        await eventually(lambda: seen == [None])
        await client.put("a", b"1")
        await eventually(lambda: seen == [None, b"1"])
        await client.delete("a")
        await eventually(lambda: seen == [None, b"1", None])
        task.cancel()
        await asyncio.wait([task])


async def test_an_async_registration_is_passing(catalog: Catalog) -> None:
    async with AsyncClient(catalog.url) as client, client.registered("hub", port=8800):
        async for instances in client.watch("hub", wait_s=5):
            if instances:
                break
        (hub,) = instances
        assert (hub.port, hub.status) == (8800, "passing")


def test_members_and_catalog_are_listed(
    catalog: Catalog, capfd: pytest.CaptureFixture[str]
) -> None:
    _, members, _ = run(catalog, capfd, "members")
    assert members.splitlines()[1].split()[2:4] == ["alive", "server"]
    node = members.splitlines()[1].split()[0]
    _, nodes, _ = run(catalog, capfd, "catalog", "nodes")
    assert nodes.splitlines()[1].split()[0] == node
    assert run(catalog, capfd, "catalog", "datacenters")[1] == "dc1\n"


def test_services_come_and_go_by_the_command_line(
    catalog: Catalog, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(catalog, capfd, "services", "register", "-name=web", "-tag=rails")[0] == 0
    eventually_sync(
        lambda: "web     rails\n" in run(catalog, capfd, "catalog", "services", "-tags")[1]
    )
    assert run(catalog, capfd, "services", "deregister", "-id=web")[0] == 0
    eventually_sync(lambda: "web" not in run(catalog, capfd, "catalog", "services")[1])


def test_keys_come_and_go_by_the_command_line(
    catalog: Catalog, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(catalog, capfd, "kv", "put", "a b/ü", "5")[0] == 0
    assert run(catalog, capfd, "kv", "get", "a b/ü")[1] == "5\n"
    assert run(catalog, capfd, "kv", "get", "-keys", "a")[1] == "a b/\n"
    assert json.loads(run(catalog, capfd, "kv", "export")[1])[0]["key"] == "a b/ü"
    assert run(catalog, capfd, "kv", "delete", "a b/ü")[0] == 0
    assert run(catalog, capfd, "kv", "get", "a b/ü") == (
        *(1, "", "Error! No key exists at: a b/ü\n"),
    )


def test_the_agent_says_what_it_is(catalog: Catalog, capfd: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(catalog, capfd, "info")
    assert code == 0
    assert "raft:\n" in out


def test_a_refused_registration_is_told(
    catalog: Catalog, capfd: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run(catalog, capfd, "services", "register", "-name=web", "-port=-1")
    assert code == 1
    assert err.startswith('Error registering service "web": Unexpected response code: ')
