"""Reads and writes the key/value store."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Mapping, Sequence

from callboard.agent.commands.api import (
    Agent,
    Failed,
    call_agent,
    dispatch,
    failing,
    flag_set,
    parsed_json,
    rows_of,
)
from callboard.agent.commands.kv_writing import run_delete, run_import, run_put
from callboard.chassis import flags
from callboard.chassis.flags import Parsed

USAGE = """Usage: callboard kv <subcommand> [options] [args]

  Reads and writes the key/value store.

      callboard kv put redis/config/connections 5
      callboard kv get redis/config/connections
      callboard kv get -recurse redis/
      callboard kv delete redis/config/connections
      callboard kv export redis/ > redis.json
      callboard kv import @redis.json"""

GET = flag_set(
    "Usage: callboard kv get [options] [KEY_OR_PREFIX]\n\n  Prints a key's value.",
    flags.switch("base64", "print the value in base64"),
    flags.switch("detailed", "print everything that is known of the key"),
    flags.switch("keys", "list the keys below a prefix"),
    flags.switch("recurse", "print every key below a prefix"),
    flags.text("separator", "with -keys: cut keys after this string", "/"),
)

EXPORT = flag_set(
    "Usage: callboard kv export [options] [PREFIX]\n\n"
    "  Prints all keys below a prefix as JSON, for `callboard kv import`.",
)


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """`callboard kv`."""
    verbs = {
        "get": _run_get,
        "put": run_put,
        "delete": run_delete,
        "export": _run_export,
        "import": run_import,
    }
    return dispatch(USAGE, verbs, argv, environ)


def _run_get(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    return call_agent(GET, argv, environ, _get)


def _run_export(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    return call_agent(EXPORT, argv, environ, _export)


def _get(parsed: Parsed, agent: Agent) -> int:
    many = parsed.switch("keys") or parsed.switch("recurse")
    if not parsed.args and not many:
        raise Failed("Error! Missing KEY argument")
    if len(parsed.args) > 1:
        raise Failed(f"Too many arguments (expected 1, got {len(parsed.args)})")
    key = parsed.args[0].removeprefix("/") if parsed.args else ""
    if not key and not many:
        raise Failed("Error! Missing KEY argument")
    if parsed.switch("keys"):
        return _print_keys(agent, key, parsed.text("separator"))
    pairs = _pairs(agent, key, [("recurse", "")] if parsed.switch("recurse") else [])
    if not pairs and not parsed.switch("recurse"):
        raise Failed(f"Error! No key exists at: {key}")
    for number, pair in enumerate(pairs):
        _print_pair(parsed, pair, first=number == 0)
    return 0


def _print_keys(agent: Agent, prefix: str, separator: str) -> int:
    with failing("Error! Failed querying Consul agent"):
        query = [("keys", ""), ("separator", separator)]
        answer = agent.get(f"kv/{prefix}", query, accept=(200, 404))
    found = parsed_json(answer) if answer.status == 200 else []
    for key in found if isinstance(found, list) else ():
        print(key)
    return 0


def _pairs(agent: Agent, key: str, query: Sequence[tuple[str, str]]) -> list[Mapping[str, object]]:
    """The key, or all below it; none when it does not exist."""
    with failing("Error querying Consul agent"):
        answer = agent.get(f"kv/{key}", query, accept=(200, 404))
    return rows_of(parsed_json(answer)) if answer.status == 200 else []


def _print_pair(parsed: Parsed, pair: Mapping[str, object], *, first: bool) -> None:
    encoded = str(pair.get("Value") or "")
    value = encoded.encode() if parsed.switch("base64") else base64.b64decode(encoded)
    if parsed.switch("detailed"):
        lead = _detailed(pair) if first else "\n" + _detailed(pair)
    else:
        lead = f"{pair.get('Key')}:" if parsed.switch("recurse") else ""
    sys.stdout.flush()
    if parsed.switch("detailed") and not value:
        lead = lead.rstrip()
    sys.stdout.buffer.write(lead.encode() + value + b"\n")
    sys.stdout.buffer.flush()


def _detailed(pair: Mapping[str, object]) -> str:
    """Everything but the value, which may be no text and is written as its bytes."""
    rows = {
        "CreateIndex": pair.get("CreateIndex"),
        "Flags": pair.get("Flags"),
        "Key": pair.get("Key"),
        "LockIndex": pair.get("LockIndex"),
        "ModifyIndex": pair.get("ModifyIndex"),
        "Session": pair.get("Session") or "-",
        "Value": "",
    }
    return "\n".join(f"{name:<17}{word}" for name, word in rows.items())


def _export(parsed: Parsed, agent: Agent) -> int:
    if len(parsed.args) > 1:
        raise Failed(f"Error! Too many arguments (expected 1, got {len(parsed.args)})")
    prefix = parsed.args[0].removeprefix("/") if parsed.args else ""
    pairs = _pairs(agent, prefix, [("recurse", "")])
    rows = [
        {"key": pair.get("Key"), "flags": pair.get("Flags"), "value": pair.get("Value") or ""}
        for pair in pairs
    ]
    print(json.dumps(rows, indent="\t"))
    return 0
