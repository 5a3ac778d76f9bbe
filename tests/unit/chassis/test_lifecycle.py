"""The life of a program, in processes of its own: signals, stop order, deadlines, exit codes."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from callboard.chassis.lifecycle import Lifecycle

PREAMBLE = """
import asyncio, sys
from callboard.chassis import logs
from callboard.chassis.lifecycle import Lifecycle, StartRefused, run
logs.configure("info", stream=sys.stdout, threaded=False, plain=True)

def tell(word):
    print("SAID", word, flush=True)

def stopper(name, seconds=0.0):
    async def stop():
        await asyncio.sleep(seconds)
        tell("stopped " + name)
    return stop
"""


@contextmanager
def program(start: str) -> Iterator[subprocess.Popen[str]]:
    """A program whose start function has this body."""
    body = textwrap.indent(textwrap.dedent(start), "    ")
    code = f"{PREAMBLE}\nasync def start(life):\n{body}\nsys.exit(run(start))\n"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def said_until(process: subprocess.Popen[str], word: str) -> None:
    """Read its lines until one has this word."""
    assert process.stdout is not None
    for line in process.stdout:
        if word in line:
            return
    raise AssertionError(f"the program ended without saying {word!r}")


def ended(process: subprocess.Popen[str]) -> tuple[int, list[str], str]:
    """(exit code, what it said, all its output)."""
    out, _ = process.communicate(timeout=20)
    said = [line.removeprefix("SAID ") for line in out.splitlines() if line.startswith("SAID")]
    return process.returncode, said, out


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_signal_stops_in_the_reverse_order(number: signal.Signals) -> None:
    with program(
        """
        life.on_stop("log", stopper("log"))
        life.on_stop("http", stopper("http"))
        tell("ready")
        """
    ) as process:
        said_until(process, "ready")
        process.send_signal(number)
        code, said, out = ended(process)
    assert (code, said) == (0, ["stopped http", "stopped log"])
    assert number.name in out


def test_a_stop_that_takes_too_long_is_cancelled_and_told() -> None:
    with program(
        """
        life.on_stop("log", stopper("log"))
        life.on_stop("http", stopper("http", 60), deadline_s=0.05)
        tell("ready")
        """
    ) as process:
        said_until(process, "ready")
        process.terminate()
        code, said, out = ended(process)
    assert (code, said) == (0, ["stopped log"])
    assert "cancelled a stop that took too long" in out
    assert "component=http" in out


def test_a_stop_that_fails_does_not_keep_the_others() -> None:
    with program(
        """
        life.on_stop("log", stopper("log"))
        async def broken():
            raise RuntimeError("broken")
        life.on_stop("http", broken)
        tell("ready")
        """
    ) as process:
        said_until(process, "ready")
        process.terminate()
        code, said, out = ended(process)
    assert (code, said) == (0, ["stopped log"])
    assert "a stop failed" in out


def test_a_second_signal_leaves_at_once() -> None:
    with program(
        """
        life.on_stop("http", stopper("http", 60), deadline_s=60)
        tell("ready")
        """
    ) as process:
        said_until(process, "ready")
        process.terminate()
        said_until(process, "stopping")
        process.terminate()
        code, _, _ = ended(process)
    assert code == 128 + signal.SIGTERM


def test_hangup_reloads_and_a_failed_reload_is_survived() -> None:
    with program(
        """
        def broken():
            raise ValueError("bad file")
        life.on_reload(broken)
        life.on_reload(lambda: tell("reloaded"))
        tell("ready")
        """
    ) as process:
        said_until(process, "ready")
        process.send_signal(signal.SIGHUP)
        said_until(process, "reloaded")
        process.terminate()
        assert ended(process)[0] == 0


def test_a_start_that_fails_stops_what_was_started() -> None:
    with program(
        """
        life.on_stop("log", stopper("log"))
        raise OSError("address already in use")
        """
    ) as process:
        code, said, out = ended(process)
    assert (code, said) == (1, ["stopped log"])
    assert "start failed: address already in use" in out


def test_a_refused_start_has_no_traceback() -> None:
    with program('raise StartRefused("data_dir belongs to another cluster")') as process:
        code, _, out = ended(process)
    assert code == 1
    assert "data_dir belongs to another cluster" in out
    assert "Traceback" not in out


def test_a_signal_during_the_start_ends_it() -> None:
    with program(
        """
        life.on_stop("log", stopper("log"))
        tell("starting")
        await asyncio.sleep(60)
        """
    ) as process:
        said_until(process, "starting")
        process.terminate()
        assert ended(process)[:2] == (0, ["stopped log"])


def test_fatal_leaves_with_another_code_from_any_thread() -> None:
    with program(
        """
        import threading
        life.on_stop("log", stopper("log"))
        threading.Thread(target=life.fatal, args=("fsync failed",)).start()
        """
    ) as process:
        code, said, out = ended(process)
    assert (code, said) == (1, ["stopped log"])
    assert "fsync failed" in out


def test_an_owned_task_that_fails_ends_the_program() -> None:
    with program(
        """
        async def broken():
            raise RuntimeError("an invariant is broken")
        life.own(broken(), "reconciler")
        """
    ) as process:
        code, _, out = ended(process)
    assert code == 1
    assert "an invariant is broken" in out
    assert "task=reconciler" in out


def test_an_owned_task_is_cancelled_at_the_end() -> None:
    with program(
        """
        async def patient():
            try:
                await asyncio.sleep(60)
            finally:
                tell("cancelled")
        life.own(patient(), "patient")
        await asyncio.sleep(0)
        tell("ready")
        """
    ) as process:
        said_until(process, "ready")
        process.terminate()
        assert ended(process)[:2] == (0, ["cancelled"])


def test_tasks_that_nobody_stopped_are_named() -> None:
    with program(
        """
        life.forgotten = asyncio.get_running_loop().create_task(asyncio.sleep(60), name="stray")
        tell("ready")
        """
    ) as process:
        said_until(process, "ready")
        process.terminate()
        code, _, out = ended(process)
    assert code == 0
    assert "cancelled tasks that were left over" in out
    assert "stray" in out


def test_a_thread_that_hangs_does_not_keep_the_program() -> None:
    with program(
        """
        import time
        asyncio.get_running_loop().run_in_executor(None, time.sleep, 60)
        life.stop("done", 3)
        """
    ) as process:
        code, _, out = ended(process)
    assert code == 3
    assert "left threads that did not end" in out


async def test_the_first_exit_code_stays() -> None:
    life = Lifecycle()
    life.stop("one", 3)
    life.stop("two", 4)
    life.stop("three")
    assert life.exit_code == 3


async def test_reload_tells_its_caller_of_a_failure_after_all_ran() -> None:
    life = Lifecycle()
    ran: list[str] = []

    async def second() -> None:
        ran.append("second")

    def first() -> None:
        raise ValueError("bad file")

    life.on_reload(first)
    life.on_reload(second)
    with pytest.raises(ValueError, match="bad file"):
        await life.reload()
    assert ran == ["second"]


async def test_stop_all_may_be_called_twice() -> None:
    life = Lifecycle()
    ran: list[str] = []

    async def stop() -> None:
        await asyncio.sleep(0)
        ran.append("stop")

    life.on_stop("one", stop)
    await life.stop_all()
    await life.stop_all()
    assert ran == ["stop"]
