"""Memberlist's bytes on a TCP stream: push/pull, user messages, the fallback ping.

A stream carries one message each way. A StreamDecoder is fed what arrives and says when the
message is whole; it knows every limit before it keeps a byte. When encrypted, the header of the
encrypted block is authenticated with it, so a block cannot be cut or stretched.
"""

from __future__ import annotations

import msgpack

from callboard.swim.codec import (
    Codec,
    decode,
    decode_node_state,
    encode,
    encode_node_state,
    label_header,
    strip_label,
    unfold,
)
from callboard.swim.keyring import OVERHEAD_BYTES
from callboard.swim.messages import Message, MessageType, PushPull, User
from callboard.swim.packing import (
    ARRAY_ITEMS_MAX,
    MAP_ITEMS_MAX,
    DecodeError,
    Fields,
    fields,
    pack,
)

PUSH_STATE_BYTES_MAX = 20 * 1024 * 1024
"""The most one side may send (memberlist's maxPushStateBytes)."""

PUSH_STATE_NODES_MAX = 65536
"""The most members one side may list."""

ENCRYPT_HEADER_BYTES = 5


def encode_stream(message: Message, codec: Codec) -> bytes:
    """The whole stream that carries `message`, sealed."""
    plain = _encode_plain(message)
    header = label_header(codec.label)
    if codec.keyring is None:
        return header + plain
    length = len(plain) + OVERHEAD_BYTES
    sealed_header = bytes((MessageType.ENCRYPT,)) + length.to_bytes(4, "big")
    return header + sealed_header + codec.keyring.encrypt(plain, sealed_header + codec.label)


def _encode_plain(message: Message) -> bytes:
    if isinstance(message, PushPull):
        head = {
            "Nodes": len(message.nodes),
            "UserStateLen": len(message.user_state),
            "Join": message.join,
        }
        rows = b"".join(encode_node_state(node) for node in message.nodes)
        return bytes((MessageType.PUSH_PULL,)) + pack(head) + rows + message.user_state
    if isinstance(message, User):
        head = {"UserMsgLen": len(message.data)}
        return bytes((MessageType.USER,)) + pack(head) + message.data
    return encode(message)


class StreamDecoder:
    """Collects one message from a stream. Raises DecodeError as soon as it cannot be one."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._held = bytearray()
        self._labelled = False
        self._label = b""
        self._plain: _PlainDecoder | None = None

    def feed(self, data: bytes) -> Message | None:
        """Take what arrived; return the message once it is whole."""
        if self._plain is not None:
            return self._plain.feed(data)
        self._held += data
        if len(self._held) > PUSH_STATE_BYTES_MAX + ENCRYPT_HEADER_BYTES + OVERHEAD_BYTES:
            raise DecodeError(f"a stream has more than {PUSH_STATE_BYTES_MAX} bytes")
        if not self._take_label() or not self._held:
            return None
        if self._held[0] == MessageType.ENCRYPT:
            return self._feed_encrypted()
        if self._codec.keyring is not None:
            raise DecodeError("encryption is on, but the stream is not encrypted")
        self._plain = _PlainDecoder()
        return self._plain.feed(bytes(self._held))

    def _take_label(self) -> bool:
        """Read the label header if there is one; False while more bytes are needed."""
        if self._labelled or not self._held:
            return self._labelled
        if self._held[0] == MessageType.HAS_LABEL:
            if len(self._held) < 2 or len(self._held) < 2 + self._held[1]:
                return False
            self._label, rest = strip_label(bytes(self._held))
            self._held = bytearray(rest)
        self._codec.check_label(self._label)
        self._labelled = True
        return True

    def _feed_encrypted(self) -> Message | None:
        keyring = self._codec.keyring
        if keyring is None:
            raise DecodeError("the stream is encrypted, but encryption is off")
        if len(self._held) < ENCRYPT_HEADER_BYTES:
            return None
        header = bytes(self._held[:ENCRYPT_HEADER_BYTES])
        length = int.from_bytes(header[1:], "big")
        if length > PUSH_STATE_BYTES_MAX:
            raise DecodeError(f"an encrypted stream of {length} bytes is too long")
        if len(self._held) < ENCRYPT_HEADER_BYTES + length:
            return None
        sealed = bytes(self._held[ENCRYPT_HEADER_BYTES : ENCRYPT_HEADER_BYTES + length])
        return decode_whole(keyring.decrypt(sealed, header + self._label))


def decode_whole(plain: bytes) -> Message:
    """A stream's plain message that must be complete. Raises DecodeError."""
    message = _PlainDecoder().feed(plain)
    if message is None:
        raise DecodeError("the stream's message is cut")
    return message


class _PlainDecoder:
    """Reads one unencrypted message piece by piece."""

    def __init__(self) -> None:
        self._unpacker = msgpack.Unpacker(
            raw=True,
            strict_map_key=False,
            max_buffer_size=PUSH_STATE_BYTES_MAX,
            max_array_len=ARRAY_ITEMS_MAX,
            max_map_len=MAP_ITEMS_MAX,
        )
        self._kind: int | None = None
        self._head: Fields | None = None
        self._rows: list[Fields] = []
        self._tail = b""
        self._taken = 0

    def feed(self, data: bytes) -> Message | None:
        if self._kind is None:
            if not data:
                return None
            self._kind, data = data[0], data[1:]
        self._taken += len(data)
        if self._taken > PUSH_STATE_BYTES_MAX:
            raise DecodeError(f"a stream has more than {PUSH_STATE_BYTES_MAX} bytes")
        try:
            self._unpacker.feed(data)
        except msgpack.BufferFull:
            raise DecodeError(f"a stream has more than {PUSH_STATE_BYTES_MAX} bytes") from None
        if self._head is None:
            self._head = self._next()
        return None if self._head is None else self._advance(self._head)

    def _advance(self, head: Fields) -> Message | None:
        if self._kind == MessageType.COMPRESS:
            inner = unfold(pack(dict(head.all())), PUSH_STATE_BYTES_MAX)
            if inner[:1] == bytes((MessageType.COMPRESS,)):
                raise DecodeError("a compressed stream inside a compressed stream")
            return decode_whole(inner)
        if self._kind == MessageType.PUSH_PULL:
            return self._push_pull(head)
        if self._kind == MessageType.USER:
            length = head.integer("UserMsgLen", PUSH_STATE_BYTES_MAX)
            return User(self._tail) if self._read_tail(length) else None
        if self._kind in (MessageType.PING, MessageType.ACK, MessageType.ERROR):
            return decode(bytes((self._kind,)) + pack(dict(head.all())))
        raise DecodeError(f"unexpected message type {self._kind} on a stream")

    def _push_pull(self, head: Fields) -> PushPull | None:
        count = head.integer("Nodes", PUSH_STATE_NODES_MAX)
        length = head.integer("UserStateLen", PUSH_STATE_BYTES_MAX)
        while len(self._rows) < count:
            row = self._next()
            if row is None:
                return None
            self._rows.append(row)
        if not self._read_tail(length):
            return None
        nodes = tuple(decode_node_state(row) for row in self._rows)
        return PushPull(nodes, self._tail, head.flag("Join"))

    def _read_tail(self, length: int) -> bool:
        """Read the raw bytes that end the message; False while more are needed."""
        missing = length - len(self._tail)
        if missing > 0:
            self._tail += self._unpacker.read_bytes(missing)
        return len(self._tail) == length

    def _next(self) -> Fields | None:
        try:
            return fields(self._unpacker.unpack())
        except msgpack.OutOfData:
            return None
        except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as problem:
            if isinstance(problem, DecodeError):
                raise
            raise DecodeError(f"not MessagePack: {problem}") from None
