"""Serf's messages and tags. The golden vectors were sent by a real serf agent (0.8.2)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callboard.swim.codec import pack_address
from callboard.swim.packing import DecodeError, pack
from callboard.swim.serf_messages import (
    JoinIntent,
    LeaveIntent,
    Query,
    QueryResponse,
    Relayed,
    SerfMessage,
    SerfType,
    UserEvent,
    UserState,
    decode_serf,
    decode_tags,
    encode_serf,
    encode_tags,
)

SAMPLES: list[SerfMessage] = [
    JoinIntent(3, "a"),
    LeaveIntent(4, "a", prune=True),
    UserEvent(5, "deploy", b"v1", coalesce=True),
    Query(6, 7, ("10.0.0.1", 7946), "a", (b"\x00\x91\xa1a",), 1, 2, 10**9, "uptime", b""),
    QueryResponse(6, 7, "a", 1, b""),
    UserState(8, {"a": 3, "b": 4}, ("b",), 9, (UserEvent(5, "deploy", b"v1"),), 10),
]


@pytest.mark.parametrize("message", SAMPLES, ids=lambda m: type(m).__name__)
def test_message_survives(message: SerfMessage) -> None:
    assert decode_serf(encode_serf(message)) == message


def test_leave_of_serf_is_read() -> None:
    data = bytes.fromhex("0083a54c54696d6502a44e6f6465a27331a55072756e65c2")
    assert decode_serf(data) == LeaveIntent(2, "s1")


def test_event_of_serf_is_read() -> None:
    data = b"\x03\x84\xa2CC\xc3\xa5LTime\x01\xa4Name\xa6deploy\xa7Payload\xa2v1"
    assert decode_serf(data) == UserEvent(1, "deploy", b"v1", coalesce=True)


def test_query_of_serf_is_read() -> None:
    data = (
        b"\x04\x8b\xa4Addr\xa4\x7f\x0c\x00\x03\xa7Filters\xc0\xa5Flags\x01\xa2ID\xce@y\xe90"
        b"\xa5LTime\x01\xa4Name\xa6uptime\xa7Payload\xc0\xa4Port\xcd\x1f\n\xabRelayFactor\x00"
        b"\xaaSourceNode\xa2s1\xa7Timeout\xce\x11\xe1\xa3\x00"
    )
    query = decode_serf(data)
    assert isinstance(query, Query)
    assert (query.source, query.name, query.wants_ack) == (("127.12.0.3", 7946), "uptime", True)
    assert query.is_broadcast and query.timeout_ns == 300_000_000


def test_numbers_of_the_serf_messages_are_the_protocols() -> None:
    assert [int(kind) for kind in SerfType] == list(range(10))


def test_relayed_message_has_its_destination_and_what_follows() -> None:
    head = {"DestAddr": {"IP": pack_address("10.0.0.2"), "Port": 7946, "Zone": ""}}
    assert decode_serf(b"\x09" + pack(head) + b"\x05rest") == Relayed(
        ("10.0.0.2", 7946), b"\x05rest"
    )


def test_empty_places_in_the_ring_of_events_are_passed_over() -> None:
    body = {"LTime": 1, "Events": [None, None]}
    state = decode_serf(b"\x02" + pack(body))
    assert isinstance(state, UserState) and state.events == ()


# --- tags -------------------------------------------------------------------------------------


def test_tags_are_the_magic_byte_and_a_map() -> None:
    assert encode_tags({"role": "callboard", "id": "x"}) == (
        b"\xff\x82\xa2id\xa1x\xa4role\xa9callboard"
    )


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=40), max_size=8))
def test_tags_survive(tags: dict[str, str]) -> None:
    assert decode_tags(encode_tags(tags)) == tags


@pytest.mark.parametrize(
    ("meta", "tags"),
    [
        (b"", {}),
        (b"web", {"role": "web"}),
        (b"\xff", {}),
        (b"\xff\x01", {}),
        (b"\xff\x81\xa1a\x01", {}),
        (b"\xff\x81\xa1a\xa1\xff", {}),
    ],
    ids=["none", "old role", "cut", "no map", "no text", "not utf-8"],
)
def test_strange_meta_gives_what_can_be_read(meta: bytes, tags: dict[str, str]) -> None:
    assert decode_tags(meta) == tags


# --- hostile input ----------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"\x07\x80", b"\xfe", b"\x09\x80rest", b"\x09", b"\x02\x01"])
def test_what_is_no_serf_message_is_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        decode_serf(data)


@settings(max_examples=400)
@given(st.sampled_from(range(10)), st.binary(max_size=200))
def test_any_body_gives_a_message_or_a_decode_error(kind: int, body: bytes) -> None:
    try:
        decode_serf(bytes((kind,)) + body)
    except DecodeError:
        pass


@settings(max_examples=400)
@given(
    st.sampled_from([encode_serf(sample) for sample in SAMPLES]),
    st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), max_size=4),
)
def test_any_change_gives_a_message_or_a_decode_error(
    data: bytes, changes: list[tuple[int, int]]
) -> None:
    changed = bytearray(data)
    for place, value in changes:
        changed[place % len(changed)] = value
    try:
        decode_serf(bytes(changed))
    except DecodeError:
        pass
