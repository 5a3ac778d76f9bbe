"""`make run` goes on when one of its programs ends, and says how to bring it back."""

from __future__ import annotations

import shlex
import subprocess
import sys
import threading

import pytest
from make import run
from tests.harness.eventually import eventually_sync


def program(code: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", code])


def test_the_others_go_on_when_one_program_ends(capsys: pytest.CaptureFixture[str]) -> None:
    programs = {"agent-1": program("import signal; signal.pause()"), "agent-2": program("")}
    stopped, answers = threading.Event(), list[str | None]()
    thread = threading.Thread(target=lambda: answers.append(run.watch(programs, stopped)))
    thread.start()
    try:
        said = ""

        def told() -> bool:
            nonlocal said
            said += capsys.readouterr().out
            return "agent-2 has ended (0)" in said

        eventually_sync(told)
        assert thread.is_alive()
        stopped.set()
        thread.join(5)
    finally:
        stopped.set()
        run.stop(programs)
    assert answers == [None]
    assert said.count("has ended") == 1
    assert programs["agent-1"].returncode < 0, "it was stopped at the end"


def test_the_end_of_all_is_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    programs = {"agent-1": program("raise SystemExit(3)")}
    assert run.watch(programs, threading.Event()) == "all programs have ended"
    assert "agent-1 has ended (3)" in capsys.readouterr().out


def test_the_command_that_is_printed_is_the_programs_own() -> None:
    said = run.farewell("agent-2", -9)
    assert "agent-2 was ended by SIGKILL" in said
    words = shlex.split(said.partition("another terminal: ")[2])
    assert words[:2] == ["env", "SOURCE=127.0.0.2"]
    assert words[-len(run.LAYOUT.argv("agent-2")) :] == run.LAYOUT.argv("agent-2")
