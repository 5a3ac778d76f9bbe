"""Whose a node's name is when agents die and others come: on real agents, end to end."""

from __future__ import annotations

import json
import signal
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.harness.asking import get, http
from tests.harness.bootstrapped import Agent, agent
from tests.harness.capabilities import require
from tests.harness.eventually import eventually_sync
from tests.harness.lone import Lone, running
from tests.harness.process_driver import own_network


@pytest.fixture
def network() -> str:
    """The first three numbers of loopback addresses of this test's own."""
    require("linux")
    return own_network()


def client(address: str, directory: Path, data: str) -> AbstractContextManager[Lone]:
    """A client agent named `worker` at an address, with a data directory of its own."""
    argv = ["agent", "-node", "worker", "-data-dir", str(directory / data), "-dns-port=-1"]
    argv += ["-bind", address, "-client", address, "-retry-join", f"{address[:-1]}1"]
    return running(argv, directory / f"{data}.log", directory)


def worker(server: Agent) -> dict[str, Any]:
    """The node `worker` with its services, as the server's catalog has it; empty: none."""
    reply = http("GET", server.url("/v1/catalog/node/worker"))
    return (reply.json() if reply.status == 200 else None) or {}


def is_at(server: Agent, address: str, *services: str) -> bool:
    """Whether the node `worker` is there, with exactly these services."""
    found = worker(server)
    return bool(found) and (found["Node"]["Address"], sorted(found["Services"])) == (
        address,
        sorted(services),
    )


def announce(address: str, name: str) -> bool:
    """Register a service at the agent there."""
    body = json.dumps({"Name": name, "Port": 1}).encode()
    return http("PUT", f"http://{address}:8500/v1/agent/service/register", body).status == 200


def test_a_new_agent_takes_over_the_name_of_one_that_died(network: str, tmp_path: Path) -> None:
    """With another id at another address; what the dead one announced goes with it."""
    first, second = f"{network}.2", f"{network}.3"
    with agent(f"{network}.1", tmp_path) as server:
        with client(first, tmp_path, "first") as dying:
            dying.wait_for(f"http://{first}:8500/v1/agent/self")
            assert announce(first, "old")
            eventually_sync(partial(is_at, server, first, "old"))
            old_id = worker(server)["Node"]["ID"]
            dying.stop(signal.SIGKILL)
        with client(second, tmp_path, "second") as taking:
            taking.wait_for(f"http://{second}:8500/v1/agent/self")
            eventually_sync(partial(is_at, server, second), 60)
            assert announce(second, "new")
            eventually_sync(partial(is_at, server, second, "new"))
            assert worker(server)["Node"]["ID"] != old_id
            [check] = get(server.url("/v1/health/node/worker"))
            assert (check["CheckID"], check["Status"]) == ("serfHealth", "passing")


def test_an_agent_that_left_is_gone_and_comes_back_by_its_name(
    network: str, tmp_path: Path
) -> None:
    address = f"{network}.2"
    with agent(f"{network}.1", tmp_path) as server:
        with client(address, tmp_path, "worker") as leaving:
            leaving.wait_for(f"http://{address}:8500/v1/agent/self")
            assert announce(address, "kept")
            eventually_sync(partial(is_at, server, address, "kept"))
            assert leaving.stop() == 0  # a client leaves at SIGTERM
        eventually_sync(lambda: worker(server) == {})
        members = {m["Name"]: m["Status"] for m in get(server.url("/v1/agent/members"))}
        assert members["worker"] == 3  # serf's number for left
        with client(address, tmp_path, "worker") as back:
            back.wait_for(f"http://{address}:8500/v1/agent/self")
            eventually_sync(partial(is_at, server, address, "kept"), 30)
