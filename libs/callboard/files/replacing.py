"""Atomic replacement: readers see the former content or the new one, never a mixture."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal, overload

from callboard.files.temporary import Temporary, named

READABLE = 0o644
MODES = ("w", "wt", "wb")


@overload
@contextmanager
def replace(
    path: str | os.PathLike[str], mode: Literal["wb"] = "wb", *, permissions: int = READABLE
) -> Iterator[IO[bytes]]: ...
@overload
@contextmanager
def replace(
    path: str | os.PathLike[str], mode: Literal["w", "wt"], *, permissions: int = READABLE
) -> Iterator[IO[str]]: ...
@contextmanager
def replace(
    path: str | os.PathLike[str], mode: str = "wb", *, permissions: int = READABLE
) -> Iterator[IO[Any]]:
    """Write a file anew: `with replace("server.crt") as file: file.write(...)`.

    Modes are 'wb' (bytes) and 'w' (text, UTF-8). The former content stays until the block ends,
    and after an exception for good; then the new one is there, on the disk, with `permissions`,
    by one rename(2). A symbolic link is replaced itself. Raises the OSErrors of `open`, and at the
    end those of a full disk or a failed fsync.
    """
    if mode not in MODES:
        raise ValueError(f"mode is 'w' or 'wb', not {mode!r}")
    target = os.fsdecode(path)
    temporary = Temporary(target, text=mode != "wb", permissions=permissions)
    try:
        yield temporary.file
        temporary.finish()
        try:
            Path(temporary.name).replace(target)
        except OSError as problem:
            raise named(problem, target) from problem
        temporary.sync_directory()
    finally:
        temporary.discard()
