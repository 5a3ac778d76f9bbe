"""`callboard members`: Consul's columns, which scripts parse."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.harness.scripted_http import ScriptedHttp, refusing_address

Callboard = Callable[..., tuple[int, str, str]]

SERVER_TAGS = {"role": "consul", "dc": "dc1", "build": "1.22.0:abc", "vsn": "2", "id": "u-1"}
CLIENT_TAGS = {"role": "node", "dc": "dc1", "build": "1.22.0:", "vsn": "2"}
MEMBERS = [
    {"Name": "z-client", "Addr": "fd00::4", "Port": 8301, "Status": 4, "Tags": CLIENT_TAGS},
    {"Name": "b", "Addr": "127.0.0.2", "Port": 8301, "Status": 3, "Tags": SERVER_TAGS},
    {"Name": "agent-1", "Addr": "127.0.0.1", "Port": 8301, "Status": 1, "Tags": SERVER_TAGS},
]
TARGET = "/v1/agent/members?segment=_all"


def test_the_table_has_the_columns_of_consul(agent: ScriptedHttp, callboard: Callboard) -> None:
    agent.on("GET", TARGET, MEMBERS)
    code, out, _ = callboard("members")
    assert code == 0
    assert out.splitlines() == [
        "Node      Address         Status  Type    Build   Protocol  DC   Segment",
        "agent-1   127.0.0.1:8301  alive   server  1.22.0  2         dc1  <all>",
        "b         127.0.0.2:8301  left    server  1.22.0  2         dc1  <all>",
        "z-client  [fd00::4]:8301  failed  client  1.22.0  2         dc1  <default>",
    ]


def test_detailed_shows_sorted_tags(agent: ScriptedHttp, callboard: Callboard) -> None:
    agent.on("GET", TARGET, MEMBERS[2:])
    _, out, _ = callboard("members", "-detailed")
    assert out.splitlines() == [
        "Node     Address         Status  Tags",
        "agent-1  127.0.0.1:8301  alive   "
        "build=1.22.0:abc,dc=dc1,id=u-1,role=consul,segment=<all>,vsn=2",
    ]


def test_status_selects_by_regular_expression(agent: ScriptedHttp, callboard: Callboard) -> None:
    agent.on("GET", TARGET, MEMBERS)
    _, out, _ = callboard("members", "--status=^(left|failed)$")
    assert [line.split()[0] for line in out.splitlines()[1:]] == ["b", "z-client"]


def test_no_member_that_matches_is_exit_code_2(agent: ScriptedHttp, callboard: Callboard) -> None:
    agent.on("GET", TARGET, MEMBERS)
    assert callboard("members", "-status", "leaving") == (2, "", "")


def test_a_bad_regular_expression_is_told(callboard: Callboard) -> None:
    code, _, err = callboard("members", "-status", "(")
    assert code == 1
    assert err.startswith("Failed to compile status regexp: ")


def test_wan_asks_the_other_pool(agent: ScriptedHttp, callboard: Callboard) -> None:
    agent.on("GET", "/v1/agent/members?wan=1", MEMBERS[2:])
    assert callboard("members", "-wan")[0] == 0


def test_a_segment_is_the_agents_to_refuse(agent: ScriptedHttp, callboard: Callboard) -> None:
    agent.on("GET", "/v1/agent/members?segment=x", "Network segments are not", status=500)
    code, _, err = callboard("members", "-segment=x")
    assert code == 1
    assert err.startswith("Error retrieving members: Unexpected response code: 500 (Network")


def test_an_unreachable_agent_is_told_in_the_words_of_go(callboard: Callboard) -> None:
    address = refusing_address()
    code, out, err = callboard("members", CONSUL_HTTP_ADDR=address)
    assert (code, out) == (1, "")
    assert err == (
        f'Error retrieving members: Get "http://{address}/v1/agent/members?segment=_all": '
        f"dial tcp {address}: connect: connection refused\n"
    )


def test_a_refusal_shows_code_and_text(agent: ScriptedHttp, callboard: Callboard) -> None:
    agent.on("GET", TARGET, "Permission denied", status=403)
    assert callboard("members")[2] == (
        "Error retrieving members: Unexpected response code: 403 (Permission denied)\n"
    )


@pytest.mark.parametrize("answer", ["{", "[1]", '{"a":1}'])
def test_an_answer_of_another_form_is_told(
    agent: ScriptedHttp, callboard: Callboard, answer: str
) -> None:
    agent.on("GET", TARGET, answer)
    code, _, err = callboard("members")
    assert code == 1
    assert err.startswith("the agent's answer ")
