"""`callboard kv`: outputs, texts and exit codes of Consul's."""

from __future__ import annotations

import base64
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.harness.scripted_http import ScriptedHttp

from callboard.chassis.command import main

Callboard = Callable[..., tuple[int, str, str]]


def pair(key: str, value: bytes, index: int = 7) -> dict[str, object]:
    encoded = base64.b64encode(value).decode() if value else None
    return {"LockIndex": 0, "Key": key, "Flags": 42, "Value": encoded} | {
        "CreateIndex": 5,
        "ModifyIndex": index,
    }


def test_get_prints_the_value(agent: ScriptedHttp, callboard: Callboard) -> None:
    agent.on("GET", "/v1/kv/a/b", [pair("a/b", b"5")])
    assert callboard("kv", "get", "a/b") == (0, "5\n", "")


def test_a_slash_in_front_of_the_key_is_dropped(agent: ScriptedHttp, callboard: Callboard) -> None:
    agent.on("GET", "/v1/kv/a%20b", [pair("a b", b"5")])
    assert callboard("kv", "get", "/a b")[1] == "5\n"


def test_bytes_that_are_no_text_come_out_as_they_are(
    agent: ScriptedHttp, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    agent.on("GET", "/v1/kv/a", [pair("a", b"\xff\x00\xfe")])
    assert main(["kv", "get", "a"], {"CONSUL_HTTP_ADDR": agent.address}) == 0
    assert capfdbinary.readouterr().out == b"\xff\x00\xfe\n"


def test_get_of_a_missing_key_fails(agent: ScriptedHttp, callboard: Callboard) -> None:
    agent.on("GET", "/v1/kv/a", "", status=404)
    assert callboard("kv", "get", "a") == (1, "", "Error! No key exists at: a\n")


def test_detailed_lines_up(agent: ScriptedHttp, callboard: Callboard) -> None:
    agent.on("GET", "/v1/kv/a", [pair("a", b"5")])
    assert callboard("kv", "get", "-detailed", "a")[1].splitlines() == [
        "CreateIndex      5",
        "Flags            42",
        "Key              a",
        "LockIndex        0",
        "ModifyIndex      7",
        "Session          -",
        "Value            5",
    ]


def test_recurse_prints_key_and_value(agent: ScriptedHttp, callboard: Callboard) -> None:
    agent.on("GET", "/v1/kv/a?recurse=", [pair("a/1", b"x"), pair("a/2", b"")])
    assert callboard("kv", "get", "-recurse", "a")[1] == "a/1:x\na/2:\n"


def test_recurse_below_nothing_is_no_error(agent: ScriptedHttp, callboard: Callboard) -> None:
    agent.on("GET", "/v1/kv/a?recurse=", "", status=404)
    assert callboard("kv", "get", "-recurse", "a") == (0, "", "")


def test_base64_leaves_the_value_encoded(agent: ScriptedHttp, callboard: Callboard) -> None:
    agent.on("GET", "/v1/kv/a", [pair("a", b"5")])
    assert callboard("kv", "get", "-base64", "a")[1] == "NQ==\n"


def test_keys_are_cut_at_the_separator(agent: ScriptedHttp, callboard: Callboard) -> None:
    agent.on("GET", "/v1/kv/a?keys=&separator=-", ["a-1", "a-2-"])
    assert callboard("kv", "get", "-keys", "-separator=-", "a")[1] == "a-1\na-2-\n"


def test_stale_and_datacenter_are_sent(agent: ScriptedHttp, callboard: Callboard) -> None:
    agent.on("GET", "/v1/kv/a?dc=dc2&stale=", [pair("a", b"5")])
    assert callboard("kv", "get", "-stale", "-datacenter=dc2", "a")[0] == 0


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["get"], "Error! Missing KEY argument\n"),
        (["get", "/"], "Error! Missing KEY argument\n"),
        (["get", "a", "b"], "Too many arguments (expected 1, got 2)\n"),
        (["put"], "Error! Missing KEY argument\n"),
        (["put", "a", "b", "c"], "Error! Too many arguments (expected 1 or 2, got 3)\n"),
        (["put", "-acquire", "a"], "Error! Missing -session (required with -acquire)\n"),
        (["put", "-base64", "a", "!"], "Error! Cannot base 64 decode data: "),
        (
            ["put", "a", "@/nowhere"],
            "Error! Failed to read file: open /nowhere: no such file or directory\n",
        ),
        (["put", "-cas", "a", "1"], "Must specify -modify-index with -cas!\n"),
        (
            ["put", "/a", "1"],
            "Error! Failed writing data: Invalid key. Key must not begin with a '/': /a\n",
        ),
        (["delete", "a", "b"], "Too many arguments (expected 1, got 2)\n"),
        (["import"], "Error! Missing DATA argument\n"),
        (["delete"], "Error! Missing KEY argument\n"),
        (["delete", "-cas", "a"], "Must specify -modify-index with -cas!\n"),
        (["delete", "-modify-index=1", "a"], "Cannot specify -modify-index without -cas!\n"),
        (["delete", "-cas", "-recurse", "a"], "Cannot specify both -cas and -recurse!\n"),
        (["import", "@/nowhere"], "Error! Failed to read file: "),
    ],
)
def test_a_command_line_without_sense_is_told(
    callboard: Callboard, agent: ScriptedHttp, words: list[str], text: str
) -> None:
    code, out, err = callboard("kv", *words)
    assert (code, out) == (1, "")
    assert err.startswith(text)
    assert agent.asked == []


def test_put_writes(agent: ScriptedHttp, callboard: Callboard) -> None:
    agent.on("PUT", "/v1/kv/a", "true")
    assert callboard("kv", "put", "a", "5") == (0, "Success! Data written to: a\n", "")
    assert agent.asked[0].body == b"5"


def test_put_reads_a_file(agent: ScriptedHttp, callboard: Callboard, tmp_path: Path) -> None:
    agent.on("PUT", "/v1/kv/a?flags=9", "true")
    (tmp_path / "value").write_bytes(b"\x00\x01")
    callboard("kv", "put", "-flags=9", "a", f"@{tmp_path}/value")
    assert agent.asked[0].body == b"\x00\x01"


def test_put_reads_standard_input(
    agent: ScriptedHttp, callboard: Callboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent.on("PUT", "/v1/kv/a", "true")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"piped")))
    callboard("kv", "put", "a", "-")
    assert agent.asked[0].body == b"piped"


def test_put_without_data_writes_an_empty_value(agent: ScriptedHttp, callboard: Callboard) -> None:
    agent.on("PUT", "/v1/kv/a", "true")
    assert callboard("kv", "put", "a")[0] == 0
    assert agent.asked[0].body == b""


def test_put_decodes_base64(agent: ScriptedHttp, callboard: Callboard) -> None:
    agent.on("PUT", "/v1/kv/a", "true")
    callboard("kv", "put", "-base64", "a", "NQ==")
    assert agent.asked[0].body == b"5"


def test_put_that_lost_the_race_fails(agent: ScriptedHttp, callboard: Callboard) -> None:
    agent.on("PUT", "/v1/kv/a?cas=7", "false")
    code, _, err = callboard("kv", "put", "-cas", "-modify-index=7", "a", "5")
    assert (code, err) == (1, "Error! Did not write to a: CAS failed\n")


def test_put_that_was_refused_shows_why(agent: ScriptedHttp, callboard: Callboard) -> None:
    agent.on("PUT", "/v1/kv/a", "No cluster leader", status=500)
    code, _, err = callboard("kv", "put", "a", "5")
    assert code == 1
    assert err == (
        "Error! Failed writing data: Unexpected response code: 500 (No cluster leader)\n"
    )


def test_delete_tells_what_it_deleted(agent: ScriptedHttp, callboard: Callboard) -> None:
    agent.on("DELETE", "/v1/kv/a", "true")
    agent.on("DELETE", "/v1/kv/a/?recurse=", "true")
    assert callboard("kv", "delete", "a")[1] == "Success! Deleted key: a\n"
    assert callboard("kv", "delete", "-recurse", "a/")[1] == (
        "Success! Deleted keys with prefix: a/\n"
    )


def test_delete_of_all_needs_no_key(agent: ScriptedHttp, callboard: Callboard) -> None:
    agent.on("DELETE", "/v1/kv/?recurse=", "true")
    assert callboard("kv", "delete", "-recurse")[1] == "Success! Deleted keys with prefix: \n"


def test_detailed_leaves_nothing_behind_an_empty_value(
    agent: ScriptedHttp, callboard: Callboard
) -> None:
    agent.on("GET", "/v1/kv/a", [pair("a", b"")])
    assert callboard("kv", "get", "-detailed", "a")[1].endswith("Session          -\nValue\n")


def test_put_with_index_0_writes_a_new_key_only(agent: ScriptedHttp, callboard: Callboard) -> None:
    agent.on("PUT", "/v1/kv/a?cas=0", "true")
    assert callboard("kv", "put", "-cas", "-modify-index=0", "a", "5")[0] == 0


def test_delete_that_lost_the_race_fails(agent: ScriptedHttp, callboard: Callboard) -> None:
    agent.on("DELETE", "/v1/kv/a?cas=7", "false")
    code, _, err = callboard("kv", "delete", "-cas", "-modify-index=7", "a")
    assert (code, err) == (1, "Error! Did not delete key a: CAS failed\n")


def test_what_export_prints_import_writes(
    agent: ScriptedHttp, callboard: Callboard, tmp_path: Path
) -> None:
    agent.on("GET", "/v1/kv/a?recurse=", [pair("a/1", b"x"), pair("a/2", b"")])
    exported = callboard("kv", "export", "a")[1]
    assert json.loads(exported)[0] == {"key": "a/1", "flags": 42, "value": "eA=="}
    (tmp_path / "dump.json").write_text(exported)
    agent.on("PUT", "/v1/kv/a/1?flags=42", "true")
    agent.on("PUT", "/v1/kv/a/2?flags=42", "true")
    code, out, _ = callboard("kv", "import", f"@{tmp_path}/dump.json")
    assert (code, out) == (0, "Imported: a/1\nImported: a/2\n")
    assert [asked.body for asked in agent.asked[1:]] == [b"x", b""]


@pytest.mark.parametrize("text", ["{", "[1]", '[{"flags": 1}]', '[{"key":"a","value":"!"}]', "3"])
def test_import_of_another_form_writes_nothing(
    agent: ScriptedHttp, callboard: Callboard, tmp_path: Path, text: str
) -> None:
    (tmp_path / "dump.json").write_text(text)
    code, _, err = callboard("kv", "import", f"@{tmp_path}/dump.json")
    assert code == 1
    assert err.startswith("Cannot unmarshal data: ")
    assert agent.asked == []


@pytest.mark.parametrize("words", [[], ["frob"]])
def test_without_a_verb_of_its_own_it_shows_help(callboard: Callboard, words: list[str]) -> None:
    code, _, err = callboard("kv", *words)
    assert code == 1
    assert err.startswith("Usage: callboard kv <subcommand>")
