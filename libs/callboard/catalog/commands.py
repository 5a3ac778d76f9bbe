"""The commands of the replicated state machine: what stands in a log entry.

An entry's data is one byte, the command's number, then msgpack of its fields as an array. Numbers
and fields are on disk for ever: ONLY APPEND, and give new fields a default. An unknown number
stops the node with its index and number: skipping it would let replicas diverge.
"""

from __future__ import annotations

import msgspec

from callboard.catalog.objects import Check, Node, ServiceInstance


class Register(msgspec.Struct, frozen=True, array_like=True):
    """Put a node, and with it at most one service and any checks (Consul: catalog/register)."""

    node: Node
    service: ServiceInstance | None = None
    checks: tuple[Check, ...] = ()
    skip_node_update: bool = False
    request_id: bytes = b""
    """The client's or agent's own id of this request: a retry is answered, not applied again."""


class Deregister(msgspec.Struct, frozen=True, array_like=True):
    """Remove a check, a service with its checks, or (both ids empty) a node with everything."""

    node: str
    service_id: str = ""
    check_id: str = ""
    request_id: bytes = b""


class KeyValueSet(msgspec.Struct, frozen=True, array_like=True):
    """Put a key; with `check_and_set` ≥ 0 only if its ModifyIndex is that (0: only if absent)."""

    key: str
    value: bytes
    flags: int = 0
    check_and_set: int = -1


class KeyValueDelete(msgspec.Struct, frozen=True, array_like=True):
    """Delete a key; with `check_and_set` ≥ 0 only if its ModifyIndex is that (0: never)."""

    key: str
    check_and_set: int = -1


class KeyValueDeleteTree(msgspec.Struct, frozen=True, array_like=True):
    """Delete every key that begins with the prefix."""

    prefix: str


class TombstoneReap(msgspec.Struct, frozen=True, array_like=True):
    """Forget tombstones of keys deleted at or below the index (proposed by the leader)."""

    index: int


Command = Register | Deregister | KeyValueSet | KeyValueDelete | KeyValueDeleteTree | TombstoneReap

NUMBERS: dict[type, int] = {
    Register: 1,
    Deregister: 2,
    KeyValueSet: 3,
    KeyValueDelete: 4,
    KeyValueDeleteTree: 5,
    TombstoneReap: 6,
}

_TYPES: dict[int, type] = {number: kind for kind, number in NUMBERS.items()}
_PREFIXES: dict[type, bytes] = {kind: bytes([number]) for kind, number in NUMBERS.items()}
_ENCODER = msgspec.msgpack.Encoder()
_DECODERS: dict[int, msgspec.msgpack.Decoder[Command]] = {
    number: msgspec.msgpack.Decoder(kind) for number, kind in _TYPES.items()
}


class UnknownCommand(Exception):
    """A log entry this version cannot apply: the node must stop, never skip it."""

    def __init__(self, number: int, index: int = 0, reason: str = "unknown command") -> None:
        super().__init__(f"log entry {index}: {reason} {number}; a newer version wrote this log")
        self.number = number
        self.index = index


def encode_command(command: Command) -> bytes:
    """The bytes of a log entry's data."""
    return _PREFIXES[type(command)] + _ENCODER.encode(command)


def decode_command(data: bytes, index: int = 0) -> Command:
    """The command in a log entry's data. Raises UnknownCommand naming `index`."""
    number = data[0] if data else 0
    decoder = _DECODERS.get(number)
    if decoder is None:
        raise UnknownCommand(number, index)
    try:
        return decoder.decode(memoryview(data)[1:])
    except msgspec.MsgspecError as error:
        raise UnknownCommand(number, index, f"malformed ({error}) command") from error
