"""Who this agent is, as its data directory tells: node id, and the mark of its cluster.

    node-id        the UUID of this node
    cluster.json   written once the server belongs to a cluster: its id, the voters it was formed
                   with, and whether this server may vote
    raft/voteless  there once the vote was lost: losing cluster.json then does not give it back
    promises       the sets of voters this server promised to found a cluster with, one a line;
                   gone once it belongs to one

A voter's identity lives in its directory. Log gone but mark there: the vote it once gave is
forgotten, so it must not vote again. Everything gone: it gets a new id, and is a stranger; if it
was told its old id, the promise is missing that each founder made, and it has no vote either.
"""

from __future__ import annotations

import uuid

import msgspec

from callboard.agent.consensus.disk import Disk, write_whole

NODE_ID_FILE = "node-id"
MARK_FILE = "cluster.json"
VOTELESS_FILE = "voteless"
"""Beside the log."""
PROMISES_FILE = "promises"
PROMISES_MAX = 16
"""Sets of voters kept, the latest: founders change while machines are set up, not for ever."""
FORMAT = 1
_NAMESPACE = uuid.UUID("6a0e4f0e-52f5-4d7b-9d3e-2f1d6c0f8b11")


class IdentityError(Exception):
    """The data directory says something else than the configuration, or cannot be read."""


class ClusterMark(msgspec.Struct, frozen=True):
    """What a server remembers of its cluster outside the log."""

    cluster_id: str
    voters: tuple[str, ...]
    may_vote: bool = True
    format: int = FORMAT


class _Format(msgspec.Struct):
    format: int = FORMAT


def cluster_id_of(datacenter: str, voters: tuple[str, ...]) -> str:
    """The id of the cluster that these voters form: all of them work out the same."""
    return str(uuid.uuid5(_NAMESPACE, f"{datacenter}/{','.join(sorted(voters))}"))


def load_node_id(disk: Disk, wanted: str = "") -> str:
    """The node id in the directory; made and kept there if there is none (`wanted` if given).

    Raises IdentityError if the directory has another id than `wanted`, or none that can be read.
    """
    if NODE_ID_FILE in disk.names():
        file = disk.open(NODE_ID_FILE)
        found = file.read(0, 100).decode("ascii", "replace").strip()
        file.close()
        try:
            uuid.UUID(found)
        except ValueError as problem:
            raise IdentityError(f"file {NODE_ID_FILE}: {found!r} is not a UUID") from problem
        if wanted and wanted.lower() != found.lower():
            raise IdentityError(f"the data directory belongs to node {found}, not to {wanted}")
        return found.lower()
    node_id = wanted.lower() or str(uuid.uuid4())
    disk.create_whole(NODE_ID_FILE, node_id.encode("ascii") + b"\n")
    return node_id


def load_mark(disk: Disk) -> ClusterMark | None:
    """The cluster's mark, None if the server belongs to none. Raises IdentityError."""
    if MARK_FILE not in disk.names():
        return None
    file = disk.open(MARK_FILE)
    data = file.read(0, file.size())
    file.close()
    try:
        found = msgspec.json.decode(data, type=_Format).format
        if found != FORMAT:
            raise IdentityError(
                f"file {MARK_FILE}: format {found} is unknown: a newer version wrote it"
            )
        return msgspec.json.decode(data, type=ClusterMark)
    except msgspec.MsgspecError as problem:
        raise IdentityError(f"file {MARK_FILE}: {problem}") from problem


def keep_mark(data: Disk, raft: Disk, mark: ClusterMark) -> ClusterMark:
    """Keep the mark, durably, and a lost vote beside the log as well; the mark as it is kept.

    A vote that either place says is lost is lost. Raises OSError.
    """
    if VOTELESS_FILE in raft.names():
        mark = msgspec.structs.replace(mark, may_vote=False)
    elif not mark.may_vote:
        write_whole(raft, VOTELESS_FILE, b"this server has no vote\n")
    if load_mark(data) != mark:
        save_mark(data, mark)
    if PROMISES_FILE in data.names():
        # Kept: a promise that outlived the log would give a lost vote back.
        data.remove(PROMISES_FILE)
        data.sync_directory()
    return mark


def load_promises(disk: Disk) -> tuple[tuple[str, ...], ...]:
    """The sets of voters promised and not founded yet, oldest first. Raises OSError."""
    if PROMISES_FILE not in disk.names():
        return ()
    file = disk.open(PROMISES_FILE)
    text = file.read(0, file.size()).decode("utf-8", "replace")
    file.close()
    return tuple(tuple(line.split(",")) for line in text.splitlines())


def keep_promises(disk: Disk, promises: tuple[tuple[str, ...], ...]) -> None:
    """Keep the latest of them, durably. Raises OSError."""
    text = "".join(",".join(voters) + "\n" for voters in promises[-PROMISES_MAX:])
    write_whole(disk, PROMISES_FILE, text.encode())


def save_mark(disk: Disk, mark: ClusterMark) -> None:
    """Keep the mark: durable on return. Raises OSError."""
    write_whole(disk, MARK_FILE, msgspec.json.encode(mark) + b"\n")
