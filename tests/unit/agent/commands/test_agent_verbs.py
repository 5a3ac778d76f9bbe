"""The small verbs, and what all verbs share: addresses, tokens, flags."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.harness.scripted_http import ScriptedHttp, refusing_address

Callboard = Callable[..., tuple[int, str, str]]


def test_info_prints_components_sorted(agent: ScriptedHttp, callboard: Callboard) -> None:
    stats = {"raft": {"term": "3", "state": "Leader"}, "agent": {"checks": "0"}}
    agent.on("GET", "/v1/agent/self", {"Stats": stats})
    assert callboard("info")[1] == ("agent:\n\tchecks = 0\nraft:\n\tstate = Leader\n\tterm = 3\n")


def test_join_counts_the_nodes_it_reached(agent: ScriptedHttp, callboard: Callboard) -> None:
    agent.on("PUT", "/v1/agent/join/10.0.0.1", "")
    agent.on("PUT", "/v1/agent/join/10.0.0.2", "refused", status=500)
    code, out, err = callboard("join", "10.0.0.1", "10.0.0.2")
    assert (code, out) == (0, "Successfully joined cluster by contacting 1 nodes.\n")
    assert err == ("Error joining address '10.0.0.2': Unexpected response code: 500 (refused)\n")


def test_join_that_reached_nobody_fails(agent: ScriptedHttp, callboard: Callboard) -> None:
    agent.on("PUT", "/v1/agent/join/10.0.0.1", "refused", status=500)
    code, _, err = callboard("join", "10.0.0.1")
    assert code == 1
    assert err.endswith("Failed to join any nodes.\n")


def test_leave_tells_that_it_is_done(agent: ScriptedHttp, callboard: Callboard) -> None:
    agent.on("PUT", "/v1/agent/leave", "")
    assert callboard("leave") == (0, "Graceful leave complete\n", "")


def test_force_leave_is_silent(agent: ScriptedHttp, callboard: Callboard) -> None:
    agent.on("PUT", "/v1/agent/force-leave/b?prune=1", "")
    assert callboard("force-leave", "-prune", "b") == (0, "", "")


def test_reload_is_told(agent: ScriptedHttp, callboard: Callboard) -> None:
    agent.on("PUT", "/v1/agent/reload", "")
    assert callboard("reload") == (0, "Configuration reload triggered\n", "")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["join"], "At least one address to join must be specified."),
        (["force-leave"], "A single node name must be specified to force leave."),
        (["force-leave", "a", "b"], "A single node name must be specified to force leave."),
        (["leave", "now"], "Too many arguments (expected 0, got 1)"),
        (["validate"], "Must specify at least one config file or directory"),
        (["members", "-frob"], "flag provided but not defined: -frob"),
        (["version", "-format=xml"], "Unknown format: xml"),
    ],
)
def test_a_command_line_without_sense_is_exit_code_1(
    callboard: Callboard, words: list[str], text: str
) -> None:
    code, out, err = callboard(*words)
    assert (code, out) == (1, "")
    assert err.startswith(text)


@pytest.mark.parametrize(
    "verb", ["members", "info", "join", "leave", "force-leave", "reload", "version", "agent"]
)
def test_help_is_on_stdout_and_no_error(callboard: Callboard, verb: str) -> None:
    code, out, _ = callboard(verb, "-h")
    assert code == 0
    assert out.startswith(f"Usage: callboard {verb}")


def test_version_is_told(callboard: Callboard) -> None:
    assert callboard("version")[1].startswith("Callboard v")
    assert "ConsulVersion" in json.loads(callboard("version", "-format=json")[1])


def test_keygen_makes_32_bytes_each_time_anew(callboard: Callboard) -> None:
    first, second = callboard("keygen")[1], callboard("keygen")[1]
    assert len(base64.b64decode(first)) == 32
    assert first != second


def test_keygen_writes_a_new_file_for_its_owner_alone(callboard: Callboard, tmp_path: Path) -> None:
    path = tmp_path / "gossip.key"
    assert callboard("keygen", "-out", str(path)) == (0, "", "")
    body = path.read_text("ascii")
    assert len(base64.b64decode(body)) == 32
    assert body.endswith("\n")
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_keygen_never_overwrites_a_key(callboard: Callboard, tmp_path: Path) -> None:
    path = tmp_path / "gossip.key"
    path.write_text("the key of the cluster\n")
    expected = f"{path} is there already; a key is never overwritten\n"
    assert callboard("keygen", "-out", str(path)) == (1, "", expected)
    assert path.read_text() == "the key of the cluster\n"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("none/a", "No such file or directory"),
        ("a/", "Is a directory"),
        ("", "No such file or directory"),
        ("n" * 300, "File name too long"),
    ],
)
def test_keygen_tells_in_one_line_why_it_cannot_write(
    callboard: Callboard, tmp_path: Path, name: str, reason: str
) -> None:
    path = f"{tmp_path}/{name}" if name else ""
    code, out, err = callboard("keygen", "-out", path)
    assert (code, out) == (1, "")
    assert err == f"Error writing the key to {path!r}: {reason}\n"


def test_validate_accepts_the_example(callboard: Callboard, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"ports": {"dns": -1}, "log_level": "debug"}')
    assert callboard("validate", str(tmp_path)) == (0, "Configuration is valid!\n", "")
    assert callboard("validate", "-quiet", str(tmp_path)) == (0, "", "")


def test_validate_names_file_and_key(callboard: Callboard, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"prots": {}}')
    code, _, err = callboard("validate", str(tmp_path))
    assert code == 1
    assert err == f"Config validation failed: {path}: invalid config key prots\n"


def test_validate_sees_what_does_not_fit_together(callboard: Callboard, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"bootstrap": true}')
    code, _, err = callboard("validate", str(tmp_path))
    assert code == 1
    assert err == "Config validation failed: 'bootstrap = true' requires 'server = true'\n"


def test_a_list_of_addresses_is_tried_in_turn(agent: ScriptedHttp, callboard: Callboard) -> None:
    agent.on("PUT", "/v1/agent/reload", "")
    addresses = f"{refusing_address()},{agent.address}"
    assert callboard("reload", CALLBOARD_HTTP_ADDR=addresses)[0] == 0


def test_our_variable_wins_over_that_of_consul(agent: ScriptedHttp, callboard: Callboard) -> None:
    agent.on("PUT", "/v1/agent/reload", "")
    code, _, _ = callboard(
        "reload", CONSUL_HTTP_ADDR=refusing_address(), CALLBOARD_HTTP_ADDR=agent.address
    )
    assert code == 0


def test_the_flag_wins_over_variables(agent: ScriptedHttp, callboard: Callboard) -> None:
    agent.on("PUT", "/v1/agent/reload", "")
    code, _, _ = callboard(
        "reload", f"-http-addr=http://{agent.address}", CONSUL_HTTP_ADDR=refusing_address()
    )
    assert code == 0


def test_an_address_without_sense_is_told(callboard: Callboard) -> None:
    code, _, err = callboard("reload", "-http-addr=ftp://x")
    assert code == 1
    assert err.startswith("Error connecting to Consul agent: address 'ftp://x'")


def test_the_token_is_sent(agent: ScriptedHttp, callboard: Callboard, tmp_path: Path) -> None:
    agent.on("PUT", "/v1/agent/reload", "")
    (tmp_path / "token").write_text("from-file\n")
    callboard("reload", CONSUL_HTTP_TOKEN="from-variable")
    callboard("reload", "-token=from-flag", CONSUL_HTTP_TOKEN="from-variable")
    callboard("reload", CONSUL_HTTP_TOKEN_FILE=f"{tmp_path}/token")
    callboard("reload")
    assert [asked.headers.get("x-consul-token") for asked in agent.asked] == [
        *("from-variable", "from-flag", "from-file", None)
    ]


def test_a_token_file_that_is_not_there_is_told(callboard: Callboard) -> None:
    code, _, err = callboard("reload", "-token-file=/nowhere")
    assert code == 1
    assert err.startswith("Error connecting to Consul agent: Error loading token file: ")


def test_basic_auth_is_sent(agent: ScriptedHttp, callboard: Callboard) -> None:
    agent.on("PUT", "/v1/agent/reload", "")
    callboard("reload", CONSUL_HTTP_AUTH="user:secret")
    assert agent.asked[0].headers["authorization"] == "Basic dXNlcjpzZWNyZXQ="


def test_an_agent_that_cannot_start_says_why(callboard: Callboard) -> None:
    code, out, err = callboard("agent", "-server")
    assert (code, out, err) == (1, "", "==> data_dir cannot be empty\n")
    assert callboard("agent", "-frob")[2] == (
        "error parsing flags: flag provided but not defined: -frob\n"
    )
