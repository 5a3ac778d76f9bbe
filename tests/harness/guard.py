"""Undoes what a test run leaves behind, however the run ended.

A child process holds the read end of a pipe whose only writer is the test run. When the run ends,
also by SIGKILL, the child reads end-of-file and runs the commands of the undo list: containers
removed, processes killed, firewall rules deleted, file systems unmounted. A run that cleans up
after itself empties the list first.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

UNDO_TIMEOUT_S = 120.0


class Guard:
    """An undo list that outlives this process."""

    def __init__(self) -> None:
        """Start the child."""
        handle, name = tempfile.mkstemp(prefix="callboard-undo-", suffix=".json")
        os.close(handle)
        self._list = Path(name)
        self._undo: dict[str, list[str]] = {}
        self._save()
        reader, self._writer = os.pipe()
        self._child = subprocess.Popen(
            [sys.executable, "-I", __file__, str(reader), name],
            pass_fds=[reader],
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(reader)

    def add(self, key: str, argv: Sequence[str]) -> None:
        """Put a command on the list; the latest of one `key` counts."""
        self._undo.pop(key, None)
        self._undo[key] = list(argv)
        self._save()

    def drop(self, key: str) -> None:
        """Take a command off the list: done already, or not needed any more."""
        if self._undo.pop(key, None) is not None:
            self._save()

    def close(self) -> None:
        """Run what is left on the list, and end the child."""
        os.close(self._writer)
        self._child.wait(UNDO_TIMEOUT_S)

    def _save(self) -> None:
        draft = self._list.with_suffix(".new")
        draft.write_text(json.dumps(list(self._undo.values())))
        draft.replace(self._list)


def _watch(reader: int, undo: Path) -> None:
    """Wait for the end of the test run, then undo, the latest first."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.read(reader, 1)
    for argv in reversed(json.loads(undo.read_text())):
        try:
            subprocess.run(argv, capture_output=True, timeout=UNDO_TIMEOUT_S, check=False)
        except (OSError, subprocess.TimeoutExpired):
            continue
    undo.unlink()


if __name__ == "__main__":
    _watch(int(sys.argv[1]), Path(sys.argv[2]))
