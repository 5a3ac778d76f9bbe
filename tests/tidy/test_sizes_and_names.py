"""Files and functions stay small, and names say what is in them."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.harness.sources import modules, tracked

FILE_LINES_MAX = 500
TEST_FILE_LINES_MAX = 800
FUNCTION_LINES_MAX = 60
SAY_NOTHING = {"utils", "util", "helpers", "helper", "common", "misc", "base", "manager", "kit"}


def _lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The lines of a function without its docstring."""
    total = (function.end_lineno or 0) - function.lineno + 1
    first = function.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
        total -= (first.end_lineno or 0) - first.lineno + 1
    return total


def test_files_are_short() -> None:
    long = {
        module.path: count
        for module in modules()
        if (count := len(module.text.splitlines()))
        > (TEST_FILE_LINES_MAX if module.path.startswith("tests/") else FILE_LINES_MAX)
    }
    assert not long


def test_functions_are_short() -> None:
    long = {
        f"{module.path}:{node.lineno} {node.name}": _lines(node)
        for module in modules()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and _lines(node) > FUNCTION_LINES_MAX
    }
    assert not long


def test_no_file_or_folder_has_a_name_that_says_nothing() -> None:
    nameless = [
        path
        for path in tracked()
        if SAY_NOTHING & {Path(part).stem.lower() for part in Path(path).parts}
    ]
    assert not nameless


def test_the_namespace_has_no_init_file() -> None:
    """Two source roots share it (PEP 420): a file in one would hide the other."""
    assert not {"libs/callboard/__init__.py", "services/callboard/__init__.py"} & set(tracked())


def test_every_package_says_what_it_is() -> None:
    silent = [
        module.path
        for module in modules()
        if module.path.startswith(("libs/", "services/", "make/", "benchmarks/"))
        and ast.get_docstring(module.tree) is None
    ]
    assert not silent
