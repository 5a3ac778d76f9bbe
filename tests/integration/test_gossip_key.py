"""Gossip's key is changed on running agents, by the command, while clients are served."""

from __future__ import annotations

import base64
import os
import subprocess
import sys

import pytest
from make.programs import CLIENT, SERVERS
from tests.harness.asking import http
from tests.harness.bootstrapped import GOSSIP
from tests.harness.eventually import eventually_sync
from tests.harness.pings import answers, keyring_of
from tests.harness.secured import Farm, traffic

OLD, NEW = b"o" * 32, b"n" * 32
AGENTS = (*SERVERS, CLIENT)


def text(key: bytes) -> str:
    return base64.b64encode(key).decode()


@pytest.fixture
def farm_flags() -> tuple[str, ...]:
    """Gossip has a key."""
    return (f"-encrypt={text(OLD)}",)


def keyring(farm: Farm, *words: str) -> str:
    """Run `callboard keyring` at the first agent."""
    done = subprocess.run(
        [sys.executable, "-m", "callboard.chassis.command", "keyring", *words],
        env={**os.environ, "CONSUL_HTTP_ADDR": f"http://{farm.addresses['agent-1']}:8500"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def hears(farm: Farm, name: str, key: bytes) -> bool:
    """Say whether an agent answers what this key sealed, by whichever key."""
    return answers((farm.addresses[name], GOSSIP), name, keyring_of(key, OLD, NEW))


def alive(farm: Farm, name: str) -> set[str]:
    """Return whom an agent's gossip believes alive."""
    members = http("GET", f"http://{farm.addresses[name]}:8500/v1/agent/members").json()
    return {member["Name"] for member in members if member["Status"] == 1}


def test_key_is_changed_without_an_outage_and_survives_a_restart(farm: Farm) -> None:
    assert hears(farm, "agent-1", OLD)
    assert not hears(farm, "agent-1", NEW)
    with traffic(farm) as seen:
        keyring(farm, f"-install={text(NEW)}")
        assert seen.progressed()
        assert all(hears(farm, name, key) for name in AGENTS for key in (OLD, NEW))
        keyring(farm, f"-use={text(NEW)}")
        assert seen.progressed()
        keyring(farm, f"-remove={text(OLD)}")
        assert seen.progressed()
        for name in AGENTS:
            eventually_sync(lambda name=name: not hears(farm, name, OLD))  # type: ignore[misc]
            assert hears(farm, name, NEW)
            assert alive(farm, name) == set(AGENTS)
        said = keyring(farm, "-list")
        assert text(NEW) in said
        assert text(OLD) not in said
    assert seen.failures == []

    farm.processes["agent-2"].terminate()  # its command line still names the old key
    farm.processes["agent-2"].wait(30.0)
    farm.start("agent-2")
    eventually_sync(lambda: farm.ready("agent-2"), 60.0)
    eventually_sync(lambda: alive(farm, "agent-2") == set(AGENTS), 30.0)
    assert hears(farm, "agent-2", NEW)
    assert not hears(farm, "agent-2", OLD)
