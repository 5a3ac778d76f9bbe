"""The repository's own files, as the tests in tests/tidy look at them."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_BINARY = frozenset({".png", ".ico", ".gz", ".bin", ".woff2", ".webm"})


@cache
def tracked() -> tuple[str, ...]:
    """Return the paths below ROOT that are, or are about to be, in the repository."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    return tuple(path for path in sorted(set(listed)) if (ROOT / path).is_file())


def texts() -> Iterator[tuple[str, str]]:
    """Yield path and content of every tracked text file."""
    for path in tracked():
        if Path(path).suffix not in _BINARY:
            yield path, (ROOT / path).read_text("utf-8")


@dataclass(frozen=True, slots=True)
class Module:
    """A Python file."""

    path: str
    text: str
    tree: ast.Module

    @property
    def dotted(self) -> str:
        """Return its import name, for a file below a source root; else its path with dots."""
        parts = Path(self.path).with_suffix("").parts
        if parts[0] in ("libs", "services"):
            parts = parts[1:]
        return ".".join(part for part in parts if part != "__init__")

    def imports(self) -> Iterator[tuple[int, str]]:
        """Yield line and full name of everything imported, relative imports resolved.

        `from a import b` yields `a.b`, since b may be a module.
        """
        package = self.dotted.split(".")
        if not self.path.endswith("__init__.py"):
            package = package[:-1]
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((node.lineno, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                kept = package[: len(package) - node.level + 1] if node.level else []
                base = ".".join([*kept, *([node.module] if node.module else [])])
                yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)

    def calls(self) -> Iterator[tuple[ast.Call, str]]:
        """Yield every call with the source of what is called."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call):
                yield node, ast.unparse(node.func)


@cache
def modules() -> tuple[Module, ...]:
    """Return every tracked Python file."""
    found = []
    for path in tracked():
        if path.endswith(".py"):
            text = (ROOT / path).read_text("utf-8")
            found.append(Module(path, text, ast.parse(text, path)))
    return tuple(found)


def programs_code() -> tuple[Module, ...]:
    """Return the modules of both source roots."""
    return tuple(m for m in modules() if m.path.startswith(("libs/", "services/")))
