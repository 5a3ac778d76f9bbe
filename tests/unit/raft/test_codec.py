"""Raft's messages as bytes: what was written stays readable, and garbage is told from messages."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.raft import (
    Configuration,
    Entry,
    EntryKind,
    Message,
    MessageKind,
    SnapshotMetadata,
    codec,
)
from callboard.raft.codec import CodecError

ids = st.text(min_size=1, max_size=20)
numbers = st.integers(min_value=0, max_value=codec.NUMBER_MAX)
entries = st.builds(
    Entry, index=numbers, term=numbers, kind=st.sampled_from(EntryKind), data=st.binary()
)
configurations = st.lists(ids, unique=True, max_size=6).map(
    lambda names: Configuration(tuple(names[:3]), tuple(names[3:]))
)
snapshots = st.builds(SnapshotMetadata, index=numbers, term=numbers, configuration=configurations)
messages = st.builds(
    Message,
    kind=st.sampled_from(MessageKind),
    sender=ids,
    receiver=ids,
    term=numbers,
    index=numbers,
    log_term=numbers,
    commit=numbers,
    entries=st.lists(entries, max_size=4).map(tuple),
    reject=st.booleans(),
    reject_hint=numbers,
    context=numbers,
    snapshot=st.none() | snapshots,
    force=st.booleans(),
    voteless=st.booleans(),
)

GOLDEN_MESSAGE = Message(
    kind=MessageKind.APPEND,
    sender="a",
    receiver="b",
    term=3,
    index=7,
    log_term=2,
    commit=6,
    entries=(Entry(8, 3, EntryKind.NORMAL, b"\x01x"), Entry(9, 3, EntryKind.NOOP, b"")),
    context=5,
    snapshot=SnapshotMetadata(4, 1, Configuration(("a", "b"), ("c",))),
)
GOLDEN_BYTES = (
    "019e01a161a162030702069294080301c402017894090302c400c200059304019292a161a16291a163c2c2"
)


@given(messages)
def test_a_message_comes_back(message: Message) -> None:
    assert codec.decode_message(codec.encode_message(message)) == message


def test_a_messages_bytes_are_what_they_were() -> None:
    assert codec.encode_message(GOLDEN_MESSAGE).hex() == GOLDEN_BYTES
    assert codec.decode_message(bytes.fromhex(GOLDEN_BYTES)) == GOLDEN_MESSAGE


def test_numbers_of_kinds_never_change() -> None:
    assert [(kind.name, kind.value) for kind in MessageKind] == [
        ("APPEND", 1),
        ("APPEND_RESPONSE", 2),
        ("HEARTBEAT", 3),
        ("HEARTBEAT_RESPONSE", 4),
        ("REQUEST_VOTE", 5),
        ("VOTE_RESPONSE", 6),
        ("PRE_VOTE", 7),
        ("PRE_VOTE_RESPONSE", 8),
        ("SNAPSHOT", 9),
        ("TIMEOUT_NOW", 10),
    ]
    assert [(kind.name, kind.value) for kind in EntryKind] == [
        ("NORMAL", 1),
        ("NOOP", 2),
        ("CONFIGURATION", 3),
    ]


def test_fields_appended_later_are_passed_over() -> None:
    fields = msgspec.msgpack.decode(codec.encode_message(GOLDEN_MESSAGE)[1:])
    longer = bytes((codec.FORMAT,)) + msgspec.msgpack.encode([*fields, "new", 1])

    assert codec.decode_message(longer) == GOLDEN_MESSAGE


def test_a_message_without_the_fields_appended_later_is_read() -> None:
    fields = msgspec.msgpack.decode(codec.encode_message(GOLDEN_MESSAGE)[1:])
    shorter = bytes((codec.FORMAT,)) + msgspec.msgpack.encode(fields[:-1])

    assert codec.decode_message(shorter) == GOLDEN_MESSAGE


@given(st.binary(max_size=300))
def test_garbage_is_an_error_and_nothing_else(data: bytes) -> None:
    for each in (data, bytes((codec.FORMAT,)) + data):
        try:
            codec.decode_message(each)
        except CodecError:
            pass


@given(messages, st.data())
def test_a_torn_message_is_an_error(message: Message, data: st.DataObject) -> None:
    whole = codec.encode_message(message)
    cut = data.draw(st.integers(min_value=0, max_value=len(whole) - 1))

    with pytest.raises(CodecError):
        codec.decode_message(whole[:cut])


@given(messages, st.data())
def test_a_message_with_one_byte_changed_is_a_message_or_an_error(
    message: Message, data: st.DataObject
) -> None:
    damaged = bytearray(codec.encode_message(message))
    position = data.draw(st.integers(min_value=0, max_value=len(damaged) - 1))
    damaged[position] = data.draw(st.integers(min_value=0, max_value=255))

    try:
        codec.decode_message(bytes(damaged))
    except CodecError:
        pass


def broken(**changes: object) -> bytes:
    """The golden message with fields changed, past the type checker."""
    fields = {name: getattr(GOLDEN_MESSAGE, name) for name in Message.__struct_fields__}
    values = list({**fields, **changes}.values())
    return bytes((codec.FORMAT,)) + msgspec.msgpack.encode(values)


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": 99},
        {"kind": "APPEND"},
        {"sender": ""},
        {"receiver": "x" * (codec.ID_CHARS_MAX + 1)},
        {"term": -1},
        {"commit": 1 << 63},
        {"context": -5},
        {"entries": [[-1, 1, 1, b""]]},
        {"entries": [[1, 1, 77, b""]]},
        {"entries": [[1, 1, 1, b""]] * (codec.ENTRIES_MAX + 1)},
        {"reject": 1},
        {"snapshot": [-1, 1, [[], []]]},
        {"snapshot": [1, 1, [["a", "a"], []]]},
        {"snapshot": [1, 1, [[""], []]]},
        {"snapshot": [1, 1, [[str(n) for n in range(codec.MEMBERS_MAX + 1)], []]]},
    ],
    ids=lambda changes: "-".join(f"{key}" for key in changes),
)
def test_an_implausible_field_is_an_error(changes: dict[str, object]) -> None:
    with pytest.raises(CodecError):
        codec.decode_message(broken(**changes))


def test_an_unknown_format_is_named() -> None:
    with pytest.raises(CodecError, match="format 9; only 1"):
        codec.decode_message(b"\x09" + codec.encode_message(GOLDEN_MESSAGE)[1:])


def test_too_many_bytes_are_not_even_looked_at() -> None:
    with pytest.raises(CodecError, match="at most"):
        codec.decode_message(bytes(codec.MESSAGE_BYTES_MAX + 1))


def test_a_huge_announced_array_costs_nothing() -> None:
    head = codec.encode_message(GOLDEN_MESSAGE)[:11]

    with pytest.raises(CodecError):
        codec.decode_message(head + b"\xdd\xff\xff\xff\xff")
