"""The sidecar's entry in the catalog moves to where an agent answers."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
from tests.harness.eventually import eventually_sync
from tests.harness.scripted_http import ScriptedHttp, refusing_address

from callboard.client.synchronous import Client
from callboard.sidecar.registration import Registration, own_address
from callboard.testing.inprocess import Catalog

ID = "sidecar-box"
SIGN = f"/v1/agent/check/pass/service%3A{ID}"


def _willing(agent: ScriptedHttp) -> None:
    agent.on("PUT", "/v1/agent/service/register", "")
    agent.on("PUT", SIGN, "")
    agent.on("PUT", f"/v1/agent/service/deregister/{ID}", "")


@pytest.fixture
def agent() -> Iterator[ScriptedHttp]:
    with ScriptedHttp() as server:
        _willing(server)
        yield server


def _registration(*agents: str) -> Registration:
    urls = [agent if "://" in agent else f"http://{agent}" for agent in agents]
    return Registration(
        urls, id=ID, port=8090, address="192.0.2.5", meta={"https_port": "8090"}, token="secret"
    )


def test_it_registers_with_a_check_and_leaves_in_the_end(agent: ScriptedHttp) -> None:
    entry = _registration(refusing_address(), agent.address)
    assert entry.problem == "not registered yet"
    entry.start()
    eventually_sync(lambda: entry.problem is None)
    entry.stop()
    body = json.loads(agent.asked[0].body)
    assert (body["Name"], body["ID"], body["Port"]) == ("sidecar", ID, 8090)
    assert (body["Address"], body["Meta"]) == ("192.0.2.5", {"https_port": "8090"})
    assert body["Check"]["TTL"] == "10s"
    assert body["Check"]["DeregisterCriticalServiceAfter"] == "60s"
    assert {asked.headers["x-consul-token"] for asked in agent.asked} == {"secret"}
    assert agent.asked[-1].target == f"/v1/agent/service/deregister/{ID}"


def test_it_registers_anew_where_it_is_not_known() -> None:
    with ScriptedHttp() as other:
        other.on("PUT", SIGN, "unknown", status=404)
        _willing(other)
        moved = _registration(other.address)
        moved.problem = None
        moved.give_sign()
        assert [asked.target for asked in other.asked] == [
            SIGN, "/v1/agent/service/register", SIGN,
        ]  # fmt: skip


def test_without_any_agent_it_says_so_and_ends_at_once() -> None:
    entry = _registration(refusing_address())
    entry.start()
    eventually_sync(lambda: "no agent answers" in str(entry.problem))
    begun = time.monotonic()
    entry.stop()
    assert time.monotonic() - begun < 2


def test_a_real_agent_takes_it() -> None:
    catalog = Catalog()
    catalog.start()
    entry = _registration(catalog.url)
    try:
        entry.start()
        eventually_sync(lambda: entry.problem is None)
        with Client(catalog.url) as client:
            found = eventually_sync(lambda: client.resolve("sidecar"))
            assert [(one.id, one.port) for one in found] == [(ID, 8090)]
            entry.stop()
            eventually_sync(lambda: client.resolve("sidecar") == [])
    finally:
        catalog.stop()


def test_a_wildcard_is_registered_by_another_address() -> None:
    assert own_address("192.0.2.9") == "192.0.2.9"
    assert own_address("0.0.0.0") not in ("0.0.0.0", "::")
