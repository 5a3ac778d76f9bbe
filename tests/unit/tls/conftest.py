"""`callboard tls` in a directory of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import pytest

from callboard.chassis import command


@dataclass(frozen=True, slots=True)
class Done:
    """What a command said, and its exit code."""

    code: int
    out: str
    err: str


class Tool:
    """Runs `callboard tls` in `directory`."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.directory = directory
        self._capsys = capsys
        # found while everything may be read: a test takes its rights away
        self._run = import_module(command.find_verb("tls") or "").run

    def __call__(self, line: str, **environ: str) -> Done:
        """Run one command line, its words apart by spaces."""
        self._capsys.readouterr()
        code = self._run(line.split(), environ)
        said = self._capsys.readouterr()
        return Done(code, said.out, said.err)

    def good(self, line: str) -> str:
        """Run one that must end with 0; answer its output."""
        done = self(line)
        assert done.code == 0, done
        return done.out

    def refused(self, line: str) -> str:
        """Run one that must end with 1 and one line; answer the line."""
        done = self(line)
        assert done.code == 1, done
        assert done.err.count("\n") == 1 and done.err.endswith("\n"), done.err
        return done.err.rstrip("\n")


@contextmanager
def powerless(directory: Path) -> Iterator[None]:
    """Let nobody write to a directory, for a while: not even root, who becomes another user."""
    root = os.geteuid() == 0
    for path in directory.iterdir():
        os.chown(path, 65534 if root else -1, -1)
    directory.chmod(0o555)
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        directory.chmod(0o755)


@pytest.fixture
def tls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Tool:
    """Run `callboard tls` in an empty directory."""
    monkeypatch.chdir(tmp_path)
    return Tool(tmp_path, capsys)


@pytest.fixture
def with_ca(tls: Tool) -> Tool:
    """Run it where a CA has been made."""
    tls.good("ca create")
    return tls
