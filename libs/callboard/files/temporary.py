"""The temporary file beside the target: made exclusively, written, synced, then linked or renamed.

Its name has a fixed length and begins with a dot, so that a target with the longest name the
file system knows still gets one, and nobody takes a leftover for a file of his own.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import IO, Any

PREFIX = ".callboard-"
SUFFIX = ".tmp"
TRIES = 16
FLAGS = (
    os.O_RDWR
    | os.O_CREAT
    | os.O_EXCL
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)


class Temporary:
    """One temporary file; the caller closes it by `discard`, whatever happened."""

    def __init__(self, target: str, *, text: bool, permissions: int) -> None:
        """Raises OSError, naming `target`, where that folder takes no new file."""
        self.target = target
        self.directory = os.path.dirname(target) or os.curdir  # noqa: PTH120 - keeps "./x" as it is
        self.permissions = permissions
        self.name, self.descriptor = self._open()
        """The descriptor is -1 once it is closed."""
        # the descriptor outlives a close() within the block: what was written is to be synced
        self.file: IO[Any] = os.fdopen(
            self.descriptor,
            "w" if text else "wb",
            encoding="utf-8" if text else None,
            closefd=False,
        )

    def finish(self) -> None:
        """What was written is on the disk, with the mode it is to have, and closed (elsewhere than
        on POSIX an open file takes no new name). Raises OSError."""
        if not self.file.closed:
            self.file.flush()
        if hasattr(os, "fchmod"):
            os.fchmod(self.descriptor, self.permissions)
        os.fsync(self.descriptor)
        self._close()

    def discard(self) -> None:
        """Close it, and remove its name if it still has it."""
        try:
            self.file.close()
        except OSError:
            pass  # bytes that nobody will see: the block has failed before
        self._close()
        Path(self.name).unlink(missing_ok=True)

    def _close(self) -> None:
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def sync_directory(self) -> None:
        """The target's name is on the disk. Raises OSError."""
        if os.name == "nt":
            return  # a folder cannot be opened there; NTFS journals names
        descriptor = os.open(self.directory, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _open(self) -> tuple[str, int]:
        for _ in range(TRIES):
            name = os.path.join(self.directory, PREFIX + os.urandom(8).hex() + SUFFIX)  # noqa: PTH118
            try:
                return name, os.open(name, FLAGS, 0o600)
            except FileExistsError:
                continue
            except OSError as problem:
                raise named(problem, self.target) from problem
        raise OSError(errno.EEXIST, "no free temporary name", self.directory)


def named(problem: OSError, path: str) -> OSError:
    """The same error, told of `path` instead of a name that the user never gave."""
    return OSError(problem.errno, problem.strerror, path)
