"""The door: what make says when something is not there."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from make.programs import ROOT

Make = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Run make with a `docker` that answers nothing."""
    docker = tmp_path / "docker"
    docker.write_text("#!/bin/sh\nexit 1\n")
    docker.chmod(0o755)

    def run(*argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["make", "--no-print-directory", *argv],
            cwd=ROOT,
            env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    return run


def test_make_alone_lists_the_targets(make: Make) -> None:
    text = make().stdout
    for target in ("up", "down", "run", "test", "check", "bench", "lock", "clean"):
        assert f"  {target} " in text


@pytest.mark.parametrize("target", ["up", "images", "base-image", "environment"])
def test_without_an_engine_make_names_make_run(make: Make, target: str) -> None:
    result = make(target)
    assert result.returncode != 0
    assert "No container engine answers" in result.stderr
    assert "make run" in result.stderr
