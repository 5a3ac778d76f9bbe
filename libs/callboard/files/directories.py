"""Directories of one process: made so that they stay, and locked. Unix only."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class DirectoryInUse(OSError):
    """Another process has the directory locked."""


def make_durably(path: Path) -> None:
    """Make a directory and those above it that are missing: no power cut takes it away again,
    with all that is durable in it. Raises OSError."""
    if path.is_dir():
        return
    make_durably(path.parent)
    path.mkdir(mode=0o700, exist_ok=True)
    above = os.open(path.parent, _FLAGS)
    try:
        os.fsync(above)
    finally:
        os.close(above)


def lock(path: Path) -> int:
    """A descriptor of a directory that keeps other processes out who ask the same, until it is
    closed or the process ends. Raises DirectoryInUse, or another OSError."""
    descriptor = os.open(path, _FLAGS)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as problem:
        os.close(descriptor)
        text = f"another process uses the directory {path}"
        raise DirectoryInUse(problem.errno, text) from problem
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
