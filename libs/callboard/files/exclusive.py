"""Exclusive creation, crash-safe.

`open(path, 'x')` promises that one of several wins. It does not promise that others never read
half a file, that a crash leaves none, or who may read it. Here the content is complete under a
temporary name before the target's name appears, in one step (link(2), which never overwrites).
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal, overload

from callboard.files.temporary import FLAGS, Temporary, named

OWNER_ONLY = 0o600
NO_LINKS = frozenset(
    {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EINVAL}
)
"""How file systems say that they have no hard links (vfat, some FUSE)."""

RENAME_NOREPLACE = 1
AT_FDCWD = -100
MODES = ("x", "xt", "xb")


@overload
@contextmanager
def create(
    path: str | os.PathLike[str], mode: Literal["xb"] = "xb", *, permissions: int = OWNER_ONLY
) -> Iterator[IO[bytes]]: ...
@overload
@contextmanager
def create(
    path: str | os.PathLike[str], mode: Literal["x", "xt"], *, permissions: int = OWNER_ONLY
) -> Iterator[IO[str]]: ...
@contextmanager
def create(
    path: str | os.PathLike[str], mode: str = "xb", *, permissions: int = OWNER_ONLY
) -> Iterator[IO[Any]]:
    """Make a file that is not there yet: `with create("server.key") as file: file.write(...)`.

    Modes are 'xb' (bytes) and 'x' (text, UTF-8). The file appears when the block ends, whole, on
    the disk and with `permissions`, whatever the umask; after an exception in the block there is
    none. Raises FileExistsError (errno 17) whenever `open(path, 'x')` would: at the beginning, or
    at the block's end when another made it meanwhile. Other OSErrors are those of `open`, and at
    the end those of a full disk or a failed fsync: then the file must not be counted on.
    """
    if mode not in MODES:
        raise ValueError(f"mode is 'x' or 'xb', not {mode!r}")
    target = os.fsdecode(path)
    _refuse_existing(target)
    temporary = Temporary(target, text=mode != "xb", permissions=permissions)
    try:
        yield temporary.file
        temporary.finish()
        _publish(temporary)
        temporary.sync_directory()
    finally:
        temporary.discard()


def _refuse_existing(target: str) -> None:
    """Raise what `open(target, 'x')` raises, as far as that can be known before."""
    if not target:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), target)
    above = target.rstrip(os.sep)
    try:
        if above and above != target:
            os.lstat(os.path.dirname(above) or os.curdir)  # noqa: PTH120 - as the caller spells it
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), target)
        os.lstat(target)
    except FileNotFoundError:
        return  # or a missing folder, which the temporary file finds out
    except OSError as problem:
        raise named(problem, target) from None
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)


def _publish(temporary: Temporary) -> None:
    """Give the content its name, in one step, unless the name is taken."""
    try:
        _link(temporary)
    except FileExistsError as problem:
        # over NFS the answer may get lost and the retry finds our own link: then there are two
        ours = Path(temporary.name)
        if ours.stat().st_nlink != 2 or not ours.samefile(temporary.target):
            raise named(problem, temporary.target) from None
    except OSError as problem:
        if problem.errno not in NO_LINKS:
            raise named(problem, temporary.target) from problem
        if not _rename_exclusively(temporary):
            _write_exclusively(temporary)


def _link(temporary: Temporary) -> None:
    """A second name for the same file. Raises OSError."""
    if os.link in os.supports_follow_symlinks:
        os.link(temporary.name, temporary.target, follow_symlinks=False)
    else:
        os.link(temporary.name, temporary.target)


def _rename_exclusively(temporary: Temporary) -> bool:
    """renameat2(RENAME_NOREPLACE); False where that is not to be had. Raises FileExistsError."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        import ctypes  # noqa: PLC0415 - needed on few file systems, and slow to import

        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (ImportError, OSError, AttributeError):
        return False
    source, target = os.fsencode(temporary.name), os.fsencode(temporary.target)
    if call(AT_FDCWD, source, AT_FDCWD, target, RENAME_NOREPLACE) == 0:
        return True
    code = ctypes.get_errno()
    if code == errno.EEXIST:
        raise FileExistsError(code, os.strerror(code), temporary.target)
    return False


def _write_exclusively(temporary: Temporary) -> None:
    """The last resort: O_EXCL on the target itself. A reader may then see half of it, and a crash
    may leave half of it; whatever goes wrong here is removed again."""
    body = Path(temporary.name).read_bytes()
    descriptor = os.open(temporary.target, FLAGS, OWNER_ONLY)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(body)
            file.flush()
            if hasattr(os, "fchmod"):
                os.fchmod(descriptor, temporary.permissions)
            os.fsync(descriptor)
        if Path(temporary.target).read_bytes() != body:
            raise OSError(errno.EIO, "not what was written", temporary.target)
    except BaseException:
        Path(temporary.target).unlink(missing_ok=True)
        raise
