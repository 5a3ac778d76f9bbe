"""Conditions, ranges and encodings, by RFC 9110."""

from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.fileserver.answers import (
    Decision,
    by_range,
    choose,
    decide,
    http_date,
    matches,
    preferences,
)
from callboard.fileserver.entries import Entry, Variant, variant

MODIFIED_S = 1_700_000_000
ETAG = b'"abc"'
DATE = formatdate(MODIFIED_S, usegmt=True).encode()
BEFORE = formatdate(MODIFIED_S - 1, usegmt=True).encode()
AFTER = formatdate(MODIFIED_S + 1, usegmt=True).encode()


def made(coding: bytes = b"", size: int = 100) -> Variant:
    return variant(
        content_type="text/plain",
        etag=ETAG,
        modified_s=MODIFIED_S,
        size=size,
        body=b"x" * size,
        source=None,
        security=b"",
        coding=coding,
    )


def decided(
    fields: dict[str, bytes], *, is_get: bool = True, now_s: float = MODIFIED_S + 60
) -> Decision:
    named = {name.replace("_", "-").encode(): value for name, value in fields.items()}
    return decide(named, made(), MODIFIED_S, is_get=is_get, now_s=now_s)


WHOLE = Decision(200, 0, 100)


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"if_none_match": ETAG}, 304),
        ({"if_none_match": b"W/" + ETAG}, 304),
        ({"if_none_match": b'"x", ' + ETAG + b' , "y"'}, 304),
        ({"if_none_match": b"*"}, 304),
        ({"if_none_match": b'"x"'}, 200),
        ({"if_none_match": b"abc"}, 200),
        ({"if_none_match": b'"x" ' + ETAG}, 200),
        ({"if_none_match": b'"x"', "if_modified_since": DATE}, 200),
        ({"if_modified_since": DATE}, 304),
        ({"if_modified_since": AFTER}, 304),
        ({"if_modified_since": BEFORE}, 200),
        ({"if_modified_since": b"yesterday"}, 200),
        ({"if_match": ETAG}, 200),
        ({"if_match": b"*"}, 200),
        ({"if_match": b"W/" + ETAG}, 412),
        ({"if_match": b'"x"'}, 412),
        ({"if_match": b"junk"}, 412),
        ({"if_match": ETAG, "if_unmodified_since": BEFORE}, 200),
        ({"if_unmodified_since": BEFORE}, 412),
        ({"if_unmodified_since": DATE}, 200),
        ({"if_unmodified_since": b"never"}, 200),
        ({"if_match": ETAG, "if_none_match": ETAG}, 304),
        ({"if_none_match": ETAG, "range": b"bytes=0-1"}, 304),
        ({"if_match": b'"x"', "range": b"bytes=0-1"}, 412),
    ],
)
def test_conditions(fields: dict[str, bytes], wanted: int) -> None:
    assert decided(fields).status == wanted
    assert decided(fields, is_get=False).status == wanted


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (b"bytes=0-0", Decision(206, 0, 1)),
        (b"bytes=0-99", Decision(206, 0, 100)),
        (b"bytes=10-", Decision(206, 10, 100)),
        (b"bytes=10-1000", Decision(206, 10, 100)),
        (b"bytes=-10", Decision(206, 90, 100)),
        (b"bytes=-1000", Decision(206, 0, 100)),
        (b"Bytes=0-0", Decision(206, 0, 1)),
        (b"bytes=100-", Decision(416)),
        (b"bytes=-0", Decision(416)),
        (b"bytes=99999999999999999999999-", Decision(416)),
        (b"bytes=5-4", WHOLE),
        (b"bytes=-", WHOLE),
        (b"bytes=", WHOLE),
        (b"bytes=a-b", WHOLE),
        (b"bytes=0-1,5-6", WHOLE),
        (b"bytes 0-1", WHOLE),
        (b"lines=0-1", WHOLE),
        (b"bytes=0x1-2", WHOLE),
        (b"bytes=+1-2", WHOLE),
        (b"bytes=1--2", WHOLE),
        ("bytes=\u0660-\u0663".encode(), WHOLE),
        (b"bytes=" + b"9" * 5000 + b"-", WHOLE),
        (b"bytes=" + b",".join([b"0-"] * 1000), WHOLE),
    ],
)
def test_ranges(value: bytes, wanted: Decision) -> None:
    assert decided({"range": value}) == wanted


def test_head_has_no_ranges() -> None:
    assert decided({"range": b"bytes=0-0"}, is_get=False) == WHOLE


@pytest.mark.parametrize(
    ("value", "wanted"),
    [(ETAG, 206), (b'"x"', 200), (b"W/" + ETAG, 200), (DATE, 206), (AFTER, 200), (b"junk", 200)],
)
def test_a_range_holds_for_the_content_it_names(value: bytes, wanted: int) -> None:
    assert decided({"range": b"bytes=0-1", "if_range": value}).status == wanted


def test_a_date_does_not_name_a_content_that_is_not_a_second_old() -> None:
    fields = {"range": b"bytes=0-1", "if_range": DATE}
    assert decided(fields, now_s=MODIFIED_S + 0.5).status == 200


def test_nothing_of_an_empty_file_can_be_ranged() -> None:
    assert by_range(b"bytes=0-", 0) == Decision(416)
    assert by_range(b"bytes=-1", 0) == Decision(416)


@given(st.binary(max_size=40), st.integers(0, 1000))
def test_any_range_stays_inside(value: bytes, size: int) -> None:
    for whole in (value, b"bytes=" + value):
        got = by_range(whole, size)
        assert got.status in (200, 206, 416)
        assert got.status == 416 or 0 <= got.start <= got.stop <= size
        if got.status == 206:
            assert got.start < got.stop


@given(st.integers(0, 2000), st.integers(0, 2000), st.integers(1, 1000))
def test_a_range_is_what_a_slice_is(first: int, last: int, size: int) -> None:
    body = bytes(index % 251 for index in range(size))
    got = by_range(b"bytes=%d-%d" % (first, last), size)
    if last < first:
        assert got == Decision(200, 0, size)
    elif first >= size:
        assert got.status == 416
    else:
        assert body[got.start : got.stop] == body[first : last + 1]


@given(st.binary(max_size=60))
def test_any_list_of_tags_is_read_or_matches_nothing(value: bytes) -> None:
    if matches(value, ETAG, weak=False):
        assert matches(value, ETAG, weak=True)
        assert ETAG in value or value == b"*"


def test_a_long_list_of_almost_tags_is_read_in_no_time() -> None:
    assert not matches(ETAG + b'"a"' * 1300 + b"!", ETAG, weak=True)


@given(st.binary(max_size=39))
def test_any_date_is_read_or_none(value: bytes) -> None:
    assert http_date(value) is None or isinstance(http_date(value), int)


@pytest.mark.parametrize(
    "value",
    [
        b"Sun, 06 Nov 1994 08:49:37 GMT",
        b"Sunday, 06-Nov-94 08:49:37 GMT",
        b"Sun Nov  6 08:49:37 1994",
    ],
)
def test_the_three_forms_of_dates_are_read(value: bytes) -> None:
    assert http_date(value) == 784111777


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (b"gzip, deflate, br", (b"br", b"gzip", b"identity")),
        (b"gzip", (b"gzip", b"identity")),
        (b"br;q=0.5, gzip;q=0.9", (b"gzip", b"br", b"identity")),
        (b"br;q=0, gzip", (b"gzip", b"identity")),
        (b"identity, gzip;q=0.5", (b"identity", b"gzip")),
        (b"*", (b"br", b"gzip", b"identity")),
        (b"*;q=0", ()),
        (b"gzip, *;q=0", (b"gzip",)),
        (b"GZIP ; Q=1.0", (b"gzip", b"identity")),
        (b"x-gzip", (b"gzip", b"identity")),
        (b"", (b"identity",)),
        (b"br;q=x", (b"identity",)),
        (b"br;q=1.5", (b"br", b"identity")),
        (b"br," * 5000, ()),
    ],
)  # fmt: skip
def test_encodings_are_ranked_as_the_client_says(value: bytes, wanted: tuple[bytes, ...]) -> None:
    assert preferences(value) == wanted


@given(st.binary(max_size=60))
def test_any_list_of_encodings_is_read(value: bytes) -> None:
    assert set(preferences(value)) <= {b"br", b"gzip", b"identity"}


def test_the_best_twin_that_is_there_is_chosen() -> None:
    entry = Entry(made(), {b"gzip": made(b"gzip")})
    assert choose(entry, b"br, gzip").coding == b"gzip"
    assert choose(entry, b"br").coding == b""
    assert choose(entry, None).coding == b""
    assert choose(entry, b"*;q=0").coding == b""
