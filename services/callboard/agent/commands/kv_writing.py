"""The writing half of `callboard kv`: put, delete, import."""

from __future__ import annotations

import base64
import binascii
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from callboard.agent.commands.api import Agent, Failed, call_agent, failing, flag_set
from callboard.chassis import flags
from callboard.chassis.flags import Parsed
from callboard.client.errors import ClientError

PUT = flag_set(
    "Usage: callboard kv put [options] KEY [DATA]\n\n"
    "  Writes a key. DATA that begins with @ names a file; - alone is standard input.",
    flags.switch("base64", "DATA is base64: write what it stands for"),
    flags.switch("cas", "write only if the key's index is still -modify-index (0: no such key)"),
    flags.number("modify-index", "with -cas: the key's ModifyIndex as it was read"),
    flags.number("flags", "a number kept with the key"),
    flags.text("session", "session that acquires or releases"),
    flags.switch("acquire", "lock the key for -session"),
    flags.switch("release", "unlock the key of -session"),
)

DELETE = flag_set(
    "Usage: callboard kv delete [options] KEY_OR_PREFIX\n\n  Deletes a key, or all below a prefix.",
    flags.switch("recurse", "delete every key below the prefix"),
    flags.switch("cas", "delete only if the key's index is still -modify-index"),
    flags.number("modify-index", "with -cas: the key's ModifyIndex as it was read"),
)

IMPORT = flag_set(
    "Usage: callboard kv import [options] [DATA]\n\n"
    "  Writes the keys of a JSON text that `callboard kv export` made. DATA that begins with @\n"
    "  names a file; - alone is standard input.",
    flags.text("prefix", "put this before every key"),
)


def run_put(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """`callboard kv put`."""
    return call_agent(PUT, argv, environ, _put)


def run_delete(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """`callboard kv delete`."""
    return call_agent(DELETE, argv, environ, _delete)


def run_import(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """`callboard kv import`."""
    return call_agent(IMPORT, argv, environ, _import)


def _put(parsed: Parsed, agent: Agent) -> int:
    key, data = _key_and_data(parsed.args)
    if parsed.switch("cas") and not parsed.given("modify-index"):
        raise Failed("Must specify -modify-index with -cas!")
    if parsed.switch("base64"):
        try:
            data = base64.b64decode(data, validate=True)
        except (binascii.Error, ValueError) as problem:
            raise Failed(f"Error! Cannot base 64 decode data: {problem}") from problem
    query, refused = _put_query(parsed, key)
    cas = parsed.switch("cas")
    with failing(f"Error! Did not write to {key}" if cas else "Error! Failed writing data"):
        answer = agent.write("PUT", f"kv/{key}", query, data)
    if answer.text != "true":
        raise Failed(refused or f"Error! Did not write to {key}")
    print(_success(parsed, key))
    return 0


def _put_query(parsed: Parsed, key: str) -> tuple[list[tuple[str, str]], str]:
    """The query, and the text for an answer of `false`."""
    query = []
    if parsed.number("flags"):
        query.append(("flags", str(parsed.number("flags"))))
    if parsed.switch("cas"):
        query.append(("cas", str(parsed.number("modify-index"))))
        return query, f"Error! Did not write to {key}: CAS failed"
    for word in ("acquire", "release"):
        if parsed.switch(word):
            if not parsed.text("session"):
                raise Failed(f"Error! Missing -session (required with -{word})")
            query.append((word, parsed.text("session")))
            return query, f"Error! Did not {word} lock"
    return query, ""


def _success(parsed: Parsed, key: str) -> str:
    if parsed.switch("acquire"):
        return f"Success! Lock acquired on: {key}"
    if parsed.switch("release"):
        return f"Success! Lock released on: {key}"
    return f"Success! Data written to: {key}"


def _key_and_data(words: Sequence[str]) -> tuple[str, bytes]:
    if not words or not words[0].removeprefix("/"):
        raise Failed("Error! Missing KEY argument")
    if len(words) > 2:
        raise Failed(f"Error! Too many arguments (expected 1 or 2, got {len(words)})")
    if words[0].startswith("/"):
        raise Failed(
            f"Error! Failed writing data: Invalid key. Key must not begin with a '/': {words[0]}"
        )
    return words[0], _data(words[1]) if len(words) == 2 else b""


def _data(word: str) -> bytes:
    """DATA as given, or what it names."""
    try:
        if word == "-":
            return sys.stdin.buffer.read()
        if word.startswith("@"):
            return Path(word[1:]).read_bytes()
    except OSError as problem:
        reason = (problem.strerror or str(problem)).lower()
        if word != "-":
            raise Failed(f"Error! Failed to read file: open {word[1:]}: {reason}") from problem
        raise Failed(f"Error! Failed to read stdin: {reason}") from problem
    return word.encode("utf-8", "surrogateescape")


def _delete(parsed: Parsed, agent: Agent) -> int:
    recurse, cas = parsed.switch("recurse"), parsed.switch("cas")
    if len(parsed.args) > 1:
        raise Failed(f"Too many arguments (expected 1, got {len(parsed.args)})")
    key = parsed.args[0].removeprefix("/") if parsed.args else ""
    if not key and not recurse:  # all keys are below "", as Consul has it
        raise Failed("Error! Missing KEY argument")
    if cas and recurse:
        raise Failed("Cannot specify both -cas and -recurse!")
    if cas and not parsed.number("modify-index"):
        raise Failed("Must specify -modify-index with -cas!")
    if parsed.number("modify-index") and not cas:
        raise Failed("Cannot specify -modify-index without -cas!")
    query = [("recurse", "")] if recurse else []
    if cas:
        query = [("cas", str(parsed.number("modify-index")))]
    what = f"Error! Did not delete {'prefix' if recurse else 'key'} {key}"
    with failing(what):
        answer = agent.write("DELETE", f"kv/{key}", query)
    if cas and answer.text != "true":
        raise Failed(f"{what}: CAS failed")
    print(f"Success! Deleted {'keys with prefix' if recurse else 'key'}: {key}")
    return 0


def _import(parsed: Parsed, agent: Agent) -> int:
    if len(parsed.args) > 1:
        raise Failed(f"Error! Too many arguments (expected 1, got {len(parsed.args)})")
    if not parsed.args:
        raise Failed("Error! Missing DATA argument")
    entries = _entries(_data(parsed.args[0]))
    for key, number, value in entries:
        name = parsed.text("prefix") + key
        try:
            agent.write("PUT", f"kv/{name}", [("flags", str(number))], value)
        except ClientError as problem:
            raise Failed(f"Error! Failed writing data for key {name}: {problem}") from problem
        print(f"Imported: {name}")
    return 0


def _entries(data: bytes) -> list[tuple[str, int, bytes]]:
    """(key, flags, value) of an exported text; all are checked before the first is written."""
    try:
        rows = json.loads(data)
        return [
            (
                str(row["key"]),
                int(row.get("flags") or 0),
                base64.b64decode(row.get("value") or "", validate=True),
            )
            for row in rows
        ]
    except (ValueError, TypeError, KeyError, AttributeError) as problem:
        raise Failed(f"Cannot unmarshal data: {problem}") from problem
