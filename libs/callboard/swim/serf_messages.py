"""Serf's messages, which travel inside memberlist's user messages, and its tags.

ONLY APPEND to the enumeration: the numbers are part of serf's protocol (messages.go). Nothing but
DecodeError is raised for what came from outside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum

import msgpack

from callboard.swim.codec import PORT_MAX, SEQUENCE_MAX, pack_address, unpack_address
from callboard.swim.messages import Address
from callboard.swim.packing import (
    DecodeError,
    Fields,
    fields,
    integer,
    pack,
    text,
    unpack,
    unpack_map,
)

TAGS_MAGIC = 255
"""The first byte of a meta that is a map of tags (serf.go, tagMagicByte)."""

ACKNOWLEDGEMENT = 1
"""The flag of a query that wants to be told who has heard it, and of an answer that only tells so
(query.go, queryFlagAck)."""


class SerfType(IntEnum):
    """The first byte of a serf message. ONLY APPEND."""

    LEAVE = 0
    JOIN = 1
    PUSH_PULL = 2
    USER_EVENT = 3
    QUERY = 4
    QUERY_RESPONSE = 5
    CONFLICT_RESPONSE = 6
    KEY_REQUEST = 7
    KEY_RESPONSE = 8
    RELAY = 9


@dataclass(frozen=True, slots=True)
class JoinIntent:
    """`node` means to be in, at that Lamport time."""

    time: int
    node: str


@dataclass(frozen=True, slots=True)
class LeaveIntent:
    """`node` means to leave, or is forced to; with `prune` it is forgotten at once."""

    time: int
    node: str
    prune: bool = False


@dataclass(frozen=True, slots=True)
class UserEvent:
    """An event that someone fired; `coalesce` is for its reader."""

    time: int
    name: str
    payload: bytes
    coalesce: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """A question to all members; answers go to `source` directly."""

    time: int
    number: int
    source: Address | None
    source_node: str
    filters: tuple[bytes, ...]
    flags: int
    relay_factor: int
    timeout_ns: int
    name: str
    payload: bytes

    @property
    def wants_ack(self) -> bool:
        """The asker counts who has heard it."""
        return bool(self.flags & ACKNOWLEDGEMENT)

    @property
    def is_broadcast(self) -> bool:
        """It is to be spread further."""
        return not self.flags & 2


@dataclass(frozen=True, slots=True)
class QueryResponse:
    """An answer to a query; with flag 1 only an acknowledgement."""

    time: int
    number: int
    source: str
    flags: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Relayed:
    """A message to be passed on to another member."""

    destination: Address
    data: bytes
    name: str = ""
    """The member's."""


@dataclass(frozen=True, slots=True)
class UserState:
    """Serf's part of a push/pull exchange."""

    time: int
    status_times: Mapping[str, int]
    left: tuple[str, ...]
    event_time: int
    events: tuple[UserEvent, ...]
    query_time: int


SerfMessage = JoinIntent | LeaveIntent | UserEvent | Query | QueryResponse | Relayed | UserState


def encode_tags(tags: Mapping[str, str]) -> bytes:
    """Tags as a member's meta."""
    return bytes((TAGS_MAGIC,)) + pack(dict(sorted(tags.items())))


def decode_tags(meta: bytes) -> dict[str, str]:
    """The tags in a member's meta; a meta without the magic byte is an old role name.

    What cannot be read gives no tags: a member is not refused for its meta.
    """
    if not meta or meta[0] != TAGS_MAGIC:
        return {"role": meta.decode(errors="replace")} if meta else {}
    try:
        tags = unpack(meta[1:])
        if not isinstance(tags, dict):
            return {}
        return {text(key): text(value) for key, value in tags.items()}
    except DecodeError:
        return {}


def encode_serf(message: SerfMessage) -> bytes:
    """A serf message: its type byte and its body."""
    if isinstance(message, Relayed):
        return _encode_relayed(message)
    kind, body = _ENCODERS[type(message)](message)
    return bytes((kind,)) + pack(body)


def _encode_query(query: Query) -> tuple[int, object]:
    address, port = query.source or ("", 0)
    return SerfType.QUERY, {
        "LTime": query.time,
        "ID": query.number,
        "Addr": pack_address(address),
        "Port": port,
        "SourceNode": query.source_node,
        "Filters": list(query.filters),
        "Flags": query.flags,
        "RelayFactor": query.relay_factor,
        "Timeout": query.timeout_ns,
        "Name": query.name,
        "Payload": query.payload,
    }


def _encode_relayed(message: Relayed) -> bytes:
    address, port = message.destination
    target = {"IP": pack_address(address), "Port": port, "Zone": ""}
    head = pack({"DestAddr": target, "DestName": message.name})
    return bytes((SerfType.RELAY,)) + head + message.data


def _encode_user_state(state: UserState) -> tuple[int, object]:
    return SerfType.PUSH_PULL, {
        "LTime": state.time,
        "StatusLTimes": dict(state.status_times),
        "LeftMembers": list(state.left),
        "EventLTime": state.event_time,
        "Events": [
            {"LTime": e.time, "Events": [{"Name": e.name, "Payload": e.payload}]}
            for e in state.events
        ],
        "QueryLTime": state.query_time,
    }


_ENCODERS: dict[type, Callable[..., tuple[int, object]]] = {
    JoinIntent: lambda m: (SerfType.JOIN, {"LTime": m.time, "Node": m.node}),
    LeaveIntent: lambda m: (
        SerfType.LEAVE,
        {"LTime": m.time, "Node": m.node, "Prune": m.prune},
    ),
    UserEvent: lambda m: (
        SerfType.USER_EVENT,
        {"LTime": m.time, "Name": m.name, "Payload": m.payload, "CC": m.coalesce},
    ),
    Query: _encode_query,
    QueryResponse: lambda m: (
        SerfType.QUERY_RESPONSE,
        {
            "LTime": m.time,
            "ID": m.number,
            "From": m.source,
            "Flags": m.flags,
            "Payload": m.payload,
        },
    ),
    UserState: _encode_user_state,
}


def decode_serf(data: bytes) -> SerfMessage:
    """A serf message. Raises DecodeError."""
    if not data:
        raise DecodeError("empty serf message")
    decoder = _DECODERS.get(data[0])
    if decoder is None:
        raise DecodeError(f"unexpected serf message type {data[0]}")
    return decoder(data[1:])


def _decode_join(body: bytes) -> JoinIntent:
    source = unpack_map(body)
    return JoinIntent(source.integer("LTime"), source.text("Node"))


def _decode_leave(body: bytes) -> LeaveIntent:
    source = unpack_map(body)
    return LeaveIntent(source.integer("LTime"), source.text("Node"), source.flag("Prune"))


def _decode_user_event(body: bytes) -> UserEvent:
    source = unpack_map(body)
    return UserEvent(
        source.integer("LTime"), source.text("Name"), source.raw("Payload"), source.flag("CC")
    )


def _decode_query(body: bytes) -> Query:
    source = unpack_map(body)
    address = unpack_address(source.raw("Addr"))
    port = source.integer("Port", PORT_MAX)
    filters = source.items("Filters")
    return Query(
        source.integer("LTime"),
        source.integer("ID", SEQUENCE_MAX),
        (address, port) if address and port else None,
        source.text("SourceNode"),
        tuple(one for one in filters if isinstance(one, bytes)),
        source.integer("Flags", SEQUENCE_MAX),
        source.integer("RelayFactor", 255),
        source.signed("Timeout"),
        source.text("Name"),
        source.raw("Payload"),
    )


def _decode_query_response(body: bytes) -> QueryResponse:
    source = unpack_map(body)
    return QueryResponse(
        source.integer("LTime"),
        source.integer("ID", SEQUENCE_MAX),
        source.text("From"),
        source.integer("Flags", SEQUENCE_MAX),
        source.raw("Payload"),
    )


def _decode_relayed(body: bytes) -> Relayed:
    unpacker = msgpack.Unpacker(raw=True, max_buffer_size=len(body) + 1, max_array_len=64)
    unpacker.feed(body)
    try:
        head = fields(unpacker.unpack())
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as problem:
        raise DecodeError(f"bad relay header: {problem}") from None
    target = fields(head.get("DestAddr"))
    address = unpack_address(target.raw("IP"))
    if not address:
        raise DecodeError("a relayed message without a destination")
    destination = (address, target.integer("Port", PORT_MAX))
    return Relayed(destination, body[unpacker.tell() :], head.text("DestName"))


def _decode_user_state(body: bytes) -> UserState:
    source = unpack_map(body)
    times = source.entries("StatusLTimes")
    return UserState(
        source.integer("LTime"),
        {text(name): integer(time) for name, time in times.items()},
        tuple(text(name) for name in source.items("LeftMembers")),
        source.integer("EventLTime"),
        tuple(_decode_events(source)),
        source.integer("QueryLTime"),
    )


def _decode_events(source: Fields) -> list[UserEvent]:
    events = []
    for slot in source.items("Events"):
        if slot is None:
            continue  # Go sends its ring as it is: empty places are nil
        group = fields(slot)
        for one in group.items("Events"):
            event = fields(one)
            events.append(
                UserEvent(group.integer("LTime"), event.text("Name"), event.raw("Payload"))
            )
    return events


_DECODERS: dict[int, Callable[[bytes], SerfMessage]] = {
    SerfType.LEAVE: _decode_leave,
    SerfType.JOIN: _decode_join,
    SerfType.PUSH_PULL: _decode_user_state,
    SerfType.USER_EVENT: _decode_user_event,
    SerfType.QUERY: _decode_query,
    SerfType.QUERY_RESPONSE: _decode_query_response,
    SerfType.RELAY: _decode_relayed,
}
