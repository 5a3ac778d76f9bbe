"""What the core tells its driver: things that happened, and streams it wants opened.

Each is a small value; nothing here decides anything.
"""

from __future__ import annotations

from dataclasses import dataclass

from callboard.swim.members import Member
from callboard.swim.messages import Address, Incarnation


@dataclass(frozen=True, slots=True)
class Joined:
    """A member came, or came back."""

    member: Member


@dataclass(frozen=True, slots=True)
class Updated:
    """A member changed its meta or its address."""

    member: Member


@dataclass(frozen=True, slots=True)
class Gone:
    """A member is dead or has left (its status says which)."""

    member: Member


@dataclass(frozen=True, slots=True)
class Suspected:
    """A member did not answer; `source` said so first."""

    name: str
    source: str


@dataclass(frozen=True, slots=True)
class Refuted:
    """Someone had it that we are not alive; we said that we are, at this incarnation."""

    incarnation: Incarnation


@dataclass(frozen=True, slots=True)
class NameConflict:
    """Two live members go by one name. The first one keeps it."""

    name: str
    known: Address
    """Who has the name (as far as we know)."""
    other: Address
    """Who claims it too."""
    about_us: bool
    """The name is our own."""
    we_are_later: bool
    """We learnt it from the cluster we joined: the name is taken, and not by us."""


@dataclass(frozen=True, slots=True)
class UserMessage:
    """A message of the layer above, from a datagram or a stream."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Undecodable:
    """Something came that is no message of ours; it was dropped."""

    reason: str
    source: Address | None


@dataclass(frozen=True, slots=True)
class DatagramsLost:
    """A member answers on TCP but not on UDP: the network drops one and not the other."""

    name: str


SwimEvent = (
    Joined
    | Updated
    | Gone
    | Suspected
    | Refuted
    | NameConflict
    | UserMessage
    | Undecodable
    | DatagramsLost
)


@dataclass(frozen=True, slots=True)
class StreamPing:
    """Wanted: a ping over TCP; report by Swim.stream_ping_answered within `timeout_s`."""

    address: Address
    name: str
    sequence: int
    timeout_s: float


@dataclass(frozen=True, slots=True)
class PushPullWith:
    """Wanted: a push/pull exchange over TCP with this member."""

    address: Address
    name: str


StreamWanted = StreamPing | PushPullWith
