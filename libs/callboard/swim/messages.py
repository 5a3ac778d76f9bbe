"""What members say to each other: memberlist's messages, as immutable values.

ONLY APPEND to the enumerations: the numbers are part of the protocol. We *understand* protocol
versions 1 to 5 and *speak* 2 (memberlist's net.go), as every serf and Consul agent does. Encoding
is in `codec`; no logic lives here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

Address = tuple[str, int]
"""(IP address as text, port)."""

Incarnation = int
"""A member's own version of itself: only the member raises it, to refute (SWIM, section 4.2)."""

INCARNATION_MAX = 2**32 - 1
"""Memberlist's are 32 bits; one above is a fault of its sender."""


class MessageType(IntEnum):
    """The first byte of every message. ONLY APPEND."""

    PING = 0
    INDIRECT_PING = 1
    ACK = 2
    SUSPECT = 3
    ALIVE = 4
    DEAD = 5
    PUSH_PULL = 6
    COMPOUND = 7
    USER = 8
    COMPRESS = 9
    ENCRYPT = 10
    NACK = 11
    HAS_CRC = 12
    ERROR = 13
    HAS_LABEL = 244


class Status(IntEnum):
    """What a member is thought to be. ONLY APPEND."""

    ALIVE = 0
    SUSPECT = 1
    DEAD = 2
    LEFT = 3


@dataclass(frozen=True, slots=True)
class Versions:
    """What a member understands and speaks of memberlist (protocol) and serf (delegate)."""

    protocol_min: int = 1
    protocol_max: int = 5
    protocol_current: int = 2
    delegate_min: int = 2
    delegate_max: int = 5
    delegate_current: int = 4


@dataclass(frozen=True, slots=True)
class Ping:
    """Are you there, and are you `node`? Answered to the source address with an Ack."""

    sequence: int
    node: str
    source: Address | None = None
    source_node: str = ""


@dataclass(frozen=True, slots=True)
class IndirectPing:
    """Ping `target` for me; with `nack`, tell me too when it does not answer."""

    sequence: int
    target: Address
    node: str
    nack: bool
    source: Address | None = None
    source_node: str = ""


@dataclass(frozen=True, slots=True)
class Ack:
    """The answer to a Ping or an IndirectPing; the payload is the delegate's (coordinates)."""

    sequence: int
    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class Nack:
    """The answer of one asked for an indirect ping whose target is silent, but who is alive."""

    sequence: int


@dataclass(frozen=True, slots=True)
class Suspect:
    """`source` got no answer from `node` at that incarnation."""

    incarnation: Incarnation
    node: str
    source: str


@dataclass(frozen=True, slots=True)
class Alive:
    """`node` is alive, at this address, with this meta, at this incarnation."""

    incarnation: Incarnation
    node: str
    address: str
    port: int
    meta: bytes = b""
    versions: Versions | None = None


@dataclass(frozen=True, slots=True)
class Dead:
    """`source` declares `node` dead; when they are the same, the node has left."""

    incarnation: Incarnation
    node: str
    source: str


@dataclass(frozen=True, slots=True)
class User:
    """An opaque message of the layer above (serf)."""

    data: bytes


@dataclass(frozen=True, slots=True)
class NodeState:
    """One member as its peer sees it: a row of a push/pull exchange."""

    name: str
    address: str
    port: int
    meta: bytes
    incarnation: Incarnation
    status: Status
    versions: Versions | None


@dataclass(frozen=True, slots=True)
class PushPull:
    """The whole state of one side, exchanged over TCP; `user_state` is the layer above's."""

    nodes: tuple[NodeState, ...]
    user_state: bytes
    join: bool


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """The other side could not handle our stream, and says why."""

    error: str


Message = Ping | IndirectPing | Ack | Nack | Suspect | Alive | Dead | User | PushPull | ErrorReply
