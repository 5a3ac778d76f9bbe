"""`callboard keyring`, in the words and with the exit codes of Consul 1.8.7's."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from tests.harness.scripted_http import ScriptedHttp

Callboard = Callable[..., tuple[int, str, str]]

OLD = "G1d45zuYf2HiwlcfXo4lnutvTf779oV0Dr1rSvYW3UY="
NEW = "DkIndK1kN5/JApGpbQ1iC1/IlRght1h3T/KiQqeWTso="
PATH = "/v1/operator/keyring"
LAN = {
    "WAN": False,
    "Datacenter": "dc1",
    "Segment": "",
    "Keys": {OLD: 3, NEW: 2},
    "PrimaryKeys": {OLD: 3},
    "NumNodes": 3,
}


def test_list_shows_how_many_agents_have_each_key(
    agent: ScriptedHttp, callboard: Callboard
) -> None:
    agent.on("GET", PATH, [{**LAN, "WAN": True}, LAN])
    assert callboard("keyring", "-list") == (
        0,
        "==> Gathering installed encryption keys...\n"
        f"\nWAN:\n  {NEW} [2/3]\n  {OLD} [3/3]\n"
        f"\ndc1 (LAN):\n  {NEW} [2/3]\n  {OLD} [3/3]\n",
        "",
    )


def test_list_primary_shows_what_agents_encrypt_by(
    agent: ScriptedHttp, callboard: Callboard
) -> None:
    agent.on("GET", PATH, [LAN])
    assert callboard("keyring", "-list-primary")[1] == (
        f"==> Gathering installed primary encryption keys...\n\ndc1 (LAN):\n  {OLD} [3/3]\n"
    )


def test_list_shows_what_agents_had_to_say(agent: ScriptedHttp, callboard: Callboard) -> None:
    agent.on("GET", PATH, [{**LAN, "Messages": {"b": "truncated"}}])
    assert "dc1 (LAN):\n  ===> b: truncated\n" in callboard("keyring", "-list")[1]


@pytest.mark.parametrize(
    ("action", "method", "text"),
    [
        ("install", "POST", "Installing new gossip encryption key..."),
        ("use", "PUT", "Changing primary gossip encryption key..."),
        ("remove", "DELETE", "Removing gossip encryption key..."),
    ],
)
def test_change_is_told_and_asked_for(
    agent: ScriptedHttp, callboard: Callboard, action: str, method: str, text: str
) -> None:
    agent.on(method, PATH, "")
    assert callboard("keyring", f"-{action}", NEW) == (0, f"==> {text}\n", "")
    assert json.loads(agent.asked[-1].body) == {"Key": NEW}


def test_failure_is_exit_code_1_with_every_agents_words(
    agent: ScriptedHttp, callboard: Callboard
) -> None:
    said = "1 error occurred:\n\t* dc1 (LAN) error: 2/3 nodes reported success\n\n"
    agent.on("PUT", PATH, said, status=500)
    code, out, err = callboard("keyring", "-use", NEW)
    assert (code, out) == (1, "==> Changing primary gossip encryption key...\n")
    assert err == f"error: Unexpected response code: 500 ({said.strip()})\n"


def test_relay_factor_and_local_only_are_parameters(
    agent: ScriptedHttp, callboard: Callboard
) -> None:
    agent.on("GET", f"{PATH}?relay-factor=3&local-only=true", [LAN])
    assert callboard("keyring", "-list", "-relay-factor=3", "-local-only")[0] == 0
    agent.on("POST", f"{PATH}?relay-factor=5", "")
    assert callboard("keyring", "-install", NEW, "-relay-factor=5")[0] == 0


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "Usage: callboard keyring [options]"),
        (["-list", "-use", NEW], "Only a single action is allowed\n"),
        (["-list", "-list-primary"], "Only a single action is allowed\n"),
        (
            ["-list", "-relay-factor=9"],
            "Error parsing relay factor: Relay factor must be in range: [0, 5]\n",
        ),
        (
            ["-install", NEW, "-local-only"],
            "Error validating local-only: local-only can only be set for list requests\n",
        ),
    ],
)
def test_a_command_line_without_sense_asks_nobody(
    agent: ScriptedHttp, callboard: Callboard, words: list[str], text: str
) -> None:
    code, out, err = callboard("keyring", *words)
    assert (code, out) == (1, "")
    assert err.startswith(text)
    assert agent.asked == []
