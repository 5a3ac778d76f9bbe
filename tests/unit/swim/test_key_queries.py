"""Questions about keys, and who answered (serf's internal_query.go and keymanager.go)."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.swim.key_queries import (
    RESPONSE_BYTES_MAX,
    KeyResponse,
    KeyTally,
    decode_key_request,
    encode_key_request,
    encode_key_response,
)
from callboard.swim.packing import DecodeError, pack, unpack_map
from callboard.swim.serf_messages import QueryResponse, SerfType

OLD, NEW = bytes(16), bytes(range(32))


def told(key: bytes) -> str:
    return base64.b64encode(key).decode()


def answer(
    source: str, response: KeyResponse | None = None, payload: bytes = b"", flags: int = 0
) -> QueryResponse:
    if response is not None:
        payload = encode_key_response(response)
    return QueryResponse(1, 2, source, flags, payload)


@pytest.mark.parametrize("key", [b"", OLD, NEW, bytes(300)])
def test_request_is_its_number_and_a_map_of_the_key(key: bytes) -> None:
    payload = encode_key_request(key)
    assert payload == bytes((SerfType.KEY_REQUEST,)) + pack({"Key": key})
    assert decode_key_request(payload) == key


def test_request_without_a_key_is_one_about_none() -> None:
    """Go leaves a nil slice in: serf lists keys so."""
    assert decode_key_request(bytes((SerfType.KEY_REQUEST,)) + pack({"Key": None})) == b""


@given(st.binary(max_size=100))
def test_any_bytes_are_a_request_or_refused(data: bytes) -> None:
    try:
        assert isinstance(decode_key_request(data), bytes)
    except DecodeError:
        pass


def test_answer_tells_the_keys_and_the_primary() -> None:
    payload = encode_key_response(KeyResponse(True, keys=(NEW, OLD)))
    assert payload[0] == SerfType.KEY_RESPONSE
    fields = unpack_map(payload[1:])
    assert fields.flag("Result")
    assert fields.items("Keys") == [told(NEW).encode(), told(OLD).encode()]
    assert fields.text("PrimaryKey") == told(NEW)


@given(st.integers(0, 60), st.integers(100, RESPONSE_BYTES_MAX))
def test_keys_that_do_not_fit_are_left_out_and_the_message_says_so(
    count: int, bytes_max: int
) -> None:
    keys = tuple(bytes([number]) * 32 for number in range(count))
    payload = encode_key_response(KeyResponse(True, keys=keys), bytes_max)
    tally = KeyTally(1)
    tally.add(answer("a", payload=payload))
    assert len(payload) <= max(bytes_max, 200)
    assert list(tally.keys) == [told(key) for key in keys[: len(tally.keys)]]
    assert ("a" in tally.messages) is (len(tally.keys) < count)
    if tally.messages:
        shown = f"showing first {len(tally.keys)} of {count} keys"
        assert tally.messages["a"].endswith(shown)
    assert tally.failure == ""
    assert list(tally.primary_keys) == [told(key) for key in keys[:1]]


def test_all_that_did_it_are_a_success() -> None:
    tally = KeyTally(2)
    tally.add(answer("a", KeyResponse(True, keys=(NEW, OLD))))
    assert not tally.complete
    tally.add(answer("b", KeyResponse(True, keys=(OLD, NEW))))
    assert tally.complete
    assert tally.failure == ""
    assert tally.keys == {told(NEW): 2, told(OLD): 2}
    assert tally.primary_keys == {told(NEW): 1, told(OLD): 1}


def test_who_is_silent_and_who_refused_are_told_apart() -> None:
    tally = KeyTally(3)
    tally.add(answer("a", KeyResponse(True)))
    assert tally.failure == "1/3 nodes reported success"
    tally.add(answer("b", KeyResponse(False, "Requested key is not in the keyring")))
    assert tally.failure == "1/3 nodes reported failure"
    assert tally.messages == {"b": "Requested key is not in the keyring"}


def test_an_acknowledgement_and_a_relayed_copy_count_for_nothing() -> None:
    tally = KeyTally(2)
    tally.add(answer("a", payload=b"", flags=1))
    for _ in range(3):
        tally.add(answer("a", KeyResponse(True, keys=(OLD,))))
    assert (tally.responses, tally.errors, tally.keys) == (1, 0, {told(OLD): 1})
    assert not tally.complete


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x07" + pack({"Result": True}),
        b"\x08",
        b"\x08\xff",
        b"\x08" + pack({"Result": "yes"}),
        b"\x08" + pack({"Result": True, "Keys": [7]}),
    ],
)
def test_what_is_no_answer_counts_as_a_failure(payload: bytes) -> None:
    tally = KeyTally(1)
    tally.add(answer("a", payload=payload))
    assert (tally.responses, tally.errors) == (1, 1)
    assert tally.messages["a"].startswith("invalid key query response")


@given(st.binary(max_size=200))
def test_any_bytes_are_counted(payload: bytes) -> None:
    tally = KeyTally(1)
    tally.add(answer("a", payload=payload))
    assert tally.complete
