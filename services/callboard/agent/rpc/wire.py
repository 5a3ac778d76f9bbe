"""The bytes between agents: frames, the handshake, and what each channel may carry.

    connection = magic, HELLO | magic, (WELCOME or REFUSED) | frames of one channel
    frame      = length of what follows (4 bytes, big endian), kind (1 byte), body (msgpack)

Every connection serves one channel, named in its HELLO, so heartbeats never wait behind snapshot
chunks. Pure: no socket is opened here. Both sides check that they are of one datacenter, one
cluster (where both know theirs) and speak a common version; else one says why and both log it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import TypeVar

import msgspec

from callboard.agent.rpc.errors import ProtocolError

MAGIC = b"CBR1"
PROTOCOL_MIN = 1
"""The oldest version understood."""
PROTOCOL_MAX = 1
"""The newest version understood; the newest common one is spoken."""
HANDSHAKE_BYTES_MAX = 4096


class FrameKind(IntEnum):
    """What a frame's body is. ONLY APPEND: the numbers are on the wire."""

    HELLO = 1
    WELCOME = 2
    REFUSED = 3
    CALL = 4
    ANSWER = 5
    FAILURE = 6
    CANCEL = 7
    PING = 8
    PONG = 9
    MESSAGE = 10
    SNAPSHOT_BEGIN = 11
    SNAPSHOT_CHUNK = 12
    SNAPSHOT_END = 13
    SNAPSHOT_DONE = 14
    ANSWER_PART = 15


class Channel(StrEnum):
    """What a connection is for."""

    RPC = "rpc"
    """Calls and answers, many at once."""
    RAFT = "raft"
    """One way: appends and their responses."""
    HEARTBEAT = "heartbeat"
    """One way: heartbeats, votes, their responses."""
    SNAPSHOT = "snapshot"
    """One snapshot, then closed."""


FRAME_BYTES_MAX = {
    Channel.RPC: 64 << 20,
    Channel.RAFT: 16 << 20,
    Channel.HEARTBEAT: 64 << 10,
    Channel.SNAPSHOT: 1 << 20,
}
"""A longer frame closes the connection."""
ANSWER_PART_BYTES = 4 << 20
"""A longer answer goes in parts of this size, so that other answers find their way between."""
ANSWER_BYTES_MAX = 1 << 30
"""A longer answer is refused where it is made, and where it comes."""


class Hello(msgspec.Struct, frozen=True, array_like=True):
    """The dialler's introduction."""

    protocol_min: int
    protocol_max: int
    channel: str
    datacenter: str
    cluster_id: str
    """"" while not yet known."""
    node_id: str
    node_name: str


class Welcome(msgspec.Struct, frozen=True, array_like=True):
    """The listener's: what is spoken from here on, and who it is."""

    protocol: int
    cluster_id: str
    node_id: str
    node_name: str


class Refused(msgspec.Struct, frozen=True, array_like=True):
    """Why the listener hangs up."""

    reason: str


class Call(msgspec.Struct, frozen=True, array_like=True):
    """A request; `id` is unique on its connection."""

    id: int
    method: str
    body: bytes


class AnswerTo(msgspec.Struct, frozen=True, array_like=True):
    """What the handler returned: in an ANSWER all of it, or what its ANSWER_PARTs left over."""

    id: int
    body: bytes


class Failure(msgspec.Struct, frozen=True, array_like=True):
    """What the handler raised."""

    id: int
    text: str


class Cancel(msgspec.Struct, frozen=True, array_like=True):
    """The caller no longer waits for this call."""

    id: int


@dataclass(slots=True)
class LocalMember:
    """Who this agent is, to others. `cluster_id` is set once, when the cluster is formed."""

    node_id: str
    node_name: str
    datacenter: str
    cluster_id: str = ""


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is on the other side of a connection."""

    node_id: str
    node_name: str
    cluster_id: str
    address: str
    """"ip:port" of the connection's other end; for a dialled one, that of its listener."""
    server: bool = True
    """Its certificate is a server's; True in the clear, where nobody can tell."""


T = TypeVar("T")
ENCODER = msgspec.msgpack.Encoder()


def encode_frame(kind: int, body: bytes) -> bytes:
    """A whole frame."""
    return (len(body) + 1).to_bytes(4, "big") + kind.to_bytes(1, "big") + body


def decode_body(decoder: msgspec.msgpack.Decoder[T], body: bytes) -> T:
    """A frame's body. Raises ProtocolError."""
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as problem:
        raise ProtocolError(f"malformed body: {problem}") from problem


class FrameReader:
    """Cuts a stream of bytes into frames; holds at most one incomplete frame."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        """Longest frame taken; raised once the handshake is over."""
        self._awaiting_magic = True
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """(kind, body) of every frame that is now whole. Raises ProtocolError.

        To be iterated to its end before the next feed.
        """
        self._buffer += data
        if self._awaiting_magic and not self._take_magic():
            return
        start = 0
        try:
            while len(self._buffer) - start >= 4:
                length = int.from_bytes(self._buffer[start : start + 4], "big")
                if not 1 <= length <= self.limit:
                    raise ProtocolError(f"frame of {length} bytes, at most {self.limit} are taken")
                end = start + 4 + length
                if end > len(self._buffer):
                    break
                kind, body = self._buffer[start + 4], bytes(self._buffer[start + 5 : end])
                start = end
                yield kind, body
        finally:
            del self._buffer[:start]

    def _take_magic(self) -> bool:
        head = bytes(self._buffer[: len(MAGIC)])
        if not MAGIC.startswith(head):
            raise ProtocolError("not our protocol")
        if len(head) < len(MAGIC):
            return False
        del self._buffer[: len(MAGIC)]
        self._awaiting_magic = False
        return True


def hello_of(member: LocalMember, channel: Channel) -> Hello:
    """What `member` says when it dials."""
    return Hello(
        PROTOCOL_MIN,
        PROTOCOL_MAX,
        channel,
        member.datacenter,
        member.cluster_id,
        member.node_id,
        member.node_name,
    )


def answer_hello(hello: Hello, member: LocalMember) -> Welcome | Refused:
    """What `member` answers to a dialler."""
    spoken = min(hello.protocol_max, PROTOCOL_MAX)
    if spoken < max(hello.protocol_min, PROTOCOL_MIN):
        return Refused(
            f"protocol versions {hello.protocol_min} to {hello.protocol_max} "
            f"are not spoken here, {PROTOCOL_MIN} to {PROTOCOL_MAX} are"
        )
    if hello.channel not in FRAME_BYTES_MAX:
        return Refused(f"unknown channel {hello.channel!r}")
    if hello.datacenter != member.datacenter:
        return Refused(
            f"datacenter is {member.datacenter!r} here, {hello.datacenter!r} on the other side"
        )
    if hello.cluster_id and member.cluster_id and hello.cluster_id != member.cluster_id:
        return Refused(
            f"cluster is {member.cluster_id} here, {hello.cluster_id} on the other side: "
            "a data directory of another cluster?"
        )
    return Welcome(spoken, member.cluster_id, member.node_id, member.node_name)
