"""The feed's frames: what `GET /v1/internal/feed` streams. Format 1.

    HELLO  (RECORDS* END)?  MEMBERS  (DELTA | HEARTBEAT | MEMBERS)*

A frame is its length (4 octets, big-endian) and msgpack of an array whose first element is the
frame's number. A snapshot (RECORDS, closed by END with counts and a hash over the RECORDS frames)
is left out when the reader resumes. Numbers and fields are only ever appended: a reader ignores
fields it does not know, and ends the stream at a frame it does not know. Catalog objects are maps
with Consul's JSON names. Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import msgspec

from callboard.catalog.changes import Change
from callboard.catalog.objects import Check, Node, ServiceInstance

FORMAT = 1
FRAME_OCTETS_MAX = 16 << 20
"""A longer frame is malformed. Our own are far smaller: a slice of RECORDS, a slice of a batch."""

FRAME_OCTETS_WANTED = 1 << 20
"""A longer frame of several objects is cut in two: objects may be as long as a request."""

CHANGES_PER_FRAME_MAX = 1000
OBJECTS_PER_FRAME_MAX = 500

MEDIA_TYPE = "application/vnd.callboard.feed"


class FeedError(Exception):
    """The stream is malformed, incomplete, or not one this reader may follow."""


class Hello(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """The first frame: who speaks, and where the stream begins."""

    format: int
    epoch: str
    """Names one history of indexes: in another epoch an index means something else."""
    index: int
    """The agent's applied index when the stream was opened."""
    resumed: bool
    """No snapshot follows: the reader's own copy is the base."""
    datacenter: str
    agent: str
    """The agent's node name."""


class Records(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """A slice of the snapshot."""

    nodes: tuple[Node, ...] = ()
    services: tuple[ServiceInstance, ...] = ()
    checks: tuple[Check, ...] = ()


class End(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """The snapshot is complete, as of `index`; only now may it be used."""

    index: int
    nodes: int
    services: int
    checks: int
    hash: bytes
    """BLAKE2b-128 over the RECORDS frames, lengths included."""


class WireChange(msgspec.Struct, frozen=True, array_like=True):
    """One change; `value` is the object of a put."""

    index: int
    operation: str
    kind: str
    node: str
    id: str
    value: msgspec.Raw = msgspec.Raw(b"\xc0")


class Delta(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """A batch of changes in log order."""

    index: int
    """Once this frame is applied the copy stands here, if it is the batch's last one."""
    last: bool
    changes: tuple[WireChange, ...]


class Heartbeat(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """Each second: every change up to `applied_index` has been sent."""

    leader: str
    """Address of the leader's RPC listener; "" while none is known."""
    term: int
    applied_index: int
    last_contact_ms: int
    """How long ago the agent heard of its leader: so much older the copy may be."""


class Member(msgspec.Struct, frozen=True, array_like=True):
    """One member of the cluster, as gossip has it."""

    name: str
    address: str
    status: str
    server: bool


class Members(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """The members; sent at the start and whenever they change."""

    members: tuple[Member, ...]


Frame = Hello | Records | End | Delta | Heartbeat | Members

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Frame] = msgspec.msgpack.Decoder(Frame)
Kind = Literal["node", "service", "check"]
_values: dict[str, msgspec.msgpack.Decoder[Node | ServiceInstance | Check]] = {
    "node": msgspec.msgpack.Decoder(Node),
    "service": msgspec.msgpack.Decoder(ServiceInstance),
    "check": msgspec.msgpack.Decoder(Check),
}


def pack(frame: Frame) -> bytes:
    """A frame with its length in front; RECORDS and DELTA that are too long become several."""
    body = _encoder.encode(frame)
    if len(body) > FRAME_OCTETS_WANTED and (halves := _halves(frame)):
        return b"".join(map(pack, halves))
    assert len(body) <= FRAME_OCTETS_MAX, "one object is never so long"
    return len(body).to_bytes(4, "big") + body


def _halves(frame: Frame) -> tuple[Frame, ...]:
    """Two frames that together say the same; () if this one cannot be cut."""
    if isinstance(frame, Delta) and len(frame.changes) > 1:
        middle = len(frame.changes) // 2
        return (
            Delta(frame.index, False, frame.changes[:middle]),
            Delta(frame.index, frame.last, frame.changes[middle:]),
        )
    if isinstance(frame, Records):
        nodes, services, checks = frame.nodes, frame.services, frame.checks
        cuts = (len(nodes) // 2, len(services) // 2, len(checks) // 2)
        if len(nodes) + len(services) + len(checks) > 1:
            return (
                Records(nodes[: cuts[0]], services[: cuts[1]], checks[: cuts[2]]),
                Records(nodes[cuts[0] :], services[cuts[1] :], checks[cuts[2] :]),
            )
    return ()


def pack_changes(index: int, changes: list[Change]) -> bytes:
    """A batch of changes as one DELTA frame or several."""
    frames = []
    for at in range(0, len(changes), CHANGES_PER_FRAME_MAX):
        part = changes[at : at + CHANGES_PER_FRAME_MAX]
        last = at + CHANGES_PER_FRAME_MAX >= len(changes)
        frames.append(pack(Delta(index, last, tuple(map(_wire_change, part)))))
    return b"".join(frames)


def _wire_change(change: Change) -> WireChange:
    fields = (change.index, change.operation, change.kind, change.node, change.id)
    if change.operation == "delete" or change.value is None:
        return WireChange(*fields)
    return WireChange(*fields, value=msgspec.Raw(_encoder.encode(change.value)))


def read_change(wire: WireChange) -> Change:
    """A change as the catalog's tables apply it. Raises FeedError."""
    decoder = _values.get(wire.kind)
    if decoder is None:
        raise FeedError(f"a change of the unknown kind {wire.kind!r}")
    kind: Kind = wire.kind  # type: ignore[assignment]  # it is a key of _values
    if wire.operation == "delete":
        return Change(wire.index, "delete", kind, wire.node, wire.id, None)
    if wire.operation != "put":
        raise FeedError(f"the unknown change {wire.operation!r}")
    try:
        value = decoder.decode(wire.value)
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as problem:
        raise FeedError(f"a malformed {kind}: {problem}") from problem
    return Change(wire.index, "put", kind, wire.node, wire.id, value)


@dataclass(frozen=True, slots=True)
class Received:
    """A frame, and its octets as they came (the snapshot's hash is over them)."""

    frame: Frame
    octets: bytes


class FrameReader:
    """Frames out of a stream of octets that may be cut anywhere."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Received]:
        """The frames that are whole now. Raises FeedError at a malformed one."""
        buffer = self._buffer
        buffer += data
        at = 0
        try:
            while len(buffer) - at >= 4:
                length = int.from_bytes(buffer[at : at + 4], "big")
                if length > FRAME_OCTETS_MAX:
                    raise FeedError(f"a frame of {length} octets")
                if len(buffer) - at < 4 + length:
                    break
                octets = bytes(buffer[at : at + 4 + length])
                at += 4 + length
                yield Received(_decode(octets), octets)
        finally:
            del buffer[:at]


def _decode(octets: bytes) -> Frame:
    try:
        return _decoder.decode(memoryview(octets)[4:])
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as problem:
        raise FeedError(f"a malformed frame: {problem}") from problem


class SnapshotHash:
    """The hash and the counts over the RECORDS frames of one snapshot."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)
        self._nodes = self._services = self._checks = 0

    def add(self, records: Records, octets: bytes) -> None:
        """Count a frame in."""
        self._hash.update(octets)
        self._nodes += len(records.nodes)
        self._services += len(records.services)
        self._checks += len(records.checks)

    def end(self, index: int) -> End:
        """The END frame of what was added."""
        return End(index, self._nodes, self._services, self._checks, self._hash.digest())
