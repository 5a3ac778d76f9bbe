"""One agent alone, and the DNS front alone, by the command lines of the article."""

from __future__ import annotations

import json
import signal
from functools import partial
from pathlib import Path

import dns.rcode
import pytest
from tests.harness.asking import addresses, ask, get, http
from tests.harness.capabilities import require
from tests.harness.eventually import SLOW, eventually_sync
from tests.harness.lone import running
from tests.harness.process_driver import own_network

WEB = {"service": {"name": "web", "tags": ["rails"], "port": 80}}


@pytest.fixture
def place() -> str:
    """A loopback address of this test's own."""
    require("linux")
    return f"{own_network()}.1"


@pytest.fixture
def definitions(tmp_path: Path) -> Path:
    """A directory with the article's definition of `web`."""
    directory = tmp_path / "consul.d"
    directory.mkdir()
    (directory / "web.json").write_text(json.dumps(WEB))
    return directory


def get_ok(url: str) -> bool:
    """Say whether a GET answers 200."""
    return http("GET", url).status == 200


def server(place: str, directory: Path, definitions: Path) -> list[str]:
    """The article's command line, at an address of its own."""
    return [
        *("agent", "-server", "-bootstrap", "-data-dir", str(directory / "data")),
        *("-config-dir", str(definitions), "-node", "agent-one"),
        *("-bind", place, "-client", place),
    ]


@pytest.mark.parametrize("dashes", ["-", "--"])
def test_one_agent_runs_alone_dns_included(
    place: str, tmp_path: Path, definitions: Path, dashes: str
) -> None:
    argv = [
        f"{dashes}{word.lstrip('-')}" if word.startswith("-") else word
        for word in server(place, tmp_path, definitions)
    ]
    with running(argv, tmp_path / "log", tmp_path) as agent:
        agent.wait_for(f"http://{place}:8500/v1/status/leader")
        api = f"http://{place}:8500/v1/catalog"
        eventually_sync(lambda: "web" in get(f"{api}/services"))
        [row] = get(f"{api}/service/web")
        assert (row["Node"], row["ServicePort"]) == ("agent-one", 80)
        assert row["ServiceTags"] == ["rails"]
        answer = ask((place, 8600), "agent-one.node.consul")
        assert addresses(answer) == [place]
        srv = ask((place, 8600), "rails.web.service.consul", "SRV")
        assert [record.port for rrset in srv.answer for record in rrset] == [80]
        assert agent.stop() == 0, agent.log.read_text()


def test_a_development_agent_needs_no_directory(place: str, tmp_path: Path) -> None:
    argv = ["agent", "-dev", "-bind", place, "-client", place]
    with running(argv, tmp_path / "log", tmp_path) as agent:
        url = f"http://{place}:8500/v1/kv/a"
        agent.wait_for(url)
        eventually_sync(lambda: http("PUT", url, b"1").body.strip() == b"true")
        assert http("GET", f"{url}?raw").body == b"1"
    assert [path.name for path in tmp_path.iterdir()] == ["log"], "it wrote something"


def test_an_agent_answers_http_within_a_second_and_a_half(place: str, tmp_path: Path) -> None:
    """The best of five: what is measured is the program, not the machine's other load."""
    times = []
    for _ in range(5):
        argv = ["agent", "-dev", "-bind", place, "-client", place]
        with running(argv, tmp_path / "log", tmp_path) as agent:
            times.append(agent.wait_for(f"http://{place}:8500/v1/agent/self"))
            agent.stop(signal.SIGKILL)
    assert min(times) < 1.5 * SLOW, times


def test_what_an_agent_acknowledged_survives_sigkill(
    place: str, tmp_path: Path, definitions: Path
) -> None:
    argv = server(place, tmp_path, definitions)
    url = f"http://{place}:8500/v1/kv/kept"
    with running(argv, tmp_path / "log", tmp_path) as agent:
        agent.wait_for(url)
        eventually_sync(lambda: http("PUT", url, b"value").body.strip() == b"true")
        agent.stop(signal.SIGKILL)
    with running(argv, tmp_path / "log", tmp_path) as agent:
        agent.wait_for(url)
        eventually_sync(lambda: http("GET", f"{url}?raw").body == b"value")


def test_a_nameserver_answers_for_an_agent_and_outlives_it(
    place: str, tmp_path: Path, definitions: Path
) -> None:
    front = place.removesuffix(".1") + ".2"
    catalog = f"http://{place}:8500"
    data = str(tmp_path / "front")
    argv = ["nameserver", "-bind", front, "-port", "8600", "-catalog", catalog, "-data-dir", data]
    agent_argv = [*server(place, tmp_path, definitions), "-dns-port", "-1"]
    with running(argv, tmp_path / "front.log", tmp_path):
        with running(agent_argv, tmp_path / "log", tmp_path) as agent:
            agent.wait_for(f"{catalog}/v1/status/leader")
            eventually_sync(lambda: addresses(ask((front, 8600), "web.service.consul")), 20)
        assert addresses(ask((front, 8600), "web.service.consul")) == [place]


def test_a_nameserver_without_a_catalog_says_servfail(place: str, tmp_path: Path) -> None:
    """Not loaded yet is never called empty."""
    catalog = f"http://{place}:8500"
    argv = ["nameserver", "-bind", place, "-port", "8600", "-catalog", catalog]
    with running(argv, tmp_path / "log", tmp_path):
        answer = eventually_sync(lambda: ask((place, 8600), "web.service.consul"), 20)
        assert answer.rcode() == dns.rcode.SERVFAIL
        assert not answer.answer


@pytest.mark.parametrize("program", ["agent", "nameserver"])
def test_a_plain_address_outside_loopback_is_refused(tmp_path: Path, program: str) -> None:
    require("linux")
    argv = {
        "agent": ["agent", "-dev", "-client", "0.0.0.0"],
        "nameserver": ["nameserver", "-bind", "0.0.0.0", "-port", "8600", "-catalog", "http://x"],
    }[program]
    with running(argv, tmp_path / "log", tmp_path) as refused:
        assert refused.process.wait(20) != 0
        assert "allow-plain" in refused.log.read_text()


def test_health_is_opened_by_its_flag_only(place: str, tmp_path: Path) -> None:
    argv = ["agent", "-dev", "-bind", place, "-client", place]
    with running(argv, tmp_path / "log", tmp_path) as agent:
        agent.wait_for(f"http://{place}:8500/v1/agent/self")
        with pytest.raises(OSError):
            http("GET", f"http://{place}:9090/livez")
    with running([*argv, "-health", f"{place}:9090"], tmp_path / "log", tmp_path) as agent:
        agent.wait_for(f"http://{place}:9090/livez")
        for path in ("/livez", "/readyz"):
            eventually_sync(partial(get_ok, f"http://{place}:9090{path}"))
        metrics = http("GET", f"http://{place}:9090/metrics").body.decode()
        assert "# TYPE " in metrics
