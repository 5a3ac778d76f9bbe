"""What the agent must remember of its registrations over a restart: one small file each.

`services/<hash>.json` and `checks/<hash>.json` below the data directory hold what came through the
API (what came from configuration files is read from there again); `checks/state.json` holds each
check's last status. A file appears whole or not at all: temporary file, fsync, rename, fsync of
the folder. Writes run in one thread of their own, in order; a failed write is told to the caller,
and the registration refused. After a failed fsync nobody knows what is on the disk: nothing more
is written, and the process is told to leave. A full disk is no such failure: what was begun is
taken back.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import logging
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

log = logging.getLogger(__name__)

STATE_FILE = "state.json"
_FULL = (errno.ENOSPC, errno.EDQUOT)


class SyncFailed(OSError):
    """What was written may be on the disk or not: the process must leave."""


class LocalJournal:
    """Files of registrations below a folder; `folder` None remembers nothing (-dev)."""

    def __init__(self, folder: Path | None, on_fatal: Callable[[str], None] = log.critical) -> None:
        """`on_fatal` is told, once and on the event loop, why the process must leave."""
        self._folder = folder
        self._on_fatal = on_fatal
        self._failed = ""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="local-journal")

    def load(self, kind: str) -> list[dict[str, object]]:
        """Every remembered body of `kind` ("services", "checks"); a broken file is logged, left."""
        if self._folder is None or not (self._folder / kind).is_dir():
            return []
        bodies = []
        for path in sorted((self._folder / kind).glob("*.json")):
            if path.name == STATE_FILE:
                continue
            body = _read(path)
            if body is not None:
                bodies.append(body)
        return bodies

    def load_state(self) -> dict[str, object]:
        """The last status of each check, by check ID; empty when there is none."""
        if self._folder is None:
            return {}
        path = self._folder / "checks" / STATE_FILE
        return (_read(path) or {}) if path.exists() else {}

    async def save(self, kind: str, identifier: str, body: dict[str, object]) -> None:
        """Remember a registration; durable on return. Raises OSError."""
        if self._folder is not None:
            await self._run(self._replace, self._path(kind, identifier), json.dumps(body).encode())

    async def forget(self, kind: str, identifier: str) -> None:
        """Forget a registration; durable on return. Raises OSError."""
        if self._folder is not None:
            await self._run(self._remove, self._path(kind, identifier))

    async def save_state(self, state: Mapping[str, object]) -> None:
        """Remember every check's status."""
        if self._folder is not None:
            path = self._folder / "checks" / STATE_FILE
            await self._run(self._replace, path, json.dumps(dict(state)).encode())

    def close(self) -> None:
        """End the thread, once what was asked is written."""
        self._thread.shutdown(wait=True)

    async def _run(self, function: object, *arguments: object) -> None:
        loop = asyncio.get_running_loop()
        if self._failed:
            raise SyncFailed(errno.EIO, self._failed)
        try:
            await loop.run_in_executor(self._thread, function, *arguments)  # type: ignore[arg-type]
        except SyncFailed as problem:
            if not self._failed:
                self._failed = f"the data directory cannot be trusted: {problem}"
                self._on_fatal(self._failed)
            raise

    def _path(self, kind: str, identifier: str) -> Path:
        assert self._folder is not None
        return self._folder / kind / (hashlib.sha256(identifier.encode()).hexdigest() + ".json")

    @staticmethod
    def _replace(path: Path, data: bytes) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        try:
            _write_durably(temporary, data)
            temporary.replace(path)
        except OSError:
            with suppress(OSError):
                temporary.unlink()
            raise
        _sync_folder(path.parent)

    @staticmethod
    def _remove(path: Path) -> None:
        if path.exists():
            path.unlink()
            _sync_folder(path.parent)


def _write_durably(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        try:
            os.fsync(descriptor)
        except OSError as problem:
            if problem.errno in _FULL:
                raise  # The file has no name yet: nothing is lost with it.
            raise SyncFailed(problem.errno, problem.strerror, str(path)) from problem
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as problem:
        raise SyncFailed(problem.errno, problem.strerror, str(folder)) from problem
    finally:
        os.close(descriptor)


def _read(path: Path) -> dict[str, object] | None:
    try:
        body = json.loads(path.read_bytes())
    except (OSError, ValueError) as problem:
        log.error(
            "unreadable registration file left aside",
            extra={"path": str(path), "error": str(problem)},
        )
        return None
    return body if isinstance(body, dict) else None
