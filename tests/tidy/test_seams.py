"""What may be done in one place only: read the environment, sleep, skip."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.harness.sources import Module, modules, programs_code

READ_THE_ENVIRONMENT = ("__main__.py", "libs/callboard/chassis/command.py")
ENVIRONMENT = ("os.environ", "os.getenv", "os.environb", "os.putenv")
MAY_SLEEP = ("tests/harness/eventually.py", "tests/harness/simulation/")
"""The second sleeps in virtual time."""
MAY_SKIP = ("tests/harness/capabilities.py",)


def _tests() -> list[Module]:
    return [module for module in modules() if module.path.startswith("tests/")]


def test_the_environment_is_read_in_main_only() -> None:
    wrong = [
        f"{module.path}:{node.lineno}"
        for module in programs_code()
        if not module.path.endswith(READ_THE_ENVIRONMENT)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ENVIRONMENT
    ]
    assert not wrong


def test_no_test_sleeps_in_the_hope_that_something_has_happened() -> None:
    """A test polls with a deadline: tests.harness.eventually.

    No wait of that kind: one inside a loop (a slow client's pace), one whose length is an argument
    (a server that dawdles), and one that says on its line why the time itself is what is tested.
    """
    wrong = [
        f"{module.path}:{node.lineno}"
        for module in _tests()
        if not module.path.startswith(MAY_SLEEP)
        for node in _sleeps(module.tree)
        if "noqa: ASYNC251 - " not in module.text.splitlines()[node.lineno - 1]
    ]
    assert not wrong


def _sleeps(tree: ast.Module) -> list[ast.Call]:
    """Return calls that sleep for a number of seconds, outside `while` loops."""
    paced = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.While)
        for inner in ast.walk(node)
    }
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("time.sleep", "sleep", "asyncio.sleep")
        and isinstance(node.args[0], ast.Constant)
        and node.args[0].value not in (0, 3600)
        and id(node) not in paced
    ]


def test_no_test_mocks() -> None:
    wrong = [
        f"{module.path}:{line} {name}"
        for module in _tests()
        for line, name in module.imports()
        if name.startswith("unittest") or name.split(".")[0] in ("mock", "pytest_mock")
    ]
    assert not wrong


def test_tests_are_skipped_by_capability_only() -> None:
    """`require(...)` names what is missing; nothing else skips."""
    marks = re.compile(r"^pytest\.(skip|importorskip|mark\.skip(if)?|mark\.xfail|xfail)$")
    wrong = [
        f"{module.path}:{node.lineno} {ast.unparse(node)}"
        for module in _tests()
        if module.path not in MAY_SKIP
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute) and marks.match(ast.unparse(node))
    ]
    assert not wrong


def test_what_a_checker_is_told_to_ignore_is_named() -> None:
    blanket = re.compile(r"#\s*(type:\s*ignore(?!\[)|noqa(?!:\s*[A-Z]+[0-9]+))")
    wrong = [
        f"{module.path}:{number}"
        for module in modules()
        if module.path != "tests/tidy/test_seams.py"
        for number, line in enumerate(module.text.splitlines(), start=1)
        if blanket.search(line)
    ]
    assert not wrong


def test_programs_do_not_run_without_assertions() -> None:
    """Invariants are asserted in production code: nothing starts Python with -O."""
    wrong = [
        path
        for path in ("Dockerfile", "docker-compose.yml", "Makefile")
        if re.search(r"PYTHONOPTIMIZE|python3? -O", (Path(path)).read_text())
    ]
    assert not wrong
