"""MessagePack of the old specification, checked as it is taken."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.swim.packing import DecodeError, fields, pack, unpack, unpack_map


def test_long_strings_are_raw16_and_never_str8_or_bin() -> None:
    assert pack({"a": b"x" * 40})[3:6] == b"\xda\x00\x28"
    assert pack("x" * 40)[:3] == b"\xda\x00\x28"


def test_strings_of_the_newer_specification_are_understood() -> None:
    assert unpack(b"\xd9\x01x") == b"x"
    assert unpack(b"\xc4\x01x") == b"x"


def test_missing_fields_are_zero_as_in_go() -> None:
    empty = fields({})
    assert (empty.text("A"), empty.raw("B"), empty.integer("C"), empty.flag("D")) == (
        "",
        b"",
        0,
        False,
    )
    assert (empty.items("E"), empty.entries("F"), empty.signed("G")) == ([], {}, 0)


@pytest.mark.parametrize(
    ("take", "value"),
    [
        ("text", 1),
        ("text", b"\xff"),
        ("raw", 1),
        ("integer", b"1"),
        ("integer", -1),
        ("integer", True),
        ("signed", b""),
        ("flag", 1),
        ("items", {}),
        ("entries", []),
    ],
)
def test_field_of_the_wrong_type_is_refused(take: str, value: object) -> None:
    with pytest.raises(DecodeError):
        getattr(fields({b"X": value}), take)("X")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x81",
        b"\x80\x80",
        b"\xc1",
        b"\xdd\xff\xff\xff\xff",  # an array of four billion
        b"\xdf\xff\xff\xff\xff",  # a map of four billion
        b"\xdb\xff\xff\xff\xff",  # a string of four billion
        b"\x91" * 5000,  # nested deeper than anyone needs
        b"\x81\x90\x01",  # an array as a key
    ],
)
def test_bytes_that_are_no_message_are_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        unpack(data)


def test_value_that_is_no_map_is_refused() -> None:
    with pytest.raises(DecodeError):
        unpack_map(b"\x01")


@given(st.binary(max_size=200))
def test_any_bytes_give_a_value_or_a_decode_error(data: bytes) -> None:
    try:
        unpack(data)
    except DecodeError:
        pass


_values = st.recursive(
    st.integers(0, 2**64 - 1) | st.binary(max_size=300) | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.binary(max_size=9), inner),
    max_leaves=20,
)


@given(_values)
def test_what_is_packed_is_unpacked_the_same(value: object) -> None:
    assert unpack(pack(value)) == value
