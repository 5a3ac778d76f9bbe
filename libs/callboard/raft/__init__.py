"""The Raft consensus algorithm as a pure core: no socket, no clock, no disk, no randomness of its
own. DESIGN.md beside this file tells how a driver runs it.
"""

from callboard.raft.config import Config
from callboard.raft.core import Raft
from callboard.raft.errors import (
    InvariantBroken,
    NotLeader,
    ProposalDropped,
    RaftError,
    UnsupportedEntry,
)
from callboard.raft.messages import (
    Configuration,
    Entry,
    EntryKind,
    HardState,
    Message,
    MessageKind,
    SnapshotMetadata,
)
from callboard.raft.progress import Progress, ProgressState
from callboard.raft.ready import ReadState, Ready, Role
from callboard.raft.storage import InitialState

__all__ = [
    "Config",
    "Configuration",
    "Entry",
    "EntryKind",
    "HardState",
    "InitialState",
    "InvariantBroken",
    "Message",
    "MessageKind",
    "NotLeader",
    "Progress",
    "ProgressState",
    "ProposalDropped",
    "Raft",
    "RaftError",
    "ReadState",
    "Ready",
    "Role",
    "SnapshotMetadata",
    "UnsupportedEntry",
]
