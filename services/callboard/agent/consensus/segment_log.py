"""The Raft log on disk: a row of 16 MiB segments, appended to by one durable write a batch.

    00000001.log 00000002.log …      each as records.py says; *.tmp is a segment being made

Entries, term and vote, compactions and resets are records of one log, so one write makes a
whole group commit durable. A segment is made under another name, written with its checkpoint,
synced and renamed: what is called `.log` is whole. Segments are removed whole, oldest first.
The first error poisons the log: nothing is retried, for after a failed fsync nobody knows what
is on the medium (I11). No thread is started here; the caller serializes.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

from callboard.agent.consensus.disk import Disk, DiskFile
from callboard.agent.consensus.records import (
    HEADER_SIZE,
    MAX_PAYLOAD_BYTES,
    RECORD_HEADER_SIZE,
    Batch,
    Checkpoint,
    Compaction,
    LogCorrupt,
    Record,
    Reset,
    Scan,
    SegmentHeader,
    decode_header,
    encode_payload,
    frame,
    scan,
)
from callboard.raft.messages import Configuration, Entry, HardState, SnapshotMetadata

log = logging.getLogger(__name__)

SEGMENT_BYTES = 16 << 20
MAX_BATCH_BYTES = 4 << 20
"""Entries are split into records of about this size."""
MAX_ENTRY_BYTES = 8 << 20
"""A larger entry is refused before it is proposed (Consul refuses values above 512 kB)."""


class LogFailed(Exception):
    """The log is poisoned: the process must leave and be started anew."""


class ForeignLog(Exception):
    """The directory's log belongs to another cluster."""


@dataclass(slots=True)
class Recovered:
    """What the log said when it was opened."""

    cluster_id: str
    configuration: Configuration = field(default_factory=Configuration)
    hard_state: HardState = field(default_factory=HardState)
    snapshot: SnapshotMetadata | None = None
    entries: list[Entry] = field(default_factory=list)
    """Entries after the snapshot, contiguous."""
    commit: int = 0
    last_index: int = 0
    last_term: int = 0


@dataclass(slots=True)
class _Segment:
    name: str
    sequence: int
    max_index: int
    """Highest index of any entry ever written here: below `keep_from`, the segment may go."""


def has_log(disk: Disk) -> bool:
    """Whether the directory holds a log at all."""
    return any(name.endswith(".log") for name in disk.names())


class SegmentLog:
    """The open log. Made by `create_log` or `open_log`; every method blocks on the disk."""

    def __init__(self, disk: Disk, state: Recovered, *, segment_bytes: int) -> None:
        self._disk = disk
        self._state = state
        self._segment_bytes = segment_bytes
        self._segments: list[_Segment] = []
        self._file: DiskFile | None = None
        self._offset = 0
        self._seed = 0
        self._poison: Exception | None = None

    @property
    def last_index(self) -> int:
        """Index of the last durable entry (or of the snapshot the log was reset to)."""
        return self._state.last_index

    @property
    def last_term(self) -> int:
        """Term of that entry."""
        return self._state.last_term

    @property
    def segment_count(self) -> int:
        """Number of segment files."""
        return len(self._segments)

    def append(
        self, entries: Sequence[Entry], hard_state: HardState | None = None, commit: int = 0
    ) -> None:
        """Make entries, term and vote durable. One system call unless the batch is very large.

        `entries[0].index` may be at or below `last_index`: what follows there is void (I4).
        Raises LogFailed, now and ever after, if the disk fails.
        """
        first = entries[0].index if entries else 0
        truncate_from = first if first and first <= self._state.last_index else 0
        for chunk in _chunks(entries):
            self._write(Batch(truncate_from, chunk, hard_state, commit))
            truncate_from, hard_state = 0, None

    def compact(self, snapshot: SnapshotMetadata, keep_from: int) -> None:
        """Record a durable local snapshot; remove the segments wholly below `keep_from`."""
        self._write(Compaction(snapshot, keep_from))
        self._remove_below(keep_from)

    def reset(self, snapshot: SnapshotMetadata) -> None:
        """A leader's snapshot replaces the log: one durable record, then old segments go."""
        self._write(Reset(snapshot))
        self._remove_below(snapshot.index + 1)

    def close(self) -> None:
        """Close the files; nothing is written."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, record: Record) -> None:
        if self._poison is not None:
            raise LogFailed(f"the log failed before: {self._poison}")
        kind, payload = encode_payload(record)
        size = RECORD_HEADER_SIZE + len(payload)
        if len(payload) > MAX_PAYLOAD_BYTES:
            raise ValueError(f"a record of {len(payload)} bytes exceeds {MAX_PAYLOAD_BYTES}")
        try:
            if self._file is None or self._offset + size > self._segment_bytes:
                self._rotate()
            assert self._file is not None
            data = frame(kind, payload, self._offset, self._seed)
            self._file.write_durably(self._offset, data)
        except OSError as problem:
            self._poison = problem
            name = self._segments[-1].name if self._segments else "first segment"
            raise LogFailed(
                f"cannot write the log, segment {name} offset {self._offset}: {problem}"
            ) from problem
        self._offset += size
        apply_record(self._state, record, keep_entries=False)
        if isinstance(record, Batch) and record.entries:
            segment = self._segments[-1]
            segment.max_index = max(segment.max_index, record.entries[-1].index)

    def _rotate(self) -> None:
        """Begin the next segment: durable, checkpoint and all, before it has its name."""
        sequence = self._segments[-1].sequence + 1 if self._segments else 1
        header = SegmentHeader(sequence, self._state.cluster_id, secrets.token_bytes(16))
        kind, payload = encode_payload(checkpoint_of(self._state))
        head = header.encode() + frame(kind, payload, HEADER_SIZE, header.seed)
        name = f"{sequence:08d}.log"
        fresh = self._disk.create(name + ".tmp")
        fresh.allocate(self._segment_bytes)
        fresh.write(0, head)
        fresh.sync()
        self._disk.rename(name + ".tmp", name)
        self._disk.sync_directory()
        self.close()
        self._file, self._offset, self._seed = fresh, len(head), header.seed
        self._segments.append(_Segment(name, sequence, 0))

    def _remove_below(self, keep_from: int) -> None:
        try:
            while len(self._segments) > 1 and self._segments[0].max_index < keep_from:
                self._disk.remove(self._segments[0].name)
                # Synced one by one: a row with a gap would look like a lost segment.
                self._disk.sync_directory()
                del self._segments[0]
        except OSError as problem:
            self._poison = problem
            raise LogFailed(f"cannot remove a log segment: {problem}") from problem

    # Recovery ------------------------------------------------------------------------------

    def _recover(self) -> None:
        names = [name for name in self._disk.names() if name.endswith(".log")]
        for position, name in enumerate(names):
            self._replay(name, last=position == len(names) - 1)
        for leftover in self._disk.names():
            if leftover.endswith(".log.tmp"):
                self._disk.remove(leftover)

    def _replay(self, name: str, *, last: bool) -> None:
        file = self._disk.open(name)
        data = file.read(0, file.size())
        header = decode_header(data, name)
        self._check_header(header, name)
        found = scan(data, header.seed, name)
        if found.torn and not last:
            raise LogCorrupt(
                f"log segment {name}: damaged record at offset {found.end}, "
                "but a later segment is valid"
            )
        segment = _Segment(name, header.sequence, 0)
        for offset, record in found.records:
            self._replay_record(record, offset, segment)
        if not found.records:
            raise LogCorrupt(f"log segment {name}: no checkpoint at offset {HEADER_SIZE}")
        self._segments.append(segment)
        if not last:
            file.close()
            return
        if found.torn:
            _cut_tail(file, data, found, name)
        self._file, self._offset, self._seed = file, found.end, header.seed

    def _check_header(self, header: SegmentHeader, name: str) -> None:
        if self._state.cluster_id and header.cluster_id != self._state.cluster_id:
            raise ForeignLog(
                f"log segment {name} belongs to cluster {header.cluster_id}, "
                f"this agent to cluster {self._state.cluster_id}"
            )
        self._state.cluster_id = header.cluster_id
        expected = self._segments[-1].sequence + 1 if self._segments else header.sequence
        if header.sequence != expected or name != f"{header.sequence:08d}.log":
            raise LogCorrupt(f"log segment {name}: segment {expected:08d}.log is missing before it")

    def _replay_record(self, record: Record, offset: int, segment: _Segment) -> None:
        first = offset == HEADER_SIZE
        if first is not isinstance(record, Checkpoint):
            raise LogCorrupt(f"log segment {segment.name}: checkpoint misplaced, offset {offset}")
        if isinstance(record, Checkpoint):
            if self._segments and record.last_index != self._state.last_index:
                raise LogCorrupt(
                    f"log segment {segment.name}: begins after index {record.last_index}, "
                    f"the segment before it ends at {self._state.last_index}"
                )
            if self._segments:
                return
        try:
            apply_record(self._state, record, keep_entries=True)
        except ValueError as problem:
            raise LogCorrupt(f"log segment {segment.name}: offset {offset}: {problem}") from problem
        if isinstance(record, Batch) and record.entries:
            segment.max_index = max(segment.max_index, record.entries[-1].index)


def create_log(
    disk: Disk,
    cluster_id: str,
    configuration: Configuration,
    *,
    segment_bytes: int = SEGMENT_BYTES,
) -> tuple[SegmentLog, Recovered]:
    """Begin a log: its first segment is durable on return. Raises LogFailed."""
    state = Recovered(cluster_id, configuration)
    opened = SegmentLog(disk, state, segment_bytes=segment_bytes)
    try:
        for leftover in disk.names():
            if leftover.endswith(".log.tmp"):
                disk.remove(leftover)
        opened._rotate()
    except OSError as problem:
        raise LogFailed(f"cannot create the log: {problem}") from problem
    return opened, Recovered(cluster_id, configuration)


def open_log(
    disk: Disk, cluster_id: str = "", *, segment_bytes: int = SEGMENT_BYTES
) -> tuple[SegmentLog, Recovered]:
    """Open an existing log and say what it holds. `cluster_id` "" means: whichever it has.

    A torn tail is cut if nothing valid follows. Raises LogCorrupt naming segment and offset,
    ForeignLog for another cluster's, LogFailed if the disk fails.
    """
    state = Recovered(cluster_id)
    opened = SegmentLog(disk, state, segment_bytes=segment_bytes)
    try:
        opened._recover()
    except OSError as problem:
        raise LogFailed(f"cannot read the log: {problem}") from problem
    base = state.snapshot.index if state.snapshot else 0
    entries, state.entries = state.entries, []
    kept = [entry for entry in entries if entry.index > base]
    if kept and kept[0].index != base + 1:
        raise LogCorrupt(f"the log begins at index {kept[0].index}, the snapshot ends at {base}")
    if not kept and state.last_index != base and state.last_index > base:
        raise LogCorrupt(f"entries {base + 1} to {state.last_index} are missing from the log")
    return opened, Recovered(
        cluster_id=state.cluster_id,
        configuration=state.configuration,
        hard_state=state.hard_state,
        snapshot=state.snapshot,
        entries=kept,
        commit=max(state.commit, base),
        last_index=max(state.last_index, base),
        last_term=state.last_term,
    )


def checkpoint_of(state: Recovered) -> Checkpoint:
    """All that a later segment must know of the ones before it."""
    return Checkpoint(
        state.hard_state,
        state.configuration,
        state.snapshot,
        state.commit,
        state.last_index,
        state.last_term,
    )


def apply_record(state: Recovered, record: Record, *, keep_entries: bool) -> None:
    """Advance what is known by one record. ValueError if it does not follow from the last."""
    match record:
        case Checkpoint():
            state.hard_state, state.configuration = record.hard_state, record.configuration
            state.snapshot, state.commit = record.snapshot, record.commit
            state.last_index, state.last_term = record.last_index, record.last_term
        case Batch():
            _apply_batch(state, record, keep_entries=keep_entries)
        case Compaction():
            state.snapshot = record.snapshot
            state.configuration = record.snapshot.configuration
        case Reset():
            state.snapshot = record.snapshot
            state.configuration = record.snapshot.configuration
            state.entries.clear()
            state.last_index, state.last_term = record.snapshot.index, record.snapshot.term
            state.commit = max(state.commit, record.snapshot.index)


def _apply_batch(state: Recovered, batch: Batch, *, keep_entries: bool) -> None:
    if batch.truncate_from:
        # (the entries may be those of a segment long removed: then there is nothing to drop)
        while state.entries and state.entries[-1].index >= batch.truncate_from:
            state.entries.pop()
        state.last_index = min(state.last_index, batch.truncate_from - 1)
    for entry in batch.entries:
        if entry.index != state.last_index + 1:
            raise ValueError(f"entry {entry.index} follows entry {state.last_index}")
        state.last_index, state.last_term = entry.index, entry.term
    if keep_entries:
        state.entries.extend(batch.entries)
    if batch.hard_state is not None:
        state.hard_state = batch.hard_state
    state.commit = max(state.commit, batch.commit)


def _chunks(entries: Sequence[Entry]) -> list[tuple[Entry, ...]]:
    """Split by MAX_BATCH_BYTES; one empty chunk if there are none."""
    chunks: list[tuple[Entry, ...]] = []
    current: list[Entry] = []
    size = 0
    for entry in entries:
        if current and size + len(entry.data) > MAX_BATCH_BYTES:
            chunks.append(tuple(current))
            current, size = [], 0
        current.append(entry)
        size += len(entry.data) + 32
    chunks.append(tuple(current))
    return chunks


def _cut_tail(file: DiskFile, data: bytes, found: Scan, name: str) -> None:
    """Zero what a power cut left behind the last good record: it was never acknowledged."""
    end = len(data.rstrip(b"\0"))
    log.warning(
        "cut the torn tail of the log",
        extra={"segment": name, "offset": found.end, "bytes": end - found.end},
    )
    file.write(found.end, bytes(end - found.end))
    file.sync()
