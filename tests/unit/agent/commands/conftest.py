"""A fake agent, and verbs that speak with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from tests.harness.scripted_http import ScriptedHttp

from callboard.chassis.command import main

Callboard = Callable[..., tuple[int, str, str]]


@pytest.fixture
def agent() -> Iterator[ScriptedHttp]:
    with ScriptedHttp() as server:
        yield server


@pytest.fixture
def callboard(agent: ScriptedHttp, capfd: pytest.CaptureFixture[str]) -> Callboard:
    """Run `callboard WORDS` against the fake agent; (exit code, stdout, stderr)."""

    def run(*words: str, **environ: str) -> tuple[int, str, str]:
        code = main(words, {"CONSUL_HTTP_ADDR": agent.address, **environ})
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return run
