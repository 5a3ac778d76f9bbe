"""Snapshots on disk: whole or not there, checked chunk by chunk.

    file  = magic, header length, header CRC, header (msgpack) | chunk* | end
    chunk = length, CRC32C, bytes        end = length 0, CRC32C over the chunks' CRCs

A snapshot is written under another name, synced and renamed. Which of the files counts is said
by the log alone (I10): a received snapshot whose record is not in the log was never installed.
Everything here blocks: the driver calls it in a thread of its own, never in the log's.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import google_crc32c
import msgspec

from callboard.agent.consensus.disk import Disk, DiskFile
from callboard.raft.messages import SnapshotMetadata

MAGIC = b"CALLBRDS"
FORMAT = 1
MAX_CHUNK_BYTES = 64 << 20
SYNC_BYTES = 4 << 20
"""Synced in steps of this, so that the log never waits behind one long flush."""

_HEAD = struct.Struct("<8sII")
_CHUNK = struct.Struct("<II")


class SnapshotCorrupt(Exception):
    """A snapshot file is damaged; names file and offset."""


class _Header(msgspec.Struct, frozen=True, array_like=True):
    format: int
    cluster_id: str
    metadata: SnapshotMetadata


_DECODER = msgspec.msgpack.Decoder(_Header)


def file_name(metadata: SnapshotMetadata) -> str:
    """The name of a snapshot's file; sorted as the indexes are."""
    return f"snapshot-{metadata.index:020d}-{metadata.term}.snap"


class SnapshotWriter:
    """One snapshot being written: `add` chunks, then `finish`, or `close`."""

    def __init__(self, disk: Disk, cluster_id: str, metadata: SnapshotMetadata) -> None:
        self._disk = disk
        self._name = file_name(metadata)
        self._temporary = self._name + ".tmp"
        if self._temporary in disk.names():
            disk.remove(self._temporary)
        self._file = disk.create(self._temporary)
        header = msgspec.msgpack.encode(_Header(FORMAT, cluster_id, metadata))
        head = _HEAD.pack(MAGIC, len(header), google_crc32c.value(header))
        self._file.write(0, head + header)
        self._offset = len(head) + len(header)
        self._unsynced = 0
        self._total = 0

    def add(self, chunk: bytes) -> None:
        """Write a chunk; an empty one is passed over."""
        if not chunk:
            return
        crc = google_crc32c.value(chunk)
        self._file.write(self._offset, _CHUNK.pack(len(chunk), crc) + chunk)
        self._offset += _CHUNK.size + len(chunk)
        self._total = google_crc32c.extend(self._total, crc.to_bytes(4, "little"))
        self._unsynced += len(chunk)
        if self._unsynced >= SYNC_BYTES:
            self._file.sync()
            self._unsynced = 0

    def finish(self) -> None:
        """Make the snapshot durable under its name."""
        self._file.write(self._offset, _CHUNK.pack(0, self._total))
        self._file.sync()
        self._file.close()
        self._disk.rename(self._temporary, self._name)
        self._disk.sync_directory()

    def close(self) -> None:
        """Give it up; the unfinished file is removed when the same is begun, or at a start."""
        self._file.close()


class SnapshotIntake:
    """A snapshot being received, as raw bytes of the sender's file. Begun by the first `add`."""

    def __init__(self, disk: Disk, identifier: str) -> None:
        self._disk = disk
        self._temporary = f"incoming-{identifier}.snap.tmp"
        self._file: DiskFile | None = None
        self._offset = 0
        self._unsynced = 0

    def add(self, data: bytes) -> None:
        """The next bytes."""
        if self._file is None:
            self._file = self._disk.create(self._temporary)
        self._file.write(self._offset, data)
        self._offset += len(data)
        self._unsynced += len(data)
        if self._unsynced >= SYNC_BYTES:
            self._file.sync()
            self._unsynced = 0

    def finish(self, cluster_id: str, metadata: SnapshotMetadata) -> None:
        """Check every byte, then keep it under its name, durable. Raises SnapshotCorrupt."""
        if self._file is None:
            raise SnapshotCorrupt(f"snapshot {self._temporary}: nothing was received")
        for _ in read_chunks(self._file, self._temporary, cluster_id, metadata):
            pass
        self._file.sync()
        self._file.close()
        self._disk.rename(self._temporary, file_name(metadata))
        self._disk.sync_directory()

    def abandon(self) -> None:
        """Forget it."""
        if self._file is not None:
            self._file.close()
            if self._temporary in self._disk.names():
                self._disk.remove(self._temporary)


class SnapshotStore:
    """The snapshots of one directory."""

    def __init__(self, disk: Disk, cluster_id: str) -> None:
        self._disk = disk
        self._cluster_id = cluster_id

    def begin(self, metadata: SnapshotMetadata) -> SnapshotWriter:
        """Write a new one."""
        return SnapshotWriter(self._disk, self._cluster_id, metadata)

    def receive(self, identifier: str) -> SnapshotIntake:
        """Take one in from another agent."""
        return SnapshotIntake(self._disk, identifier)

    def accept(self, intake: SnapshotIntake, metadata: SnapshotMetadata) -> None:
        """Finish an intake. Raises SnapshotCorrupt if it is not what was announced."""
        intake.finish(self._cluster_id, metadata)

    def chunks(self, metadata: SnapshotMetadata) -> Iterator[bytes]:
        """The chunks of the snapshot, each checked as it is read. Raises SnapshotCorrupt."""
        name = file_name(metadata)
        try:
            file = self._disk.open(name)
        except FileNotFoundError as problem:
            raise SnapshotCorrupt(f"snapshot {name} is missing") from problem
        try:
            yield from read_chunks(file, name, self._cluster_id, metadata)
        finally:
            file.close()

    def open_raw(self, metadata: SnapshotMetadata) -> DiskFile:
        """The file itself, to be sent as it is. It stays readable when it is removed."""
        return self._disk.open(file_name(metadata))

    def clean(self, metadata: SnapshotMetadata | None) -> None:
        """At the start: remove all but this one; what else is there was never installed."""
        kept = file_name(metadata) if metadata is not None else ""
        for name in self._disk.names():
            if name.endswith((".snap", ".snap.tmp")) and name != kept:
                self._disk.remove(name)

    def remove_older(self, metadata: SnapshotMetadata) -> None:
        """Remove whole snapshots before this one. (A later one may be about to be installed.)"""
        kept = file_name(metadata)
        for name in self._disk.names():
            if name.startswith("snapshot-") and name.endswith(".snap") and name < kept:
                self._disk.remove(name)


def read_chunks(
    file: DiskFile, name: str, cluster_id: str, metadata: SnapshotMetadata
) -> Iterator[bytes]:
    """The chunks of an open snapshot file. Raises SnapshotCorrupt with name and offset."""
    offset = _check_header(file, name, cluster_id, metadata)
    total = 0
    while True:
        head = file.read(offset, _CHUNK.size)
        if len(head) < _CHUNK.size:
            raise SnapshotCorrupt(f"snapshot {name}: ends at offset {offset} without its end")
        length, crc = _CHUNK.unpack(head)
        if length == 0:
            if crc != total or file.size() != offset + _CHUNK.size:
                raise SnapshotCorrupt(f"snapshot {name}: damaged end at offset {offset}")
            return
        chunk = file.read(offset + _CHUNK.size, min(length, MAX_CHUNK_BYTES))
        if len(chunk) != length or google_crc32c.value(chunk) != crc:
            raise SnapshotCorrupt(f"snapshot {name}: damaged chunk at offset {offset}")
        yield chunk
        total = google_crc32c.extend(total, crc.to_bytes(4, "little"))
        offset += _CHUNK.size + length


def _check_header(file: DiskFile, name: str, cluster_id: str, metadata: SnapshotMetadata) -> int:
    """Compare the header with what is expected; the offset of the first chunk."""
    head = file.read(0, _HEAD.size)
    if len(head) < _HEAD.size or head[: len(MAGIC)] != MAGIC:
        raise SnapshotCorrupt(f"snapshot {name}: not a snapshot")
    _, length, crc = _HEAD.unpack(head)
    data = file.read(_HEAD.size, min(length, 1 << 20))
    if len(data) != length or google_crc32c.value(data) != crc:
        raise SnapshotCorrupt(f"snapshot {name}: damaged header")
    try:
        header = _DECODER.decode(data)
    except msgspec.MsgspecError as problem:
        raise SnapshotCorrupt(f"snapshot {name}: {problem}") from problem
    if header.format != FORMAT:
        raise SnapshotCorrupt(f"snapshot {name}: format {header.format} is unknown")
    if header.cluster_id != cluster_id:
        raise SnapshotCorrupt(f"snapshot {name} belongs to cluster {header.cluster_id}")
    if (header.metadata.index, header.metadata.term) != (metadata.index, metadata.term):
        raise SnapshotCorrupt(f"snapshot {name} is one of index {header.metadata.index}")
    return int(_HEAD.size + length)
