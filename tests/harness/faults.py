"""Faults that both drivers put in: firewall rules, system calls that fail, clocks that jump."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.harness.capabilities import faketime_library, require
from tests.harness.eventually import eventually_sync
from tests.harness.guard import Guard
from tests.harness.stack import Disk

SMALL_DISK_BYTES = 24 << 20
"""Room for a few log segments, small enough to fill in a moment."""

_DURABLE_WRITES = "fsync,fdatasync,pwritev2"
"""What makes data durable; pwritev2 is a write with RWF_DSYNC, the log's one call a batch."""

_INJECTIONS = {
    Disk.SLOW: f"{_DURABLE_WRITES}:delay_enter=500000",
    Disk.FAILING: f"{_DURABLE_WRITES}:error=EIO",
}


def drop_rule(source: str, destination: str, *, loss: float = 1.0) -> list[str]:
    """Return the rule, for chain INPUT, that drops packets between two addresses."""
    chance = ["-m", "statistic", "--mode", "random", "--probability", f"{loss:.4f}"]
    return ["-s", source, "-d", destination, *(chance if loss < 1.0 else []), "-j", "DROP"]


def iptables(*argv: str, within: Sequence[str] = ()) -> list[str]:
    """Return an iptables command, run through `within` (an nsenter command, say)."""
    return [*within, "iptables", "-w", "10", *argv]


class SystemCallFaults:
    """strace attached to a process: its system calls are slowed down or fail."""

    def __init__(self, pid: int, state: Disk, only: str = "") -> None:
        """Attach, and return once attached. `only` these of the calls ("fsync").

        Raises KeyError for a state it cannot make.
        """
        calls, _, fault = _INJECTIONS[state].partition(":")
        calls = only or calls
        self._process = subprocess.Popen(
            [
                *("strace", "-f", "-q", "-o", "/dev/null", "-p", str(pid)),
                *("-e", f"trace={calls}", "-e", f"inject={calls}:{fault}"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        eventually_sync(lambda: _tracer(pid) == self._process.pid)

    @property
    def pid(self) -> int:
        """Return strace's own process id."""
        return self._process.pid

    def detach(self) -> None:
        """Let the process go on as it was."""
        self._process.terminate()
        self._process.wait(10)


def _tracer(pid: int) -> int:
    """Return who traces a process, 0 for nobody."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("TracerPid:"):
            return int(line.split()[1])
    return 0


def clock_environment(offset_file: Path, library: Path | None = None) -> Mapping[str, str]:
    """Return the environment in which a program's wall clock follows `offset_file`.

    The monotonic clock, and so every timer, is left alone, as when an operator sets a clock. The
    file is read once a second ("0": no longer than the second lasts): at each call, as it could be,
    a program does nothing else.
    """
    place = library or faketime_library()
    assert place is not None, "faketime is not installed: ask the capability first"
    return {
        "LD_PRELOAD": str(place),
        "FAKETIME_TIMESTAMP_FILE": str(offset_file),
        "FAKETIME_CACHE_DURATION": "0",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        # its work-around for old C libraries lets the interpreter's lock wait far too long
        "FAKETIME_FORCE_MONOTONIC_FIX": "0",
    }


def write_offset(offset_file: Path, offset_s: float) -> None:
    """Move the clock of the programs that follow `offset_file`."""
    draft = offset_file.with_suffix(".new")
    draft.write_text(f"{offset_s:+.3f}\n")
    draft.chmod(0o644)
    draft.replace(offset_file)


@contextmanager
def small_disk(directory: Path, size: str) -> Iterator[Path]:
    """Make a directory that is a disk of its own, so large (`20m`), until the block ends."""
    require("small-disk")
    directory.mkdir()
    guard = Guard()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(directory)], check=True
    )
    guard.add("mount", ["umount", "-l", str(directory)])
    yield directory
    subprocess.run(["umount", "-l", str(directory)], check=True)
    guard.drop("mount")
    guard.close()


def fill(ballast: Path) -> None:
    """Write a file until its file system is full."""
    block = b"\0" * (1 << 16)
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(block):
            pass
