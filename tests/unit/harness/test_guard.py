"""The guard undoes what a run leaves behind, also when the run is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from make.programs import ROOT
from tests.harness.eventually import eventually_sync
from tests.harness.guard import Guard

RUN = """
import sys, threading
from tests.harness.guard import Guard
guard = Guard()
guard.add("one", ["touch", sys.argv[1]])
print("ready", flush=True)
threading.Event().wait()
"""


def test_a_killed_run_is_undone(tmp_path: Path) -> None:
    mark = tmp_path / "undone"
    with subprocess.Popen(
        [sys.executable, "-c", RUN, str(mark)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "ready\n"
        run.send_signal(signal.SIGKILL)
    eventually_sync(mark.exists)


def test_what_was_dropped_is_not_undone(tmp_path: Path) -> None:
    guard = Guard()
    guard.add("one", ["touch", str(tmp_path / "one")])
    guard.add("two", ["touch", str(tmp_path / "two")])
    guard.drop("one")
    guard.close()
    assert [path.name for path in tmp_path.iterdir()] == ["two"]


def test_the_latest_command_of_a_key_counts(tmp_path: Path) -> None:
    guard = Guard()
    guard.add("one", ["touch", str(tmp_path / "old")])
    guard.add("one", ["touch", str(tmp_path / "new")])
    guard.close()
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_the_latest_is_undone_first(tmp_path: Path) -> None:
    guard = Guard()
    log = tmp_path / "log"
    for name in ("first", "second"):
        guard.add(name, ["bash", "-c", f"echo {name} >> {log}"])
    guard.close()
    assert log.read_text().split() == ["second", "first"]
