"""Memberlist's bytes: messages to and from bytes, and the layers round a datagram.

A datagram is, from the outside in: label header, encryption, checksum, then one message, which
may be a compound of several or a compressed one. Streams are in `streams`. Nothing but
DecodeError is ever raised for what came from outside.
"""

from __future__ import annotations

import ipaddress
import zlib
from collections.abc import Callable, Sequence
from functools import lru_cache

from callboard.swim.config import META_BYTES_MAX
from callboard.swim.keyring import OVERHEAD_BYTES, Keyring
from callboard.swim.lzw import decompress
from callboard.swim.messages import (
    INCARNATION_MAX,
    Ack,
    Address,
    Alive,
    Dead,
    ErrorReply,
    IndirectPing,
    Message,
    MessageType,
    Nack,
    NodeState,
    Ping,
    Status,
    Suspect,
    User,
    Versions,
)
from callboard.swim.packing import DecodeError, Fields, pack, unpack_map

DATAGRAM_BYTES_MAX = 65536
"""The largest datagram read."""

DATAGRAM_UNFOLDED_BYTES_MAX = 256 * 1024
"""The most that a compressed datagram may unfold to."""

NESTING_MAX = 4
"""How deep compound and compressed messages may nest."""

COMPOUND_PARTS_MAX = 255
COMPOUND_HEADER_BYTES = 2
COMPOUND_PART_BYTES = 2
LABEL_BYTES_MAX = 255
CRC_BYTES = 5
CRC_SINCE_PROTOCOL = 5
"""Checksums are understood by members of at least this protocol version."""

PORT_MAX = 65535
SEQUENCE_MAX = 2**32 - 1

_VERSION_BYTES = 6


@lru_cache(maxsize=4096)
def pack_address(address: str) -> bytes:
    """An IP address as Go's net.IP: 4 or 16 bytes; empty for an empty text."""
    return ipaddress.ip_address(address).packed if address else b""


@lru_cache(maxsize=4096)
def unpack_address(packed: bytes) -> str:
    """Go's net.IP as text; an IPv4 address in 16 bytes becomes an IPv4 address."""
    if not packed:
        return ""
    if len(packed) == 16:
        six = ipaddress.IPv6Address(packed)
        return str(six.ipv4_mapped or six)
    if len(packed) != 4:
        raise DecodeError(f"an IP address has 4 or 16 bytes, not {len(packed)}")
    return str(ipaddress.IPv4Address(packed))


def pack_versions(versions: Versions | None) -> bytes:
    """Memberlist's Vsn: six bytes, or none."""
    if versions is None:
        return b""
    return bytes(
        (
            versions.protocol_min,
            versions.protocol_max,
            versions.protocol_current,
            versions.delegate_min,
            versions.delegate_max,
            versions.delegate_current,
        )
    )


@lru_cache(maxsize=64)
def unpack_versions(packed: bytes) -> Versions | None:
    """Memberlist's Vsn; very old members send none."""
    return Versions(*packed[:_VERSION_BYTES]) if len(packed) >= _VERSION_BYTES else None


def encode(message: Message) -> bytes:
    """One message: its type byte and its MessagePack map. Streams' messages are in `streams`."""
    kind, body = _ENCODERS[type(message)](message)
    return bytes((kind,)) + (body if isinstance(body, bytes) else pack(body))


def _source_fields(source: Address | None, node: str) -> dict[str, object]:
    if source is None:
        return {}
    return {"SourceAddr": pack_address(source[0]), "SourcePort": source[1], "SourceNode": node}


def _encode_ping(message: Ping) -> tuple[int, object]:
    return MessageType.PING, {
        "SeqNo": message.sequence,
        "Node": message.node,
        **_source_fields(message.source, message.source_node),
    }


def _encode_indirect_ping(message: IndirectPing) -> tuple[int, object]:
    return MessageType.INDIRECT_PING, {
        "SeqNo": message.sequence,
        "Target": pack_address(message.target[0]),
        "Port": message.target[1],
        "Node": message.node,
        "Nack": message.nack,
        **_source_fields(message.source, message.source_node),
    }


def _encode_alive(message: Alive) -> tuple[int, object]:
    return MessageType.ALIVE, {
        "Incarnation": message.incarnation,
        "Node": message.node,
        "Addr": pack_address(message.address),
        "Port": message.port,
        "Meta": message.meta,
        "Vsn": pack_versions(message.versions),
    }


def _encode_accusation(kind: int) -> Callable[[Suspect | Dead], tuple[int, object]]:
    def encode_one(message: Suspect | Dead) -> tuple[int, object]:
        return kind, {
            "Incarnation": message.incarnation,
            "Node": message.node,
            "From": message.source,
        }

    return encode_one


_ENCODERS: dict[type, Callable[..., tuple[int, object]]] = {
    Ping: _encode_ping,
    IndirectPing: _encode_indirect_ping,
    Ack: lambda m: (MessageType.ACK, {"SeqNo": m.sequence, "Payload": m.payload}),
    Nack: lambda m: (MessageType.NACK, {"SeqNo": m.sequence}),
    Suspect: _encode_accusation(MessageType.SUSPECT),
    Alive: _encode_alive,
    Dead: _encode_accusation(MessageType.DEAD),
    User: lambda m: (MessageType.USER, m.data),
    ErrorReply: lambda m: (MessageType.ERROR, {"Error": m.error}),
}


def encode_node_state(state: NodeState) -> bytes:
    """One row of a push/pull exchange."""
    return pack(
        {
            "Name": state.name,
            "Addr": pack_address(state.address),
            "Port": state.port,
            "Meta": state.meta,
            "Incarnation": state.incarnation,
            "State": int(state.status),
            "Vsn": pack_versions(state.versions),
        }
    )


def decode(data: bytes) -> Message:
    """One plain message (no compound, no layer). Raises DecodeError."""
    if not data:
        raise DecodeError("empty message")
    decoder = _DECODERS.get(data[0])
    if decoder is None:
        raise DecodeError(f"unexpected message type {data[0]}")
    return decoder(data[1:])


def _node(source: Fields) -> str:
    name = source.text("Node")
    if not name:
        raise DecodeError("a node without a name")
    return name


def _source(source: Fields) -> Address | None:
    address = unpack_address(source.raw("SourceAddr"))
    port = source.integer("SourcePort", PORT_MAX)
    return (address, port) if address and port else None


def _decode_ping(body: bytes) -> Ping:
    source = unpack_map(body)
    return Ping(
        source.integer("SeqNo", SEQUENCE_MAX),
        source.text("Node"),
        _source(source),
        source.text("SourceNode"),
    )


def _decode_indirect_ping(body: bytes) -> IndirectPing:
    source = unpack_map(body)
    target = unpack_address(source.raw("Target"))
    if not target:
        raise DecodeError("an indirect ping without a target")
    return IndirectPing(
        source.integer("SeqNo", SEQUENCE_MAX),
        (target, source.integer("Port", PORT_MAX)),
        source.text("Node"),
        source.flag("Nack"),
        _source(source),
        source.text("SourceNode"),
    )


def _decode_ack(body: bytes) -> Ack:
    source = unpack_map(body)
    return Ack(source.integer("SeqNo", SEQUENCE_MAX), source.raw("Payload"))


def _decode_nack(body: bytes) -> Nack:
    return Nack(unpack_map(body).integer("SeqNo", SEQUENCE_MAX))


def _decode_suspect(body: bytes) -> Suspect:
    source = unpack_map(body)
    return Suspect(
        source.integer("Incarnation", INCARNATION_MAX), _node(source), source.text("From")
    )


def _decode_dead(body: bytes) -> Dead:
    source = unpack_map(body)
    return Dead(source.integer("Incarnation", INCARNATION_MAX), _node(source), source.text("From"))


def _decode_alive(body: bytes) -> Alive:
    source = unpack_map(body)
    address, port = _reachable(source)
    return Alive(
        source.integer("Incarnation", INCARNATION_MAX),
        _node(source),
        address,
        port,
        source.raw("Meta", META_BYTES_MAX),
        unpack_versions(source.raw("Vsn")),
    )


def _reachable(source: Fields) -> Address:
    address = unpack_address(source.raw("Addr"))
    if not address:
        raise DecodeError("a node without an address")
    return address, source.integer("Port", PORT_MAX)


def decode_node_state(source: Fields) -> NodeState:
    """One row of a push/pull exchange. Raises DecodeError."""
    address, port = _reachable(source)
    name = source.text("Name")
    status = source.integer("State")
    if not name or status > max(Status):
        raise DecodeError(f"bad state of a node: {name!r} {status}")
    return NodeState(
        name,
        address,
        port,
        source.raw("Meta", META_BYTES_MAX),
        source.integer("Incarnation", INCARNATION_MAX),
        Status(status),
        unpack_versions(source.raw("Vsn")),
    )


def _decode_user(body: bytes) -> User:
    return User(body)


def _decode_error(body: bytes) -> ErrorReply:
    return ErrorReply(unpack_map(body).text("Error"))


_DECODERS: dict[int, Callable[[bytes], Message]] = {
    MessageType.PING: _decode_ping,
    MessageType.INDIRECT_PING: _decode_indirect_ping,
    MessageType.ACK: _decode_ack,
    MessageType.NACK: _decode_nack,
    MessageType.SUSPECT: _decode_suspect,
    MessageType.ALIVE: _decode_alive,
    MessageType.DEAD: _decode_dead,
    MessageType.USER: _decode_user,
    MessageType.ERROR: _decode_error,
}


def make_compound(parts: Sequence[bytes]) -> bytes:
    """Several encoded messages as one; at most COMPOUND_PARTS_MAX."""
    if len(parts) == 1:
        return parts[0]
    assert len(parts) <= COMPOUND_PARTS_MAX
    lengths = b"".join(len(part).to_bytes(2, "big") for part in parts)
    return bytes((MessageType.COMPOUND, len(parts))) + lengths + b"".join(parts)


def split_compound(body: bytes) -> list[bytes]:
    """The parts of a compound message (its type byte is already off). Raises DecodeError."""
    count = body[0] if body else 0
    start = 1 + count * COMPOUND_PART_BYTES
    if not body or len(body) < start:
        raise DecodeError("compound message is cut")
    parts = []
    for index in range(count):
        at = 1 + index * COMPOUND_PART_BYTES
        end = start + int.from_bytes(body[at : at + COMPOUND_PART_BYTES], "big")
        if end > len(body):
            raise DecodeError("compound message is cut")
        parts.append(body[start:end])
        start = end
    return parts


def unfold(body: bytes, bytes_max: int) -> bytes:
    """The message inside a compressed one (its type byte is already off). Raises DecodeError."""
    source = unpack_map(body)
    if source.integer("Algo") != 0:
        raise DecodeError("unknown compression")
    return decompress(source.raw("Buf"), bytes_max)


def strip_label(data: bytes) -> tuple[bytes, bytes]:
    """The label of a datagram (b"" without a header), and what follows. Raises DecodeError."""
    if not data or data[0] != MessageType.HAS_LABEL:
        return b"", data
    length = data[1] if len(data) > 1 else 0
    if not length or len(data) < 2 + length:
        raise DecodeError("label header is cut")
    return data[2 : 2 + length], data[2 + length :]


def label_header(label: bytes) -> bytes:
    """What precedes everything when a label is set."""
    return bytes((MessageType.HAS_LABEL, len(label))) + label if label else b""


class Codec:
    """Seals and opens datagrams of one cluster: its keys and its label."""

    def __init__(self, keyring: Keyring | None = None, label: bytes = b"") -> None:
        """`label`: sent with everything, and required of others when it is not empty."""
        if len(label) > LABEL_BYTES_MAX:
            raise ValueError(f"a label has at most {LABEL_BYTES_MAX} bytes")
        self.keyring = keyring
        self.label = label

    @property
    def overhead_bytes(self) -> int:
        """What sealing adds to a datagram at most."""
        sealed = OVERHEAD_BYTES if self.keyring else 0
        return len(label_header(self.label)) + sealed + CRC_BYTES

    def seal_datagram(self, message: bytes, *, checksum: bool) -> bytes:
        """The bytes to send for one encoded message or compound."""
        if checksum:
            crc = zlib.crc32(message).to_bytes(4, "big")
            message = bytes((MessageType.HAS_CRC,)) + crc + message
        if self.keyring is not None:
            message = self.keyring.encrypt(message, self.label)
        return label_header(self.label) + message

    def open_datagram(self, data: bytes) -> list[Message]:
        """Every message in a datagram, in order. Raises DecodeError."""
        label, message = strip_label(data)
        self.check_label(label)
        if self.keyring is not None:
            message = self.keyring.decrypt(message, label)
        if len(message) >= CRC_BYTES and message[0] == MessageType.HAS_CRC:
            if zlib.crc32(message[CRC_BYTES:]) != int.from_bytes(message[1:CRC_BYTES], "big"):
                raise DecodeError("checksum does not match")
            message = message[CRC_BYTES:]
        messages: list[Message] = []
        _collect(message, messages, NESTING_MAX)
        return messages

    def check_label(self, label: bytes) -> None:
        """Refuse another cluster's label; without one of our own, any is tolerated."""
        if self.label and label != self.label:
            raise DecodeError("the label is another cluster's")


def _collect(data: bytes, messages: list[Message], depth: int) -> None:
    kind = data[0] if data else -1
    if kind not in (MessageType.COMPOUND, MessageType.COMPRESS):
        messages.append(decode(data))
        return
    if not depth:
        raise DecodeError("messages are nested too deep")
    if kind == MessageType.COMPRESS:
        _collect(unfold(data[1:], DATAGRAM_UNFOLDED_BYTES_MAX), messages, depth - 1)
        return
    for part in split_compound(data[1:]):
        _collect(part, messages, depth - 1)
