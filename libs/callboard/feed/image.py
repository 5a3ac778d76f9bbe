"""A copy's image on disk: what a reader answers from when it starts and no agent is there.

A file is the feed's own HELLO, RECORDS and END frames, and behind them a CRC32C of all octets. It
is written aside, synced and renamed, so that there is always a whole one or none; the frames are
made in slices on the loop, since a thread would hold the interpreter as long. The file's time of
modification says when its content was last known to be current: touching it keeps that true while
nothing changes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

import google_crc32c

from callboard.catalog.pinned import PinnedTables
from callboard.feed.copy import CatalogCopy, FeedSession
from callboard.feed.slices import record_frames
from callboard.feed.wire import FORMAT, FeedError, FrameReader, Hello, SnapshotHash, pack

log = logging.getLogger(__name__)

NAME = "catalog.image"
CHECKSUM_OCTETS = 4
READ_OCTETS = 1 << 20
SLICE_S = 0.004


class ImageError(Exception):
    """The file is damaged, or of a format this version does not know."""


def load(path: Path, copy: CatalogCopy, *, now: float, wall_now: float) -> bool:
    """Fill a copy from a file; False if there is none. Raises ImageError, OSError.

    `now` is monotonic, `wall_now` Unix time: the copy is as old as the file says.
    """
    try:
        data = path.read_bytes()
        modified_at = path.stat().st_mtime
    except FileNotFoundError:
        return False
    body, checksum = data[:-CHECKSUM_OCTETS], data[-CHECKSUM_OCTETS:]
    if google_crc32c.value(body).to_bytes(CHECKSUM_OCTETS, "big") != checksum:
        raise ImageError(f"{path}: the checksum is wrong")
    session = FeedSession(copy)
    reader = FrameReader()
    try:
        for at in range(0, len(body), READ_OCTETS):
            for received in reader.feed(body[at : at + READ_OCTETS]):
                session.receive(received, now)
    except FeedError as problem:
        raise ImageError(f"{path}: {problem}") from problem
    if not session.complete:
        raise ImageError(f"{path}: it has no end")
    copy.current_as_of(now - max(0.0, wall_now - modified_at))
    return True


class ImageWriter:
    """Keeps one file in step with one copy."""

    def __init__(self, path: Path, copy: CatalogCopy) -> None:
        self._path = path
        self._copy = copy
        self._written: int | None = None
        """The copy's version that is in the file. Its index alone may go on: what came up to there
        is in the file all the same."""
        self._writing: asyncio.Task[None] | None = None
        """A thread cannot be cancelled: the next save waits for it."""

    async def save(self) -> None:
        """Bring the file up to date, if there is anything to say. Raises OSError."""
        copy = self._copy
        if self._writing is not None:
            await asyncio.wait([self._writing])
        age_s = copy.age_s(asyncio.get_running_loop().time())
        if not copy.ready or age_s == float("inf"):
            return
        version = copy.version
        as_of = time.time() - age_s
        if self._written == version:
            with contextlib.suppress(FileNotFoundError):  # somebody has taken it away
                await asyncio.to_thread(os.utime, self._path, (as_of, as_of))
                return
        chunks = await _in_slices(_frames(copy, copy.tables.pin()))
        writing = asyncio.to_thread(_write, self._path, chunks, as_of)
        self._writing = asyncio.get_running_loop().create_task(writing)
        self._writing.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.shield(self._writing)
        self._written = version


def _frames(copy: CatalogCopy, pinned: PinnedTables) -> Iterator[bytes]:
    """The frames of an image, in order."""
    digest = SnapshotHash()
    index = copy.applied_index
    yield pack(Hello(FORMAT, copy.epoch, index, False, copy.datacenter, ""))
    for records in record_frames(pinned):
        octets = pack(records)
        digest.add(records, octets)
        yield octets
    yield pack(digest.end(index))


async def _in_slices(frames: Iterator[bytes]) -> list[bytes]:
    chunks = []
    until = time.perf_counter() + SLICE_S
    for frame in frames:
        chunks.append(frame)
        if time.perf_counter() > until:
            await asyncio.sleep(0)
            until = time.perf_counter() + SLICE_S
    return chunks


def _write(path: Path, chunks: list[bytes], as_of: float) -> None:
    """Write aside, for the owner's eyes only, dated, sync, rename, sync the directory."""
    aside = path.with_suffix(".new")
    checksum = 0
    aside.unlink(missing_ok=True)
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        for chunk in chunks:
            checksum = google_crc32c.extend(checksum, chunk)
            file.write(chunk)
        file.write(checksum.to_bytes(CHECKSUM_OCTETS, "big"))
        file.flush()
        os.utime(file.fileno(), (as_of, as_of))
        os.fsync(file.fileno())
    aside.rename(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
