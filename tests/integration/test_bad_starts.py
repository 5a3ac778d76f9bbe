"""Starts that must not succeed: each ends with an exit code that is not 0 and says what is wrong,
and what comes before the catalog is loaded: never an empty answer."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import dns.rcode
import pytest
from tests.harness.asking import addresses, ask, get, http
from tests.harness.bootstrapped import DNS, HTTP, Agent, agent, command_line
from tests.harness.capabilities import require
from tests.harness.eventually import eventually_sync
from tests.harness.lone import running
from tests.harness.process_driver import own_network

SEGMENT = "00000001.log"


@pytest.fixture
def place() -> str:
    """A loopback address of this test's own."""
    require("linux")
    return f"{own_network()}.1"


def neighbour(place: str) -> str:
    """Return another address of this test's."""
    return place.removesuffix(".1") + ".2"


def refusal(argv: list[str], directory: Path) -> str:
    """Run what must not start; what it said, which holds no traceback."""
    log = directory / "refused.log"
    log.unlink(missing_ok=True)
    with running(argv, log, directory) as refused:
        assert refused.ended() == 1, log.read_text()
    text = log.read_text()
    assert "Traceback" not in text, text
    return text


# configuration -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"nod_name": "x"}', "invalid config key nod_name"),
        ('{"ports": {"htp": 1}}', "invalid config key ports.htp"),
        ('{"service": {"nam": "x"}}', "invalid config key service.nam"),
        ('{"ports": {"http": "x"}}', 'ports.http: expected int, got string "x"'),
        ('{"performance": {"leave_drain_time": "x"}}', "performance.leave_drain_time: expected"),
        ('{"service": {"name": "x", "check": {"ttl": "1 parsec"}}}', "unknown unit"),
        ('{"check": {"name": "c", "args": ["true"], "interval": "9s"}}', "'c': Scripts are"),
        ('{"ports": ', "invalid JSON at line 1"),
        ("[]", "must hold a JSON object"),
    ],
)
@pytest.mark.parametrize("how", ["-config-file", "-config-dir"])
def test_a_bad_file_is_named_with_what_is_wrong_in_it(
    place: str, tmp_path: Path, how: str, text: str, problem: str
) -> None:
    directory = tmp_path / "consul.d"
    directory.mkdir()
    file = directory / "agent.json"
    file.write_text(text)
    source = file if how == "-config-file" else directory
    said = refusal([*command_line(place, tmp_path / "data"), how, str(source)], tmp_path)
    assert f"{file}: " in said
    assert problem in said
    assert not (tmp_path / "data").exists()


def test_a_check_of_a_service_nobody_defines_is_refused(place: str, tmp_path: Path) -> None:
    file = tmp_path / "agent.json"
    file.write_text('{"check": {"name": "c", "ttl": "10s", "service_id": "nope"}}')
    said = refusal([*command_line(place, tmp_path / "data"), "-config-file", str(file)], tmp_path)
    assert 'Failed to register check \\"c\\": ServiceID \\"nope\\" does not exist' in said


IDLE = {
    "acl": {"enabled": False, "default_policy": "allow", "tokens": {"agent": "x"}},
    "autopilot": {"cleanup_dead_servers": True},
    "log_file": "agent.log",
    "config_entries": {"bootstrap": []},
    "connect": {"enabled": False},
    "disable_host_node_id": True,
    "disable_remote_exec": True,
    "disable_update_check": True,
    "enable_local_script_checks": False,
    "enable_script_checks": False,
    "primary_datacenter": "dc1",
    "raft_protocol": 3,
    "segments": None,
    "session_ttl_min": "10s",
    "telemetry": {"prometheus_retention_time": "24h", "disable_hostname": True},
    "tls": {"grpc": {"use_auto_cert": False}},
    "translate_wan_addrs": False,
    "ui_config": {"enabled": True},
    "watches": [],
}
"""Keys of Consul that are accepted, and have no effect yet."""


def test_keys_without_effect_are_accepted_and_logged(place: str, tmp_path: Path) -> None:
    file = tmp_path / "agent.json"
    file.write_text(json.dumps(IDLE))
    with agent(place, tmp_path, "-config-file", str(file)) as one:
        for name, value in IDLE.items():
            if value is not None:
                notice = rf"{re.escape(str(file))}: {name}(\.\w+)* has no effect yet"
                assert re.search(notice, one.lone.log.read_text()), name


def test_consuls_spelling_of_the_keys_is_taken(place: str, tmp_path: Path) -> None:
    file = tmp_path / "agent.json"
    keys = {
        "node_name": "spelt",
        "bind_addr": place,
        "client_addr": place,
        "data_dir": str(tmp_path / "data"),
        "server": True,
        "bootstrap_expect": 1,
        "leave_on_terminate": True,
        "start_join": [],
        "ports": {"dns": -1},
    }
    file.write_text(json.dumps(keys))
    argv = ["agent", "-config-file", str(file)]
    with running(argv, tmp_path / "log", tmp_path) as lone:
        url = f"http://{place}:{HTTP}/v1/agent/self"
        lone.wait_for(url)
        assert get(url)["Config"]["NodeName"] == "spelt"


@pytest.mark.parametrize(("name", "port", "other"), [("http", HTTP, DNS), ("dns", DNS, HTTP)])
def test_a_port_of_minus_1_is_off(
    place: str, tmp_path: Path, name: str, port: int, other: int
) -> None:
    file = tmp_path / "agent.json"
    file.write_text(json.dumps({"ports": {name: -1}}))
    argv = [*command_line(place, tmp_path / "data"), "-config-file", str(file)]
    with running(argv, tmp_path / "log", tmp_path) as lone:
        one = Agent(lone, place)
        lone.wait_for(f"http://{place}:9090/livez")
        eventually_sync(lambda: lone.said('"agent runs"'))
        one.connected(other).close()
        with pytest.raises(ConnectionRefusedError):
            one.connected(port)


@pytest.mark.parametrize("flag", [("-client", "0.0.0.0"), ("-client", "192.0.2.1 127.0.0.1")])
def test_a_plain_address_outside_loopback_is_refused_by_name(
    place: str, tmp_path: Path, flag: tuple[str, str]
) -> None:
    said = refusal([*command_line(place, tmp_path / "data"), *flag], tmp_path)
    assert flag[1].split()[0] in said
    assert all(way in said for way in ("-allow-plain", "ALLOW_PLAIN=1", "key allow_plain"))


@pytest.mark.parametrize("way", ["flag", "key", "variable"])
def test_a_plain_address_outside_loopback_is_taken_when_told(
    place: str, tmp_path: Path, way: str
) -> None:
    file = tmp_path / "agent.json"
    file.write_text(json.dumps({"allow_plain": True} if way == "key" else {}))
    port = str(20000 + int(place.split(".")[2]))
    more = ["-client", "0.0.0.0", "-http-port", port, "-dns-port", "-1"]
    more += ["-config-file", str(file), *(["-allow-plain"] if way == "flag" else [])]
    argv = [*command_line(place, tmp_path / "data"), *more]
    wrap = ["env", "ALLOW_PLAIN=1"] if way == "variable" else []
    with running(argv, tmp_path / "log", tmp_path, wrap) as lone:
        lone.wait_for(f"http://{neighbour(place)}:{port}/v1/status/leader")


# the data directory --------------------------------------------------------------------------


@pytest.fixture
def data(place: str, tmp_path: Path) -> Path:
    """The data directory of an agent that was killed."""
    with agent(place, tmp_path) as one:
        for number in range(20):
            assert one.puts(f"kept/{number}")
        one.lone.process.kill()
        one.lone.process.wait(10)
    return tmp_path / "data"


def damage(data: Path, change: Callable[[bytearray, int], None]) -> None:
    """Change the log; `change` gets its bytes and the offset at which they end."""
    path = data / "raft" / SEGMENT
    content = bytearray(path.read_bytes())
    change(content, len(content.rstrip(b"\0")))
    path.write_bytes(content)


def test_a_corrupt_tail_of_the_log_is_cut_and_nothing_is_lost(
    place: str, tmp_path: Path, data: Path
) -> None:
    def append_garbage(content: bytearray, end: int) -> None:
        content[end : end + 40] = b"\x99" * 40

    damage(data, append_garbage)
    with agent(place, tmp_path) as one:
        assert one.lone.said('"cut the torn tail of the log", "segment": "00000001.log"')
        keys = get(one.url("/v1/kv/kept/?keys"))
        assert len(keys) == 20


def test_corruption_in_the_middle_of_the_log_refuses_with_segment_and_offset(
    place: str, tmp_path: Path, data: Path
) -> None:
    def flip(content: bytearray, end: int) -> None:
        content[end // 2] ^= 0xFF

    damage(data, flip)
    before = (data / "raft" / SEGMENT).read_bytes()
    said = refusal(command_line(place, data), tmp_path)
    assert re.search(rf"log segment {SEGMENT}: damaged record at offset \d+, but", said), said
    assert (data / "raft" / SEGMENT).read_bytes() == before


def test_a_data_directory_in_use_is_refused(place: str, tmp_path: Path) -> None:
    with agent(place, tmp_path) as one:
        said = refusal(command_line(neighbour(place), tmp_path / "data"), tmp_path)
        assert f"another process uses the directory {tmp_path / 'data'}" in said
        assert one.puts()


def test_a_log_of_another_cluster_is_refused(place: str, tmp_path: Path, data: Path) -> None:
    path = data / "cluster.json"
    mark = json.loads(path.read_text())
    path.write_text(json.dumps({**mark, "cluster_id": "11111111-1111-1111-1111-111111111111"}))
    said = refusal(command_line(place, data), tmp_path)
    assert f"log segment {SEGMENT} belongs to cluster {mark['cluster_id']}" in said


@pytest.mark.parametrize("name", ["cluster.json", "node-id"])
def test_a_damaged_identity_is_refused_by_its_file(
    place: str, tmp_path: Path, data: Path, name: str
) -> None:
    (data / name).write_text("garbage")
    assert f"file {name}: " in refusal(command_line(place, data), tmp_path)


def test_another_node_id_than_the_directory_has_is_refused(
    place: str, tmp_path: Path, data: Path
) -> None:
    other = "11111111-1111-1111-1111-111111111111"
    said = refusal([*command_line(place, data), "-node-id", other], tmp_path)
    assert f"the data directory belongs to node {(data / 'node-id').read_text().strip()}" in said


def test_a_data_directory_that_cannot_be_had_is_named(place: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    said = refusal(command_line(place, file), tmp_path)
    assert f"data_dir: cannot use {file}: " in said


def test_a_port_in_use_is_named(place: str, tmp_path: Path) -> None:
    with agent(place, tmp_path):
        said = refusal(command_line(place, tmp_path / "other"), tmp_path)
        assert f"'{place}', 8300" in said


# others --------------------------------------------------------------------------------------


def test_clusters_whose_gossip_meets_say_so_in_both_logs(place: str, tmp_path: Path) -> None:
    """A server with the data directory of another cluster: neither takes a word from the other."""
    there = neighbour(place)
    with agent(place, tmp_path) as one:
        other = tmp_path / "other"
        other.mkdir()
        with agent(there, other, node="two"):
            pass
        with agent(there, other, "-retry-join", place, node="two") as two:
            for lone in (one.lone, two.lone):
                eventually_sync(partial(lone.said, "a data directory of another cluster?"))
            assert one.puts() and two.puts()


def test_the_later_of_two_live_agents_with_one_name_leaves(place: str, tmp_path: Path) -> None:
    """Both log it at once; the one that came later leaves when the other stays alive."""
    with agent(place, tmp_path) as one:
        argv = ["agent", "-node", "one", "-data-dir", str(tmp_path / "later")]
        argv += ["-bind", neighbour(place), "-client", neighbour(place), "-join", place]
        with running(argv, tmp_path / "later.log", tmp_path) as later:
            for lone in (one.lone, later):
                eventually_sync(partial(lone.said, "our own name is also used by another live"))
            assert later.ended(60.0) == 1
            assert later.said("another live agent uses the node name 'one'")
        assert one.puts()
        [node] = get(one.url("/v1/catalog/nodes"))
        assert node["Address"] == place


# before the catalog is loaded ----------------------------------------------------------------


def lonely(place: str, tmp_path: Path) -> list[str]:
    """The command line of a server that waits for two more."""
    argv = command_line(place, tmp_path / "data")
    argv[argv.index("-bootstrap")] = "-bootstrap-expect=3"
    return argv


def test_every_read_is_500_and_every_name_servfail_before_the_catalog_is_loaded(
    place: str, tmp_path: Path
) -> None:
    with running(lonely(place, tmp_path), tmp_path / "log", tmp_path) as lone:
        lone.wait_for(f"http://{place}:{HTTP}/v1/status/leader")
        paths = get(f"http://{place}:{HTTP}/openapi.json")["paths"]
        asked = 0
        for path, methods in paths.items():
            if "get" in methods and path.split("/")[2:3] in (["catalog"], ["health"], ["kv"]):
                target = re.sub(r"\{.*\}", "any", path)
                for mode in ("", "?stale", "?consistent", "?stale&index=1&wait=10ms"):
                    answer = http("GET", f"http://{place}:{HTTP}{target}{mode}", timeout_s=15.0)
                    assert (answer.status, b"not loaded yet" in answer.body) == (500, True), target
                    asked += 1
        assert asked >= 4 * 9
        assert http("GET", f"http://{place}:{HTTP}/v1/internal/feed").status == 500
        reverse = ".".join(reversed(place.split("."))) + ".in-addr.arpa"
        for name in ("one.node.consul", "web.service.consul", "nobody.consul", "consul", reverse):
            answer_dns = ask((place, DNS), name, "ANY")
            assert answer_dns.rcode() == dns.rcode.SERVFAIL, name
        assert http("GET", f"http://{place}:9090/readyz").status == 503


def test_a_client_agent_that_knows_no_server_answers_500_and_servfail(
    place: str, tmp_path: Path
) -> None:
    file = tmp_path / "agent.json"
    file.write_text(json.dumps({"performance": {"rpc_hold_timeout": "100ms"}}))
    argv = ["agent", "-node", "one", "-data-dir", str(tmp_path / "data"), "-bind", place]
    argv += ["-client", place, "-config-file", str(file)]
    with running(argv, tmp_path / "log", tmp_path) as lone:
        lone.wait_for(f"http://{place}:{HTTP}/v1/agent/self")
        for path in ("catalog/nodes", "catalog/services?stale", "health/service/web", "kv/a"):
            answer = http("GET", f"http://{place}:{HTTP}/v1/{path}")
            assert (answer.status, answer.body) == (500, b"No known Consul servers"), path
        for name in ("one.node.consul", "web.service.consul", "nobody.consul", "consul"):
            assert ask((place, DNS), name).rcode() == dns.rcode.SERVFAIL, name


def test_a_restarting_agent_never_calls_empty_what_it_has_not_loaded(
    place: str, tmp_path: Path, data: Path
) -> None:
    """From the first moment it answers: an error, or all there is."""
    shutil.rmtree(tmp_path / "data" / "serf")
    with running(command_line(place, data), tmp_path / "again.log", tmp_path):
        deadline = time.monotonic() + 15.0
        loaded = False
        while not loaded and time.monotonic() < deadline:
            loaded = asked_for_all(f"http://{place}:{HTTP}") and asked_by_name(place)
        assert loaded


def asked_for_all(api: str) -> bool:
    """Ask for the keys; whether they came. Nothing but all of them, or an error, may come."""
    try:
        answer = http("GET", f"{api}/v1/kv/kept/?keys&stale", timeout_s=1.0)
    except OSError:
        return False
    assert answer.status == 500 or (answer.status == 200 and len(answer.json()) == 20), answer
    return answer.status == 200


def asked_by_name(place: str) -> bool:
    """Ask for the agent's own name; whether its address came. Else it must be SERVFAIL."""
    answer = ask((place, DNS), "one.node.consul")
    assert addresses(answer) == [place] or answer.rcode() == dns.rcode.SERVFAIL, answer
    return bool(addresses(answer))
