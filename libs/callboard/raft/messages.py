"""The words Raft members say to each other, and the entries they agree on.

Names are the Raft paper's (Ongaro, "Consensus: Bridging Theory and Practice", 2014). Everything
here is an immutable value; numbers of the enumerations are part of the wire and of the log on
disk: **only append to these lists**.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec


class MessageKind(IntEnum):
    """What a message says. ONLY APPEND: the numbers are on the wire."""

    APPEND = 1
    APPEND_RESPONSE = 2
    HEARTBEAT = 3
    HEARTBEAT_RESPONSE = 4
    REQUEST_VOTE = 5
    VOTE_RESPONSE = 6
    PRE_VOTE = 7
    PRE_VOTE_RESPONSE = 8
    SNAPSHOT = 9
    TIMEOUT_NOW = 10


class EntryKind(IntEnum):
    """What an entry's data is. ONLY APPEND: the numbers are on disk and on the wire."""

    NORMAL = 1
    """A command of the state machine (its first byte is the command's own format number)."""
    NOOP = 2
    """The entry a new leader writes to commit its predecessors' (section 3.6.2); data empty."""
    CONFIGURATION = 3
    """A configuration of voters and learners (later: membership change)."""


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One entry of the replicated log."""

    index: int
    term: int
    kind: EntryKind
    data: bytes


class Configuration(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Who takes part, by node id. Addresses are not here: they come from gossip and names."""

    voters: tuple[str, ...] = ()
    learners: tuple[str, ...] = ()


class SnapshotMetadata(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a snapshot stands for: the state after applying `index`, which was of `term`."""

    index: int
    term: int
    configuration: Configuration = Configuration()


class HardState(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a member must never forget: durable before any message that shows it (I2)."""

    term: int = 0
    vote: str = ""


class Message(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One message between two members.

    `index`/`log_term` are the previous entry's for APPEND, the last entry's for votes, the
    acknowledged (or rejected) index for responses; a HEARTBEAT's `log_term` is that of its `commit`
    (0: unknown). `context` is the ReadIndex round for
    heartbeats and their responses, and for an APPEND its number, which a rejection tells back.
    A SNAPSHOT message carries metadata only: the driver streams
    the state itself and steps the message in once the file is whole and durable.
    """

    kind: MessageKind
    sender: str
    receiver: str
    term: int
    index: int = 0
    log_term: int = 0
    commit: int = 0
    entries: tuple[Entry, ...] = ()
    reject: bool = False
    reject_hint: int = 0
    context: int = 0
    snapshot: SnapshotMetadata | None = None
    force: bool = False
    """Votes of a leadership transfer: stickiness to a live leader does not apply."""
    voteless: bool = False
    """The sender lost its data: it keeps a copy, and must not be counted in any quorum."""
