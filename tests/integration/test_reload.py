"""A running agent that reads its configuration files again, by SIGHUP and by the API."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.harness.asking import get, http
from tests.harness.capabilities import require
from tests.harness.eventually import eventually_sync
from tests.harness.lone import Lone, running
from tests.harness.process_driver import own_network

TTL = {"ttl": "5m", "checkid": "alive"}


def write(directory: Path, **document: Any) -> None:
    """Write the one configuration file there is."""
    (directory / "consul.d").mkdir(exist_ok=True)
    (directory / "consul.d" / "agent.json").write_text(json.dumps(document))


@pytest.fixture
def api() -> str:
    """The URL of the agent's HTTP API, at an address of this test's own."""
    require("linux")
    return f"http://{own_network()}.1:8500"


@pytest.fixture
def agent(api: str, tmp_path: Path) -> Iterator[Lone]:
    """An agent with the service `web`, whose TTL check `alive` was told to pass."""
    write(tmp_path, service={"name": "web", "port": 80, "check": TTL})
    address = api.removeprefix("http://").partition(":")[0]
    argv = [
        *("agent", "-server", "-bootstrap", "-data-dir", str(tmp_path / "data")),
        *("-config-dir", str(tmp_path / "consul.d"), "-node", "agent-one"),
        *("-bind", address, "-client", address, "-dns-port=-1"),
    ]
    with running(argv, tmp_path / "log", tmp_path) as started:
        started.wait_for(f"{api}/v1/status/leader")
        eventually_sync(lambda: http("PUT", f"{api}/v1/agent/check/pass/alive").status == 200)
        eventually_sync(lambda: checks(api, "web") == {"alive": "passing"})
        yield started


def checks(api: str, service: str) -> dict[str, str]:
    """Check ID -> status of a service's checks, as the catalog has them."""
    reply = http("GET", f"{api}/v1/health/checks/{service}")
    found = reply.json() if reply.status == 200 else []
    return {check["CheckID"]: check["Status"] for check in found}


def by_signal(agent: Lone, api: str) -> None:
    agent.process.send_signal(signal.SIGHUP)


def by_api(agent: Lone, api: str) -> None:
    assert http("PUT", f"{api}/v1/agent/reload").status == 200


@pytest.mark.parametrize("reload", [by_signal, by_api])
def test_reload_reads_the_files_again_and_keeps_what_checks_said(
    agent: Lone, api: str, tmp_path: Path, reload: Callable[[Lone, str], None]
) -> None:
    added = {"name": "added", "port": 81}
    changed = {"name": "web", "port": 8080, "checks": [TTL, {"ttl": "1m", "checkid": "new"}]}
    write(tmp_path, services=[changed, added], node_meta={"rack": "a1"}, log_level="debug")
    reload(agent, api)
    eventually_sync(lambda: set(get(f"{api}/v1/catalog/services")) == {"consul", "web", "added"})
    assert checks(api, "web") == {"alive": "passing", "new": "critical"}
    [row] = get(f"{api}/v1/catalog/service/web")
    assert row["ServicePort"] == 8080
    eventually_sync(lambda: get(f"{api}/v1/catalog/nodes")[0]["Meta"].get("rack") == "a1")


def test_reload_of_a_broken_file_is_told_and_changes_nothing(
    agent: Lone, api: str, tmp_path: Path
) -> None:
    write(tmp_path, service={"name": "web", "prt": 80})
    refused = http("PUT", f"{api}/v1/agent/reload")
    assert refused.status == 500
    assert b"agent.json: invalid config key service.prt" in refused.body
    agent.process.send_signal(signal.SIGHUP)
    eventually_sync(lambda: agent.said("invalid config key service.prt"))
    assert checks(api, "web") == {"alive": "passing"}
    assert set(get(f"{api}/v1/catalog/services")) == {"consul", "web"}
