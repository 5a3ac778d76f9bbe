"""Snapshots of the state: a pinned version as small chunks, and a restore that proves it whole.

A snapshot is a stream of records, so it may be cut anywhere on its way:

    length (4 bytes, big endian) of what follows | record kind (1 byte) | msgpack

It begins with a header (format number, applied index) and ends with an end record (counts, state
hash). Objects stand in slices of at most SLICE_OBJECTS or about SLICE_BYTES, so that encoding one
takes a few milliseconds; the version is pinned by shallow copies, so applying goes on in between.
See docs/wire-formats.md.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from enum import IntEnum

import msgspec

from callboard.agent.state.dedupe import Answer
from callboard.agent.state.fsm import State
from callboard.agent.state.waits import WaitSets
from callboard.catalog.objects import Check, KeyValue, Node, ServiceInstance
from callboard.catalog.pinned import PinnedTables

FORMAT = 1
"""Written only once all voters understand it; ranges are read, one is written."""

SLICE_OBJECTS = 256
SLICE_BYTES = 256 * 1024
RECORD_SIZE_MAX = 64 * 1024 * 1024
"""A longer record is garbage, not a snapshot."""

_LENGTH = struct.Struct(">I")
_ENCODE = msgspec.msgpack.Encoder().encode


class SnapshotError(Exception):
    """The chunks are not a whole snapshot this version understands; the state is unchanged."""


class RecordKind(IntEnum):
    """What a record holds. ONLY APPEND: the numbers are on disk."""

    HEADER = 1
    NODES = 2
    SERVICES = 3
    CHECKS = 4
    KEYS = 5
    TOMBSTONES = 6
    INDEXES = 7
    REQUESTS = 8
    END = 9


class Header(msgspec.Struct, frozen=True, array_like=True):
    """First record. An unknown format is refused."""

    format: int
    applied_index: int
    datacenter: str
    key_floor: int


class End(msgspec.Struct, frozen=True, array_like=True):
    """Last record: what a restore must have arrived at."""

    records: int
    """How many stand before this one."""
    nodes: int
    services: int
    checks: int
    keys: int
    digest: int


class IndexSlice(msgspec.Struct, frozen=True, array_like=True):
    """Some entries of one table of resource indexes."""

    kind: str
    part: str
    table: dict[str, int]


class _NodeRow(Node, frozen=True, array_like=True, gc=False, kw_only=True):
    """A node as an array: a third of the bytes."""


class _ServiceRow(ServiceInstance, frozen=True, array_like=True, gc=False, kw_only=True):
    """A service instance as an array."""


class _CheckRow(Check, frozen=True, array_like=True, gc=False, kw_only=True):
    """A check as an array."""


class _KeyRow(KeyValue, frozen=True, array_like=True, gc=False, kw_only=True):
    """A key as an array."""


def encode(state: State, applied_index: int, datacenter: str) -> Iterator[bytes]:
    """The state as it is at the first `next()`, one record a chunk."""
    pinned = state.tables.pin()
    keys, tombstones, floor = state.keys.pin()
    indexes = state.indexes.dump()
    requests = state.requests.dump()
    counts = (*state.tables.counts, len(keys))
    digest = state.digest
    records = 0
    for record in _body(Header(FORMAT, applied_index, datacenter, floor), pinned, keys):
        records += 1
        yield record
    for record in _rest(tombstones, indexes, requests):
        records += 1
        yield record
    yield _record(RecordKind.END, End(records, *counts, digest))


def _body(header: Header, pinned: PinnedTables, keys: list[KeyValue]) -> Iterator[bytes]:
    yield _record(RecordKind.HEADER, header)
    yield from _objects(RecordKind.NODES, pinned.nodes())
    yield from _objects(RecordKind.SERVICES, pinned.services())
    yield from _objects(RecordKind.CHECKS, pinned.checks())
    yield from _keys(keys)


def _rest(
    tombstones: list[tuple[str, int]],
    indexes: list[tuple[str, str, dict[str, int]]],
    requests: list[tuple[bytes, Answer]],
) -> Iterator[bytes]:
    for some in _slices(tombstones):
        yield _record(RecordKind.TOMBSTONES, some)
    for kind, part, table in indexes:
        for items in _pairs(table):
            yield _record(RecordKind.INDEXES, IndexSlice(kind, part, items))
    for answers in _slices(requests):
        yield _record(RecordKind.REQUESTS, answers)


def _record(kind: RecordKind, payload: object) -> bytes:
    body = _ENCODE(payload)
    return _LENGTH.pack(len(body) + 1) + bytes((kind,)) + body


def _slices(items: Iterable[object]) -> Iterator[list[msgspec.Raw]]:
    """The items, encoded, in slices bounded by number and by bytes."""
    part: list[msgspec.Raw] = []
    size = 0
    for item in items:
        encoded = _ENCODE(item)
        part.append(msgspec.Raw(encoded))
        size += len(encoded)
        if len(part) == SLICE_OBJECTS or size >= SLICE_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


def _pairs(table: dict[str, int]) -> Iterator[dict[str, int]]:
    """A table in parts, bounded likewise."""
    part: dict[str, int] = {}
    size = 0
    for name, index in table.items():
        part[name] = index
        size += len(name)
        if len(part) == SLICE_OBJECTS or size >= SLICE_BYTES:
            yield part
            part, size = {}, 0
    if part:
        yield part


def _objects(kind: RecordKind, objects: Iterable[msgspec.Struct]) -> Iterator[bytes]:
    for part in _slices(msgspec.structs.astuple(each) for each in objects):
        yield _record(kind, part)


def _keys(entries: list[KeyValue]) -> Iterator[bytes]:
    part: list[tuple[object, ...]] = []
    size = 0
    for entry in entries:
        part.append(msgspec.structs.astuple(entry))
        size += len(entry.value) + len(entry.key)
        if len(part) == SLICE_OBJECTS or size >= SLICE_BYTES:
            yield _record(RecordKind.KEYS, part)
            part, size = [], 0
    if part:
        yield _record(RecordKind.KEYS, part)


# ------------------------------------------------------------------------------ restoring


def records(chunks: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """The (kind, payload) records in a stream cut anywhere. Raises SnapshotError."""
    buffer = bytearray()
    for chunk in chunks:
        buffer += chunk
        start = 0
        while len(buffer) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(buffer, start)
            if not 1 <= length <= RECORD_SIZE_MAX:
                raise SnapshotError(f"snapshot record of {length} bytes")
            stop = start + _LENGTH.size + length
            if len(buffer) < stop:
                break
            body = start + _LENGTH.size
            yield buffer[body], bytes(buffer[body + 1 : stop])
            start = stop
        del buffer[:start]
    if buffer:
        raise SnapshotError("snapshot cut short within a record")


class Restore:
    """A state being built from records; `finish` gives it once it proved whole."""

    def __init__(self, waits: WaitSets) -> None:
        self.state = State(waits)
        self.header: Header | None = None
        self._end: End | None = None
        self._records = 0

    def add(self, kind: int, payload: bytes) -> None:
        """Take one record; a few milliseconds. Raises SnapshotError."""
        if self._end is not None:
            raise SnapshotError("snapshot goes on after its end record")
        if (self.header is None) != (kind == RecordKind.HEADER):
            raise SnapshotError("snapshot does not begin with one header")
        reader = _READERS.get(kind)
        if reader is None:
            raise SnapshotError(f"snapshot record of unknown kind {kind}")
        try:
            reader(self, payload)
            self._records += kind != RecordKind.END
        except (msgspec.MsgspecError, KeyError) as error:
            raise SnapshotError(f"snapshot record of kind {kind} is malformed: {error}") from error

    def finish(self) -> State:
        """The whole state. Raises SnapshotError if anything is missing or different."""
        if self._end is None or self.header is None:
            raise SnapshotError("snapshot without an end record")
        state = self.state
        found = End(self._records, *state.tables.counts, len(state.keys), state.digest)
        if found != self._end:
            raise SnapshotError(f"snapshot says {self._end} but holds {found}")
        return state

    def _read_header(self, payload: bytes) -> None:
        self.header = msgspec.msgpack.decode(payload, type=Header)
        if self.header.format != FORMAT:
            raise SnapshotError(f"snapshot format {self.header.format} is not {FORMAT}")
        self.state.keys.raise_floor(self.header.key_floor)

    def _read_nodes(self, payload: bytes) -> None:
        self.state.registrations.load(_NODES(payload), [], [])

    def _read_services(self, payload: bytes) -> None:
        self.state.registrations.load([], _SERVICES(payload), [])

    def _read_checks(self, payload: bytes) -> None:
        self.state.registrations.load([], [], _CHECKS(payload))

    def _read_keys(self, payload: bytes) -> None:
        entries = [
            KeyValue(**dict(zip(_KEY_FIELDS, msgspec.structs.astuple(row), strict=True)))
            for row in _KEYS(payload)
        ]
        self.state.keys.load(entries, ())

    def _read_tombstones(self, payload: bytes) -> None:
        self.state.keys.load((), msgspec.msgpack.decode(payload, type=list[tuple[str, int]]))

    def _read_indexes(self, payload: bytes) -> None:
        part = msgspec.msgpack.decode(payload, type=IndexSlice)
        self.state.indexes.load(part.kind, part.part, part.table)

    def _read_requests(self, payload: bytes) -> None:
        for request_id, answer in msgspec.msgpack.decode(
            payload, type=list[tuple[bytes, bool | str]]
        ):
            self.state.requests.remember(request_id, answer)

    def _read_end(self, payload: bytes) -> None:
        self._end = msgspec.msgpack.decode(payload, type=End)


_KEY_FIELDS = KeyValue.__struct_fields__
_NODES = msgspec.msgpack.Decoder(list[_NodeRow]).decode
_SERVICES = msgspec.msgpack.Decoder(list[_ServiceRow]).decode
_CHECKS = msgspec.msgpack.Decoder(list[_CheckRow]).decode
_KEYS = msgspec.msgpack.Decoder(list[_KeyRow]).decode

_READERS: dict[int, Callable[[Restore, bytes], None]] = {
    RecordKind.HEADER: Restore._read_header,
    RecordKind.NODES: Restore._read_nodes,
    RecordKind.SERVICES: Restore._read_services,
    RecordKind.CHECKS: Restore._read_checks,
    RecordKind.KEYS: Restore._read_keys,
    RecordKind.TOMBSTONES: Restore._read_tombstones,
    RecordKind.INDEXES: Restore._read_indexes,
    RecordKind.REQUESTS: Restore._read_requests,
    RecordKind.END: Restore._read_end,
}
