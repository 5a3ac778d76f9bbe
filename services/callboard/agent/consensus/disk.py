"""The disk seam: what the log and the snapshots ask of a directory, and three who answer.

`LocalDisk` is the real one. `MemoryDisk` serves agents that need no directory (`-dev`, tests)
and, by `lose_unsynced()`, simulations: it forgets what was never made durable, as a power cut does.
No format is known here; errors are `OSError`, always, and nothing is retried (I11).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from callboard.files import create
from callboard.files.directories import lock, make_durably

_UNSUPPORTED = (errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS)


class DiskFile(Protocol):
    """One open file. Offsets and sizes are bytes."""

    def allocate(self, size: int) -> None:
        """Reserve `size` zero bytes, so that later writes change no metadata."""

    def write(self, offset: int, data: bytes) -> None:
        """Write all of `data`; durable only after `sync()`."""

    def write_durably(self, offset: int, data: bytes) -> None:
        """Write all of `data` and return once it is on the medium."""

    def sync(self) -> None:
        """Make everything written, and the size, durable."""

    def read(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes; fewer only at the end of the file."""

    def size(self) -> int: ...

    def close(self) -> None: ...


class Disk(Protocol):
    """One flat directory of one owner."""

    def create(self, name: str) -> DiskFile:
        """A new file, opened for reading and writing; FileExistsError if it exists."""

    def create_whole(self, name: str, data: bytes) -> None:
        """A new small file: whole and durable on return, or not there; FileExistsError likewise."""

    def open(self, name: str) -> DiskFile:
        """An existing file, opened for reading and writing."""

    def names(self) -> list[str]:
        """Every file's name, sorted."""

    def rename(self, old: str, new: str) -> None:
        """Atomically, replacing `new`; durable only after `sync_directory()`."""

    def remove(self, name: str) -> None: ...

    def sync_directory(self) -> None:
        """Make creations, renames and removals durable."""

    def close(self) -> None:
        """Give the directory up (releases its lock)."""


def write_whole(disk: Disk, name: str, data: bytes) -> None:
    """Write a small file so that it is there whole or not at all, and durable on return."""
    temporary = f"{name}.tmp"
    if temporary in disk.names():
        disk.remove(temporary)
    file = disk.create(temporary)
    try:
        file.write(0, data)
        file.sync()
    finally:
        file.close()
    disk.rename(temporary, name)
    disk.sync_directory()


class LocalFile:
    """A file by its descriptor; positional reads and writes only."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._one_syscall = hasattr(os, "pwritev") and hasattr(os, "RWF_DSYNC")

    def allocate(self, size: int) -> None:
        if hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(self._descriptor, 0, size)
                return
            except OSError as problem:
                if problem.errno not in _UNSUPPORTED:
                    raise
        os.ftruncate(self._descriptor, size)

    def write(self, offset: int, data: bytes) -> None:
        view = memoryview(data)
        while view:
            written = os.pwrite(self._descriptor, view, offset)
            view, offset = view[written:], offset + written

    def write_durably(self, offset: int, data: bytes) -> None:
        # One system call, for each return into Python costs a wait for the interpreter's lock:
        # with a busy event loop pwrite + fdatasync took 10.8 ms where this takes 0.9.
        if not self._one_syscall:
            self.write(offset, data)
            os.fdatasync(self._descriptor)
            return
        view = memoryview(data)
        while view:
            try:
                written = os.pwritev(self._descriptor, [view], offset, os.RWF_DSYNC)
            except OSError as problem:
                if problem.errno not in _UNSUPPORTED:
                    raise
                self._one_syscall = False
                self.write_durably(offset, bytes(view))
                return
            view, offset = view[written:], offset + written

    def sync(self) -> None:
        os.fsync(self._descriptor)

    def read(self, offset: int, length: int) -> bytes:
        parts: list[bytes] = []
        while length:
            part = os.pread(self._descriptor, min(length, 1 << 24), offset)
            if not part:
                break
            parts.append(part)
            offset, length = offset + len(part), length - len(part)
        return b"".join(parts)

    def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class LocalDisk:
    """A directory of the file system, made if need be and locked for one process."""

    def __init__(self, path: Path) -> None:
        """Open `path`. Raises DirectoryInUse if another process has it open, or OSError."""
        self._path = path
        make_durably(path)
        self._directory = lock(path)

    def create(self, name: str) -> LocalFile:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        return LocalFile(os.open(self._path / name, flags, 0o600))

    def create_whole(self, name: str, data: bytes) -> None:
        with create(self._path / name) as file:
            file.write(data)

    def open(self, name: str) -> LocalFile:
        return LocalFile(os.open(self._path / name, os.O_RDWR | os.O_CLOEXEC))

    def names(self) -> list[str]:
        return sorted(entry.name for entry in self._path.iterdir() if entry.is_file())

    def rename(self, old: str, new: str) -> None:
        (self._path / old).replace(self._path / new)

    def remove(self, name: str) -> None:
        (self._path / name).unlink()

    def sync_directory(self) -> None:
        os.fsync(self._directory)

    def close(self) -> None:
        if self._directory >= 0:
            os.close(self._directory)
            self._directory = -1


class _Content:
    """A file's bytes as written, and as they would be found after a power cut."""

    __slots__ = ("durable", "written")

    def __init__(self) -> None:
        self.written = bytearray()
        self.durable = b""


class MemoryFile:
    """A file of a MemoryDisk."""

    def __init__(self, content: _Content, disk: MemoryDisk) -> None:
        self._content = content
        self._disk = disk

    def allocate(self, size: int) -> None:
        """Nothing is reserved: reading beyond the end answers fewer bytes."""
        self._disk.before("allocate")

    def write(self, offset: int, data: bytes) -> None:
        self._disk.before("write")
        written = self._content.written
        if offset > len(written):
            written.extend(bytes(offset - len(written)))
        written[offset : offset + len(data)] = data

    def write_durably(self, offset: int, data: bytes) -> None:
        self.write(offset, data)
        self._disk.before("sync")
        if self._disk.remembers:
            durable = bytearray(self._content.durable)
            if offset > len(durable):
                durable.extend(bytes(offset - len(durable)))
            durable[offset : offset + len(data)] = data
            self._content.durable = bytes(durable)

    def sync(self) -> None:
        self._disk.before("sync")
        if self._disk.remembers:
            self._content.durable = bytes(self._content.written)

    def read(self, offset: int, length: int) -> bytes:
        return bytes(self._content.written[offset : offset + length])

    def size(self) -> int:
        return len(self._content.written)

    def close(self) -> None:
        """Nothing is held."""


class MemoryDisk:
    """A directory in memory. With `remembers`, durable content is kept apart for `lose_unsynced`.

    `before` is called with the operation's name ahead of each one: a simulation makes it raise
    OSError or wait. `before` must not be replaced while another thread is inside the disk.
    """

    def __init__(self, *, remembers: bool = False) -> None:
        self.remembers = remembers
        self.before: Callable[[str], None] = lambda operation: None
        self._files: dict[str, _Content] = {}
        self._durable_names: dict[str, _Content] = {}

    def create(self, name: str) -> MemoryFile:
        self.before("create")
        if name in self._files:
            raise FileExistsError(errno.EEXIST, "file exists", name)
        content = self._files[name] = _Content()
        return MemoryFile(content, self)

    def create_whole(self, name: str, data: bytes) -> None:
        if name in self._files:
            raise FileExistsError(errno.EEXIST, "file exists", name)
        write_whole(self, name, data)

    def open(self, name: str) -> MemoryFile:
        if name not in self._files:
            raise FileNotFoundError(errno.ENOENT, "no such file", name)
        return MemoryFile(self._files[name], self)

    def names(self) -> list[str]:
        return sorted(self._files)

    def rename(self, old: str, new: str) -> None:
        self.before("rename")
        self._files[new] = self._files.pop(old)

    def remove(self, name: str) -> None:
        self.before("remove")
        if name not in self._files:
            raise FileNotFoundError(errno.ENOENT, "no such file", name)
        del self._files[name]

    def sync_directory(self) -> None:
        self.before("sync_directory")
        if self.remembers:
            self._durable_names = dict(self._files)

    def close(self) -> None:
        """Nothing is held: the same disk may be opened again, as after a restart."""

    def lose_unsynced(self) -> None:
        """A power cut: names and bytes return to what was durable."""
        self._files = dict(self._durable_names)
        for content in self._files.values():
            content.written = bytearray(content.durable)
