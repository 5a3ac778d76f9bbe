"""Programs write files by callboard.files, which shows nobody half of one; see decision 0015."""

from __future__ import annotations

import ast
import re

import pytest
from tests.harness.sources import modules, programs_code

MAY_WRITE = {
    "libs/callboard/files/": "this is callboard.files",
    "libs/callboard/feed/image.py": "large, and one name for what is unfinished",
    "libs/callboard/pki/verification.py": "a folder of our own, for the length of one handshake",
    "libs/callboard/testing/credentials.py": "a folder of our own, for the length of one test",
    "services/callboard/agent/consensus/disk.py": "the disk seam: a log of records",
    "services/callboard/agent/local/journal.py": "a failed fsync is fatal, a full disk is not",
    "services/callboard/agent/service.py": "the pid file, which root may have made",
}
"""Who writes files by other means, and why."""

OPENS = re.compile(r"^(?:[\w.]+\.)?(?:open|fdopen|mkstemp|NamedTemporaryFile)$")
WRITES = re.compile(r"\.(?:write_text|write_bytes)$")
RENAMES = re.compile(r"^os\.(?:replace|rename|renames|link)$")
WRITING_MODE = re.compile(r"^'[rbt]*[wx+][rwxbt+]*'$")
WRITING_FLAGS = re.compile(r"\bos\.O_(?:WRONLY|RDWR|CREAT|TRUNC)\b")


def writes(tree: ast.AST) -> list[ast.Call]:
    """The calls that make a file, or write one anew (one that appends is none of them)."""
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call) and _writes(node)]


def _writes(call: ast.Call) -> bool:
    called = ast.unparse(call.func)
    given = [*call.args, *(keyword.value for keyword in call.keywords)]
    words = [ast.unparse(argument) for argument in given]
    if WRITES.search(called) or RENAMES.match(called):
        return True
    if called.endswith(("mkstemp", "NamedTemporaryFile")):
        return True
    if not OPENS.match(called):
        return False
    return any(WRITING_MODE.match(word) or WRITING_FLAGS.search(word) for word in words)


def _reasons(path: str) -> list[str]:
    return [allowed for allowed in MAY_WRITE if path.startswith(allowed)]


def test_programs_write_files_by_callboard_files() -> None:
    wrong = [
        f"{module.path}:{node.lineno} {ast.unparse(node)[:80]}"
        for module in programs_code()
        if not _reasons(module.path)
        for node in writes(module.tree)
        if not _is_null(node)
    ]
    assert not wrong


def _is_null(call: ast.Call) -> bool:
    """/dev/null keeps nothing."""
    return bool(call.args) and ast.unparse(call.args[0]) == "os.devnull"


def test_no_reason_outlives_what_it_excused() -> None:
    needed = {
        allowed
        for module in programs_code()
        if writes(module.tree)
        for allowed in _reasons(module.path)
    }
    assert needed == set(MAY_WRITE)


@pytest.mark.parametrize(
    "code",
    [
        "open(path, 'w')",
        "open(path, mode='wb')",
        "path.open('w+')",
        "open(path, 'x')",
        "open(path, 'r+b')",
        "io.open(path, 'wt', encoding='utf-8')",
        "key_path.write_bytes(body)",
        "(folder / name).write_text(text)",
        "os.open(path, os.O_WRONLY | os.O_CREAT)",
        "os.replace(a, b)",
        "tempfile.mkstemp()",
    ],
)
def test_the_rule_sees_what_writes(code: str) -> None:
    assert len(writes(ast.parse(code))) == 1


@pytest.mark.parametrize(
    "code",
    [
        "open(path)",
        "open(path, 'rb')",
        "open(path, 'a')",
        "create(path, 'x')",
        "replace(path, 'w')",
        "os.open(folder, os.O_RDONLY)",
        "text.replace('w', 'x')",
        "sys.stdout.write('w')",
        "urlopen(url, 'w')",
    ],
)
def test_the_rule_lets_pass_what_does_not(code: str) -> None:
    assert writes(ast.parse(code)) == []


def test_the_rule_looks_at_programs() -> None:
    assert {module.path.split("/")[0] for module in programs_code()} == {"libs", "services"}
    assert len(programs_code()) < len(modules())
