"""Certificates that the real `consul tls` made, on our agents; Consul's own CLI at their https."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.harness.capabilities import require
from tests.harness.eventually import eventually_sync
from tests.harness.lone import Lone, running
from tests.harness.process_driver import own_network

pytestmark = pytest.mark.slow
NODES = ("c1", "c2", "c3")


def consul(place: Path, *words: str) -> str:
    """Run Consul's command and return what it printed; raises what it complained of."""
    done = subprocess.run(
        ["consul", *words], cwd=place, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@dataclass
class Servers:
    """Three servers of ours with one certificate of Consul's making."""

    place: Path
    network: str
    lones: list[Lone]

    def command(self, verb: str, *words: str, who: str = "cli") -> str:
        """Run Consul's CLI at the first server's https port."""
        files = (
            "-ca-file=consul-agent-ca.pem",
            f"-client-cert=dc1-{who}-consul-0.pem",
            f"-client-key=dc1-{who}-consul-0-key.pem",
            "-tls-server-name=server.dc1.consul",
        )
        where = f"-http-addr=https://{self.network}.1:8501"
        return consul(self.place, *verb.split(), where, *files, *words)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """They run until the module's end."""
    require("linux", "consul")
    place, network = tmp_path_factory.mktemp("consul"), own_network()
    consul(place, "tls", "ca", "create")
    for kind in ("-server", "-client", "-cli"):
        consul(place, "tls", "cert", "create", kind)
    document = {
        "ca_file": str(place / "consul-agent-ca.pem"),
        "cert_file": str(place / "dc1-server-consul-0.pem"),
        "key_file": str(place / "dc1-server-consul-0-key.pem"),
        **dict.fromkeys(("verify_incoming", "verify_outgoing", "verify_server_hostname"), True),
        "ports": {"https": 8501, "dns": -1},
    }
    (place / "agent.json").write_text(json.dumps(document))
    with ExitStack() as stack:
        lones = []
        for number, node in enumerate(NODES, start=1):
            address = f"{network}.{number}"
            argv = [
                *("agent", "-server", "-bootstrap-expect=3", f"-node={node}", f"-bind={address}"),
                *(f"-client={address}", f"-data-dir={place / node}", f"-retry-join={network}.1"),
                f"-config-file={place / 'agent.json'}",
            ]
            lones.append(stack.enter_context(running(argv, place / f"{node}.log", place)))
        made = Servers(place, network, lones)
        eventually_sync(lambda: "Success" in made.command("kv put", "ready", "1"), 60.0)
        yield made


def test_agents_form_a_cluster_and_consuls_cli_reads_it(servers: Servers) -> None:
    said = servers.command("members", "-detailed")
    assert [line.split()[0] for line in said.splitlines()[1:]] == list(NODES)
    assert servers.command("kv get", "ready").strip() == "1"


@pytest.mark.parametrize("who", ["server", "client", "cli"])
def test_each_kind_of_certificate_has_its_role(servers: Servers, who: str) -> None:
    assert "Success" in servers.command("kv put", f"by/{who}", "1", who=who)


def test_configuration_says_nothing_that_would_not_be_done(servers: Servers) -> None:
    for node in NODES:
        text = (servers.place / f"{node}.log").read_text()
        assert "has no effect" not in text
        assert "in the clear" not in text
