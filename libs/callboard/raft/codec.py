"""Raft's values as bytes: what goes on the wire and into the log, and how strictly it is read.

Every value is one format byte and then msgpack. The format byte is this file's own promise: a new
format is written only once all voters announce that they read it. Within a format fields are only
appended, and a reader passes over those it does not know.

What is read came from outside: anything but a whole, plausible value is a CodecError, and no
input costs more than its own size. Framing, lengths and checksums are the driver's.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from callboard.raft.errors import RaftError
from callboard.raft.messages import Entry, HardState, Message, SnapshotMetadata

FORMAT = 1
"""The format written; readable formats: this one."""

MESSAGE_BYTES_MAX = 64 << 20
"""A whole message: a batch (Config.max_batch_bytes) or one entry that is larger than that."""
ENTRY_BYTES_MAX = 32 << 20
"""An entry with its data (Config.max_entry_bytes is far below)."""
ENTRIES_MAX = 65_536
"""Entries in one message (Config.max_batch_entries is far below)."""
MEMBERS_MAX = 256
"""Members of a configuration."""
ID_CHARS_MAX = 128
"""Length of a node id."""
NUMBER_MAX = (1 << 63) - 1
"""Largest index, term, round (msgpack's own limit is 2^64 - 1)."""

Value = TypeVar("Value", Message, Entry, HardState, SnapshotMetadata)

_PREFIX = bytes((FORMAT,))
_encoder = msgspec.msgpack.Encoder()
_message_decoder = msgspec.msgpack.Decoder(Message)
_entry_decoder = msgspec.msgpack.Decoder(Entry)
_hard_state_decoder = msgspec.msgpack.Decoder(HardState)
_snapshot_decoder = msgspec.msgpack.Decoder(SnapshotMetadata)


class CodecError(RaftError):
    """The bytes are not a value of this format: the sender's fault, or a torn or foreign file."""


def encode_message(message: Message) -> bytes:
    """A message for the wire."""
    return _PREFIX + _encoder.encode(message)


def decode_message(data: bytes | memoryview) -> Message:
    """A message from the wire; CodecError for anything else."""
    message = _decode(_message_decoder, data, MESSAGE_BYTES_MAX)
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


def encode_entry(entry: Entry) -> bytes:
    """An entry for the log on disk."""
    return _PREFIX + _encoder.encode(entry)


def decode_entry(data: bytes | memoryview) -> Entry:
    """An entry from the log on disk; CodecError for anything else."""
    entry = _decode(_entry_decoder, data, ENTRY_BYTES_MAX)
    _check_numbers(entry.index, entry.term)
    return entry


def encode_hard_state(state: HardState) -> bytes:
    """Term and vote for the disk."""
    return _PREFIX + _encoder.encode(state)


def decode_hard_state(data: bytes | memoryview) -> HardState:
    """Term and vote from the disk; CodecError for anything else."""
    state = _decode(_hard_state_decoder, data, 1024)
    _check_numbers(state.term)
    if state.vote:
        _check_id(state.vote)
    return state


def encode_snapshot_metadata(metadata: SnapshotMetadata) -> bytes:
    """What a snapshot stands for, for its file's head."""
    return _PREFIX + _encoder.encode(metadata)


def decode_snapshot_metadata(data: bytes | memoryview) -> SnapshotMetadata:
    """What a snapshot stands for, from its file's head; CodecError for anything else."""
    metadata = _decode(_snapshot_decoder, data, 1 << 20)
    _check_snapshot(metadata)
    return metadata


def _decode(decoder: msgspec.msgpack.Decoder[Value], data: bytes | memoryview, limit: int) -> Value:
    if not data:
        raise CodecError("nothing to decode")
    if len(data) > limit:
        raise CodecError(f"{len(data)} bytes; at most {limit} are read")
    if data[0] != FORMAT:
        raise CodecError(f"format {data[0]}; only {FORMAT} is read")
    try:
        return decoder.decode(memoryview(data)[1:])
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
