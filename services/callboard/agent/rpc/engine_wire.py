"""What engines say to each other over rpc: proposals, read barriers, and errors as texts.

"propose", "read_index"             served by every server: it finds the leader itself
"propose_here", "read_index_here"   served by the leader only: nothing is forwarded twice
    "status"                            what a server says of itself
"""

from __future__ import annotations

import msgspec

from callboard.agent.ports import EngineError, NoLeader, NotReady, ProposalUnknown
from callboard.agent.rpc.errors import RpcError


class Proposal(msgspec.Struct, frozen=True, array_like=True):
    """A command, and for how long its proposer waits."""

    timeout_s: float
    command: bytes


class Outcome(msgspec.Struct, frozen=True, array_like=True):
    """An `Applied` on the wire."""

    index: int
    value: bool | int | str | None


class Barrier(msgspec.Struct, frozen=True, array_like=True):
    """A read barrier, and for how long it is waited for."""

    timeout_s: float


class Status(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """What a server says of itself (rpc method "status")."""

    node_id: str
    cluster_id: str
    """"" while it belongs to none; then all below are empty too."""
    expect: int
    """With how many servers it would found a cluster now; 0: it would not, or does not know yet."""
    voters: tuple[tuple[str, str], ...] = ()
    """(node id, "ip:port") of each."""
    leader_id: str = ""
    leader_address: str = ""
    term: int = 0
    commit: int = 0
    ready: bool = False
    last_contact_s: float = 0.0


PROPOSAL = msgspec.msgpack.Decoder(Proposal)
OUTCOME = msgspec.msgpack.Decoder(Outcome)
BARRIER = msgspec.msgpack.Decoder(Barrier)
STATUS = msgspec.msgpack.Decoder(Status)
INDEX = msgspec.msgpack.Decoder(int)

GRACE_S = 0.5
"""How much longer than the other side a caller waits: so that it hears the other's verdict."""
TIMEOUT_MAX_S = 600.0
"""No caller waits longer, whatever it says."""

_KINDS: dict[str, type[EngineError]] = {
    "NoLeader": NoLeader,
    "ProposalUnknown": ProposalUnknown,
    "NotReady": NotReady,
    "EngineError": EngineError,
}


class NotLeaderHere(EngineError):
    """The server asked does not lead, or not for long: nothing was done, ask another."""


_KINDS["NotLeaderHere"] = NotLeaderHere


def to_rpc(problem: EngineError) -> RpcError:
    """An engine's error as the text of an answer."""
    kind = type(problem).__name__
    return RpcError(f"{kind if kind in _KINDS else 'EngineError'}: {problem}")


def from_rpc(text: str) -> EngineError:
    """The engine's error that such a text stands for."""
    kind, _, rest = text.partition(": ")
    return _KINDS[kind](rest) if kind in _KINDS else EngineError(text)
