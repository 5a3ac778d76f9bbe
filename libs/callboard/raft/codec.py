"""Raft's messages as bytes: what goes on the wire, and how strictly it is read.

A message is one format byte and then msgpack. The format byte is this file's own promise: a new
format is written only once all voters announce that they read it. Within a format fields are only
appended, and a reader passes over those it does not know.

What is read came from outside: anything but a whole, plausible message is a CodecError, and no
input costs more than its own size. Framing and checksums are the driver's, and so is the log's
format.
"""

from __future__ import annotations

import msgspec

from callboard.raft.errors import RaftError
from callboard.raft.messages import Message, SnapshotMetadata

FORMAT = 1
"""The format written; readable formats: this one."""

MESSAGE_BYTES_MAX = 64 << 20
"""A whole message: a batch (Config.max_batch_bytes) or one entry that is larger than that."""
ENTRIES_MAX = 65_536
"""Entries in one message (Config.max_batch_entries is far below)."""
MEMBERS_MAX = 256
"""Members of a configuration."""
ID_CHARS_MAX = 128
"""Length of a node id."""
NUMBER_MAX = (1 << 63) - 1
"""Largest index, term, round (msgpack's own limit is 2^64 - 1)."""

_PREFIX = bytes((FORMAT,))
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Message)


class CodecError(RaftError):
    """The bytes are not a message of this format: the sender's fault."""


def encode_message(message: Message) -> bytes:
    """A message for the wire."""
    return _PREFIX + _encoder.encode(message)


def decode_message(data: bytes | memoryview) -> Message:
    """A message from the wire; CodecError for anything else."""
    message = _decode(data)
    _check_id(message.sender)
    _check_id(message.receiver)
    _check_numbers(
        message.term,
        message.index,
        message.log_term,
        message.commit,
        message.reject_hint,
        message.context,
    )
    if len(message.entries) > ENTRIES_MAX:
        raise CodecError(f"{len(message.entries)} entries in one message")
    for entry in message.entries:
        _check_numbers(entry.index, entry.term)
    if message.snapshot is not None:
        _check_snapshot(message.snapshot)
    return message


def _decode(data: bytes | memoryview) -> Message:
    if not data:
        raise CodecError("nothing to decode")
    if len(data) > MESSAGE_BYTES_MAX:
        raise CodecError(f"{len(data)} bytes; at most {MESSAGE_BYTES_MAX} are read")
    if data[0] != FORMAT:
        raise CodecError(f"format {data[0]}; only {FORMAT} is read")
    try:
        return _decoder.decode(memoryview(data)[1:])
    except (msgspec.DecodeError, ValueError, RecursionError) as problem:
        raise CodecError(str(problem)) from None


def _check_numbers(*numbers: int) -> None:
    if min(numbers) < 0 or max(numbers) > NUMBER_MAX:
        raise CodecError(f"a number is out of range: {numbers}")


def _check_id(node_id: str) -> None:
    if not 0 < len(node_id) <= ID_CHARS_MAX:
        raise CodecError(f"a node id of {len(node_id)} characters")


def _check_snapshot(metadata: SnapshotMetadata) -> None:
    _check_numbers(metadata.index, metadata.term)
    members = (*metadata.configuration.voters, *metadata.configuration.learners)
    if len(members) > MEMBERS_MAX:
        raise CodecError(f"{len(members)} members in a configuration")
    for member in members:
        _check_id(member)
    if len(set(members)) != len(members):
        raise CodecError("a member is listed twice in a configuration")
