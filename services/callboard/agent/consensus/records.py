"""The bytes of the log: segment header, records, and the scan that tells a torn tail from damage.

    segment  = header (128 bytes) record* zeros
    header   = magic, format, sequence, salt, cluster id, zeros, CRC32C
    record   = marker, payload length, CRC32C, type, payload (msgpack)

Laws. One durable write is one record, and one write is in flight at most: so a power cut can
tear the last record only, and a bad record with a good one behind it is damage to what was
acknowledged. A record's CRC starts from its segment's header (which has a random salt) and its
own offset, so no bytes that a client may put into a value pass for a record, nor do old bytes.
Pure: no file is opened here. docs/wire-formats.md shows the format with an example.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

import google_crc32c
import msgspec

from callboard.raft.messages import Configuration, Entry, HardState, SnapshotMetadata

FORMAT = 1
"""Format number of a segment. A new format is written only once all voters announce it."""
MAGIC = b"CALLBRDL"
MARKER = b"\xcb\x0aRC"
HEADER_SIZE = 128
RECORD_HEADER_SIZE = 13
MAX_PAYLOAD_BYTES = 12 << 20
"""A record fits a 16 MiB segment beside its checkpoint."""

_HEADER = struct.Struct("<8sHHQ16s36s")
_RECORD = struct.Struct("<4sIIB")
_POSITION = struct.Struct("<QIB")
_CRC = struct.Struct("<I")


class LogCorrupt(Exception):
    """What was acknowledged is damaged: the member must not start. Names segment and offset."""


class RecordType(IntEnum):
    """What a record holds. ONLY APPEND: the numbers are on disk."""

    CHECKPOINT = 1
    BATCH = 2
    COMPACTION = 3
    RESET = 4


class Checkpoint(msgspec.Struct, frozen=True, array_like=True):
    """First record of each segment: all that the segments before it say, except their entries."""

    hard_state: HardState
    configuration: Configuration
    snapshot: SnapshotMetadata | None
    commit: int
    last_index: int
    last_term: int


class Batch(msgspec.Struct, frozen=True, array_like=True):
    """One group commit. `truncate_from` > 0: entries from that index on are void first (I4)."""

    truncate_from: int
    entries: tuple[Entry, ...]
    hard_state: HardState | None
    commit: int
    """The commit index known when this was written; it trails the truth."""


class Compaction(msgspec.Struct, frozen=True, array_like=True):
    """A local snapshot is durable; entries below `keep_from` are no longer needed."""

    snapshot: SnapshotMetadata
    keep_from: int


class Reset(msgspec.Struct, frozen=True, array_like=True):
    """A leader's snapshot takes the place of the whole log: this record is the one step (I10)."""

    snapshot: SnapshotMetadata


Record: TypeAlias = Checkpoint | Batch | Compaction | Reset

_TYPES: dict[int, type[Record]] = {
    RecordType.CHECKPOINT: Checkpoint,
    RecordType.BATCH: Batch,
    RecordType.COMPACTION: Compaction,
    RecordType.RESET: Reset,
}
_NUMBERS = {record: number for number, record in _TYPES.items()}
_DECODERS: dict[int, msgspec.msgpack.Decoder[Record]] = {
    number: msgspec.msgpack.Decoder(record) for number, record in _TYPES.items()
}
_ENCODER = msgspec.msgpack.Encoder()


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """Who wrote a segment, and which one of the row it is."""

    sequence: int
    cluster_id: str
    salt: bytes
    format: int = FORMAT

    def encode(self) -> bytes:
        """128 bytes."""
        cluster = self.cluster_id.encode("ascii")
        if len(cluster) > 36 or len(self.salt) != 16:
            raise ValueError("cluster id of at most 36 ASCII bytes, salt of 16 bytes")
        head = _HEADER.pack(MAGIC, self.format, 0, self.sequence, self.salt, cluster)
        head = head.ljust(HEADER_SIZE - _CRC.size, b"\0")
        return head + _CRC.pack(google_crc32c.value(head))

    @property
    def seed(self) -> int:
        """What the CRC of each record of this segment starts from.

        Not the CRC of the whole header: a CRC over data with its own CRC is a constant.
        """
        return int(google_crc32c.value(self.salt + self.sequence.to_bytes(8, "little")))


def decode_header(data: bytes, name: str) -> SegmentHeader:
    """The header at the start of `data`. Raises LogCorrupt naming the segment `name`."""
    head = data[: HEADER_SIZE - _CRC.size]
    stored = data[HEADER_SIZE - _CRC.size : HEADER_SIZE]
    if len(stored) < _CRC.size or _CRC.unpack(stored)[0] != google_crc32c.value(head):
        raise LogCorrupt(f"log segment {name}: damaged header at offset 0")
    magic, number, _, sequence, salt, cluster = _HEADER.unpack_from(head)
    if magic != MAGIC:
        raise LogCorrupt(f"log segment {name}: not a log segment")
    if number != FORMAT:
        raise LogCorrupt(f"log segment {name}: format {number} is unknown, {FORMAT} is known")
    return SegmentHeader(sequence, cluster.rstrip(b"\0").decode("ascii"), salt)


def encode_payload(record: Record) -> tuple[int, bytes]:
    """(type, payload) of a record."""
    return _NUMBERS[type(record)], _ENCODER.encode(record)


def frame(kind: int, payload: bytes, offset: int, seed: int) -> bytes:
    """A record's bytes for one place: `offset` in the segment whose seed is `seed`."""
    position = _POSITION.pack(offset, len(payload), kind)
    crc = google_crc32c.extend(google_crc32c.extend(seed, position), payload)
    return _RECORD.pack(MARKER, len(payload), crc, kind) + payload


def encode_record(record: Record, offset: int, seed: int) -> bytes:
    """`frame` of a record."""
    kind, payload = encode_payload(record)
    return frame(kind, payload, offset, seed)


@dataclass(frozen=True, slots=True)
class Scan:
    """What a segment holds: records with their offsets, and where they end."""

    records: tuple[tuple[int, Record], ...]
    end: int
    """Offset behind the last good record."""
    torn: bool
    """Something not zero follows `end`, and nothing valid does: the tail may be cut."""


def scan(data: bytes, seed: int, name: str) -> Scan:
    """Read every record of a segment's bytes (header included).

    Raises LogCorrupt where a record is bad and a good one follows in this segment, or where a
    record with a good CRC cannot be understood (a newer program wrote it).
    """
    records: list[tuple[int, Record]] = []
    offset = HEADER_SIZE
    while (length := _valid_length(data, offset, seed)) >= 0:
        kind = data[offset + RECORD_HEADER_SIZE - 1]
        start = offset + RECORD_HEADER_SIZE
        records.append((offset, _decode(kind, data[start : start + length], offset, name)))
        offset = start + length
    follower = next_valid(data, offset, seed)
    if follower >= 0:
        raise LogCorrupt(
            f"log segment {name}: damaged record at offset {offset}, "
            f"but a valid one follows at offset {follower}"
        )
    return Scan(tuple(records), offset, torn=bool(data[offset:].strip(b"\0")))


def next_valid(data: bytes, offset: int, seed: int) -> int:
    """Offset of the first valid record at or after `offset`; -1 if there is none."""
    while (offset := data.find(MARKER, offset)) >= 0:
        if _valid_length(data, offset, seed) >= 0:
            return offset
        offset += 1
    return -1


def _valid_length(data: bytes, offset: int, seed: int) -> int:
    """Payload length of the record at `offset` if it is whole and its CRC agrees, else -1."""
    if offset + RECORD_HEADER_SIZE > len(data):
        return -1
    marker, length, stored, kind = _RECORD.unpack_from(data, offset)
    start = offset + RECORD_HEADER_SIZE
    if marker != MARKER or length > MAX_PAYLOAD_BYTES or start + length > len(data):
        return -1
    crc = google_crc32c.extend(seed, _POSITION.pack(offset, length, kind))
    if google_crc32c.extend(crc, data[start : start + length]) != stored:
        return -1
    return int(length)


def _decode(kind: int, payload: bytes, offset: int, name: str) -> Record:
    decoder = _DECODERS.get(kind)
    if decoder is None:
        raise LogCorrupt(f"log segment {name}: record of unknown type {kind} at offset {offset}")
    try:
        return decoder.decode(payload)
    except msgspec.MsgspecError as problem:
        raise LogCorrupt(
            f"log segment {name}: record of type {kind} at offset {offset} "
            f"cannot be understood: {problem}"
        ) from problem
