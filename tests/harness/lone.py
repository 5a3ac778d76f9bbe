"""One program alone, as a local process at a loopback address of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.harness.asking import http
from tests.harness.eventually import SLOW, eventually_sync

COMMAND = [sys.executable, "-m", "callboard.chassis.command"]


@dataclass(slots=True)
class Lone:
    """A running program."""

    process: subprocess.Popen[bytes]
    log: Path
    started: float
    """When it was started (time.monotonic)."""

    def wait_for(self, url: str, timeout_s: float = 15.0) -> float:
        """Return the seconds from the start until `url` answered at all."""
        eventually_sync(lambda: self.process.poll() is not None or _answers(url), timeout_s, 0.01)
        if self.process.poll() is not None:
            raise AssertionError(f"ended: {self.log.read_text()}")
        return time.monotonic() - self.started

    def said(self, text: str) -> bool:
        """Say whether this stands in its log."""
        return text in self.log.read_text(errors="replace")

    def ended(self, timeout_s: float = 15.0) -> int:
        """Return its exit code once it has left by itself."""
        return self.process.wait(timeout_s * SLOW)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it and return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(15)


def _answers(url: str) -> bool:
    with suppress(OSError):
        return http("GET", url, timeout_s=1.0).status < 600
    return False


@contextmanager
def running(argv: Sequence[str], log: Path, cwd: Path, wrap: Sequence[str] = ()) -> Iterator[Lone]:
    """Run `callboard ARGV` until the block ends; `wrap` is a command that becomes it (prlimit)."""
    started = time.monotonic()
    with log.open("ab") as file:
        process = subprocess.Popen(
            [*wrap, *COMMAND, *argv],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            cwd=cwd,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
    try:
        yield Lone(process, log, started)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(15)
