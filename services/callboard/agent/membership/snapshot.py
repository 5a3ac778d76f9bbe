"""The peers of last time, kept in a small file so that a restarted agent finds its cluster.

Serf's snapshot idea: addresses to call, and the Lamport times to go on from. It is a hint, not a
truth: a file that cannot be read is logged and left out. Written by a thread of its own (a disk may
hang), atomically (a new file, then renamed).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec

from callboard.files import replace

log = logging.getLogger(__name__)

FORMAT = 1
SNAPSHOT_BYTES_MAX = 16 * 1024 * 1024


class Peer(msgspec.Struct, frozen=True):
    """One member that may be there next time."""

    name: str
    address: str
    port: int


class Snapshot(msgspec.Struct, frozen=True):
    """What is remembered. `left`: we left on purpose, so nobody is to be called."""

    format: int = FORMAT
    time: int = 0
    event_time: int = 0
    query_time: int = 0
    left: bool = False
    peers: tuple[Peer, ...] = ()


def read_snapshot(path: Path) -> Snapshot:
    """What was remembered; an empty snapshot if nothing usable was."""
    try:
        if path.stat().st_size > SNAPSHOT_BYTES_MAX:
            raise ValueError("it is too big")
        snapshot = msgspec.json.decode(path.read_bytes(), type=Snapshot)
        if snapshot.format != FORMAT:
            raise ValueError(f"its format is {snapshot.format}")
    except FileNotFoundError:
        return Snapshot()
    except (OSError, ValueError, msgspec.MsgspecError) as problem:
        log.warning(
            "member snapshot is not usable, starting without",
            extra={"path": str(path), "error": str(problem)},
        )
        return Snapshot()
    return snapshot


def write_snapshot(path: Path, snapshot: Snapshot) -> None:
    """Replace the file atomically. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replace(path, permissions=0o600) as file:
        file.write(msgspec.json.encode(snapshot))


class SnapshotWriter:
    """Writes the newest snapshot, one write at a time, off the event loop."""

    def __init__(
        self, path: Path, write: Callable[[Path, Snapshot], None] = write_snapshot
    ) -> None:
        self._path = path
        self._write = write
        self._lock = threading.Lock()
        self._waiting: Snapshot | None = None
        self._thread: threading.Thread | None = None

    def save(self, snapshot: Snapshot) -> None:
        """Write soon; a snapshot that still waits is replaced by this one."""
        with self._lock:
            self._waiting = snapshot
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="member-snapshot", daemon=True
                )
                self._thread.start()

    def flush(self, timeout_s: float) -> None:
        """Wait until what was saved is written, but not for a disk that hangs."""
        thread = self._thread
        if thread is not None:
            thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            with self._lock:
                snapshot, self._waiting = self._waiting, None
                if snapshot is None:
                    self._thread = None
                    return
            try:
                self._write(self._path, snapshot)
            except OSError as problem:
                log.error(
                    "cannot write the member snapshot",
                    extra={"path": str(self._path), "error": str(problem)},
                )
