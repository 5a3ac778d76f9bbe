"""Both clients do the same; each test runs with the blocking one and with the async one."""

from __future__ import annotations

import asyncio
import base64
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
from tests.harness.eventually import eventually, eventually_sync
from tests.harness.scripted_http import ScriptedHttp, refusing_address

from callboard.client import ApiError, AsyncClient, Client, ClientError, Instance, Unreachable
from callboard.client.watching import BACKOFF_MAX_S, WatchState

Do = Callable[..., Awaitable[Any]]
"""do("resolve", "web") calls that method of the client under test."""


@pytest.fixture
def agent() -> Iterator[ScriptedHttp]:
    with ScriptedHttp() as server:
        yield server


@pytest.fixture(params=["sync", "async"])
async def do(request: pytest.FixtureRequest, agent: ScriptedHttp) -> AsyncIterator[Do]:
    addresses = f"{refusing_address()},{agent.address}"
    if request.param == "async":
        async with AsyncClient(addresses, token="secret", timeout_s=5) as asking:

            async def call(name: str, *args: Any, **options: Any) -> Any:
                return await getattr(asking, name)(*args, **options)

            yield call
        return
    with Client(addresses, token="secret", timeout_s=5) as blocking:

        async def call_in_thread(name: str, *args: Any, **options: Any) -> Any:
            return await asyncio.to_thread(getattr(blocking, name), *args, **options)

        yield call_in_thread


ENTRY: dict[str, Any] = {
    "Node": {"Node": "agent-1", "Address": "10.0.0.1"},
    "Service": {"ID": "web-1", "Service": "web", "Tags": None, "Meta": {"v": "1"}, "Port": 80},
    "Checks": [{"Status": "passing"}, {"Status": "warning"}],
}


async def test_resolve_gives_instances(do: Do, agent: ScriptedHttp) -> None:
    agent.on("GET", "/v1/health/service/web?tag=rails&passing=", [ENTRY])
    assert await do("resolve", "web", tag="rails") == [
        Instance("web-1", "web", "agent-1", "10.0.0.1", 80, (), {"v": "1"}, "warning")
    ]


async def test_an_own_address_of_the_service_wins(do: Do, agent: ScriptedHttp) -> None:
    entry = {**ENTRY, "Service": {**ENTRY["Service"], "Address": "10.9.9.9"}}
    agent.on("GET", "/v1/health/service/web?stale=", [entry])
    (found,) = await do("resolve", "web", passing=False, stale=True)
    assert found.address == "10.9.9.9"


async def test_the_token_is_sent(do: Do, agent: ScriptedHttp) -> None:
    agent.on("GET", "/v1/status/leader", "127.0.0.1:8300")
    agent.on("GET", "/v1/catalog/services", {"web": ["a"], "db": None})
    assert await do("services") == {"web": ("a",), "db": ()}
    assert agent.asked[0].headers["x-consul-token"] == "secret"


async def test_the_leader_may_be_nobody(do: Do, agent: ScriptedHttp) -> None:
    agent.on("GET", "/v1/status/leader", '""')
    assert await do("leader") == ""


async def test_nodes_are_typed_and_null_is_absent(do: Do, agent: ScriptedHttp) -> None:
    agent.on("GET", "/v1/catalog/nodes", [{"Node": "a", "Address": "10.0.0.1", "Meta": None}])
    (node,) = await do("nodes")
    assert (node.name, node.address, node.meta) == ("a", "10.0.0.1", {})


PAIR = {"Key": "a b", "Flags": 3, "Value": base64.b64encode(b"\xff").decode(), "ModifyIndex": 9}


async def test_a_key_is_read(do: Do, agent: ScriptedHttp) -> None:
    agent.on("GET", "/v1/kv/a%20b", [PAIR])
    pair = await do("get", "a b")
    assert (pair.key, pair.value, pair.flags, pair.modify_index) == ("a b", b"\xff", 3, 9)


async def test_a_missing_key_is_none(do: Do, agent: ScriptedHttp) -> None:
    agent.on("GET", "/v1/kv/a", "", status=404)
    agent.on("GET", "/v1/kv/a?recurse=", "", status=404)
    assert await do("get", "a") is None
    assert await do("list", "a") == []


async def test_keys_are_listed(do: Do, agent: ScriptedHttp) -> None:
    agent.on("GET", "/v1/kv/a?keys=&separator=%2F", ["a b", "a/"])
    agent.on("GET", "/v1/kv/a?recurse=", [PAIR, {"Key": "a/c", "Value": None}])
    assert await do("keys", "a", separator="/") == ["a b", "a/"]
    assert [pair.value for pair in await do("list", "a")] == [b"\xff", b""]


async def test_keys_are_written_and_deleted(do: Do, agent: ScriptedHttp) -> None:
    agent.on("PUT", "/v1/kv/a?flags=3", "true")
    agent.on("PUT", "/v1/kv/a?cas=0", "false")
    agent.on("DELETE", "/v1/kv/a?recurse=", "true")
    assert await do("put", "a", b"\x00", flags=3)
    assert not await do("put", "a", b"x", cas=0)
    assert await do("delete", "a", recurse=True)
    assert agent.asked[0].body == b"\x00"


async def test_a_service_is_registered_with_a_ttl(do: Do, agent: ScriptedHttp) -> None:
    agent.on("PUT", "/v1/agent/service/register", "")
    agent.on("PUT", "/v1/agent/check/warn/service:web?note=slow", "")
    agent.on("PUT", "/v1/agent/service/deregister/web", "", status=404)
    await do("register", "web", port=80, tags=["rails"], ttl_s=10)
    await do("report", "service:web", "warning", "slow")
    await do("deregister", "web")
    assert json.loads(agent.asked[0].body)["Check"] == {
        "CheckID": "service:web",
        "TTL": "10s",
        "DeregisterCriticalServiceAfter": "60s",
    }


async def test_a_refusal_carries_status_and_text(do: Do, agent: ScriptedHttp) -> None:
    agent.on("GET", "/v1/catalog/nodes", "No cluster leader", status=500)
    with pytest.raises(ApiError) as refused:
        await do("nodes")
    assert (refused.value.status, refused.value.body) == (500, "No cluster leader")


async def test_a_read_that_one_agent_fails_is_asked_of_the_next(agent: ScriptedHttp) -> None:
    agent.on("GET", "/v1/catalog/nodes", "No cluster leader", status=500)
    with ScriptedHttp() as other:
        other.on("GET", "/v1/catalog/nodes", [{"Node": "a"}])
        addresses = f"{agent.address},{other.address}"
        async with AsyncClient(addresses) as client:
            assert len(await client.nodes()) == 1
        with Client(addresses) as blocking:
            assert len(await asyncio.to_thread(blocking.nodes)) == 1


async def test_a_write_that_one_agent_fails_is_not_repeated(agent: ScriptedHttp) -> None:
    agent.on("PUT", "/v1/kv/a", "No cluster leader", status=500)
    with ScriptedHttp() as other:
        addresses = f"{agent.address},{other.address}"
        async with AsyncClient(addresses) as client:
            with pytest.raises(ApiError, match="No cluster leader"):
                await client.put("a", b"1")
        with Client(addresses) as blocking, pytest.raises(ApiError, match="No cluster leader"):
            blocking.put("a", b"1")
        assert other.asked == []


@pytest.mark.parametrize("answer", ["{", "[1]", '[{"Address": 3}]', '{"a": 1}'])
async def test_an_answer_without_sense_is_a_client_error(
    do: Do, agent: ScriptedHttp, answer: str
) -> None:
    agent.on("GET", "/v1/catalog/nodes", answer)
    with pytest.raises(ClientError, match="unexpected form"):
        await do("nodes")


async def test_nobody_there_is_unreachable() -> None:
    async with AsyncClient(refusing_address()) as client:
        with pytest.raises(Unreachable):
            await client.nodes()


def answers(agent: ScriptedHttp, *rounds: tuple[int, list[object]]) -> None:
    """Health answers in turn, each asked for with the index before it."""
    asked = 0
    for index, entries in rounds:
        wait = f"&index={asked}&wait=1s" if asked else ""
        headers = {"X-Consul-Index": str(index)}
        agent.on("GET", f"/v1/health/service/web?passing={wait}", entries, headers=headers)
        asked = index if index >= asked else 0


async def test_a_watch_yields_the_first_value_and_changes_only(agent: ScriptedHttp) -> None:
    answers(agent, (5, []), (5, []), (6, [ENTRY]))
    async with AsyncClient(agent.address, timeout_s=5) as client:
        found = []
        async for instances in client.watch("web", wait_s=1):
            found.append(len(instances))
            if len(found) == 2:
                break
    assert found == [0, 1]


def test_a_blocking_watch_does_the_same(agent: ScriptedHttp) -> None:
    answers(agent, (5, []), (5, []), (6, [ENTRY]))
    with Client(agent.address, timeout_s=5) as client:
        watch = client.watch("web", wait_s=1)
        assert [len(next(watch)), len(next(watch))] == [0, 1]
        watch.close()  # type: ignore[attr-defined]  # it is a generator


def test_a_watch_outlives_a_failure(agent: ScriptedHttp) -> None:
    headers = {"X-Consul-Index": "5"}
    agent.on("GET", "/v1/kv/a", "No cluster leader", status=500)
    agent.on("GET", "/v1/kv/a", [PAIR], headers=headers)
    with Client(agent.address, timeout_s=5) as client:
        watch = client.watch_key("a", wait_s=1)
        assert next(watch) is not None
        watch.close()  # type: ignore[attr-defined]  # it is a generator


def test_a_watch_that_is_forbidden_ends(agent: ScriptedHttp) -> None:
    agent.on("GET", "/v1/kv/a", "Permission denied", status=403)
    with Client(agent.address) as client, pytest.raises(ApiError):
        next(client.watch_key("a"))


def test_an_index_that_went_down_begins_anew() -> None:
    state = WatchState(_Middle())
    assert [state.answered(9), state.index, state.answered(3), state.index] == [True, 9, True, 0]


def test_a_failing_watch_rests_longer_each_time_up_to_a_limit() -> None:
    state = WatchState(_Middle())
    rests = [state.failed() for _ in range(12)]
    assert rests == sorted(rests)
    assert rests[0] < 0.2
    assert rests[-1] <= BACKOFF_MAX_S


class _Middle(random.Random):
    """Always the middle."""

    def uniform(self, a: float, b: float) -> float:
        return (a + b) / 2


async def test_registered_is_passing_inside_and_gone_after(agent: ScriptedHttp) -> None:
    agent.on("PUT", "/v1/agent/service/register", "")
    agent.on("PUT", "/v1/agent/check/pass/service:web", "")
    agent.on("PUT", "/v1/agent/check/pass/service:web", "unknown check", status=404)
    agent.on("PUT", "/v1/agent/check/pass/service:web", "")
    agent.on("PUT", "/v1/agent/service/deregister/web", "")
    async with AsyncClient(agent.address) as client, client.registered("web", ttl_s=0.05):
        await eventually(lambda: len(agent.asked) >= 5)
    verbs = [asked.target.split("/")[4] for asked in agent.asked]
    assert verbs[:5] == ["register", "pass", "pass", "register", "pass"]
    assert verbs[-1] == "deregister"


def test_registered_does_the_same_without_a_loop(agent: ScriptedHttp) -> None:
    agent.on("PUT", "/v1/agent/service/register", "")
    agent.on("PUT", "/v1/agent/check/pass/service:web", "")
    agent.on("PUT", "/v1/agent/service/deregister/web", "")
    with Client(agent.address) as client, client.registered("web", ttl_s=0.05):
        eventually_sync(lambda: len(agent.asked) >= 4)
    assert agent.asked[-1].target == "/v1/agent/service/deregister/web"
