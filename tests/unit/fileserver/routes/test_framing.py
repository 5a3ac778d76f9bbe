"""Where bodies end: whatever way the bytes are cut, and whatever bytes they are."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.fileserver.routes.framing import BadBody, Body, Chunked, Length, Nothing, UntilClose

BEHIND = b"GET / HTTP/1.1\r\n"


def chunked(parts: list[bytes], trailer: bytes = b"", extension: bytes = b"") -> bytes:
    chunks = b"".join(b"%x%b\r\n%b\r\n" % (len(p), extension, p) for p in parts if p)
    return chunks + b"0\r\n" + trailer + b"\r\n"


def feed(body: Body, data: bytes, cuts: list[int]) -> int:
    """Give `data` in pieces; how many bytes were taken."""
    taken = 0
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for start, stop in itertools.pairwise(places):
        if body.done:
            break
        count = body.take(data[start:stop])
        taken += count
        if count < stop - start:
            break
    return taken


@given(
    st.lists(st.binary(max_size=50), max_size=5),
    st.sampled_from([b"", b"X: y\r\n", b"A: b\r\nC: d\r\n"]),
    st.sampled_from([b"", b";a=b", b"; q"]),
    st.lists(st.integers(0, 400), max_size=20),
)
def test_the_end_of_a_chunked_body_is_found_however_it_is_cut(
    parts: list[bytes], trailer: bytes, extension: bytes, cuts: list[int]
) -> None:
    whole = chunked(parts, trailer, extension)
    body = Chunked()
    assert feed(body, whole + BEHIND, cuts) == len(whole)
    assert body.done


@given(st.integers(0, 300), st.lists(st.integers(0, 400), max_size=20))
def test_the_end_of_a_counted_body_is_found_however_it_is_cut(length: int, cuts: list[int]) -> None:
    body = Length(length)
    assert feed(body, b"x" * length + BEHIND, cuts) == length
    assert body.done


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=10))
def test_any_bytes_are_followed_or_refused(data: bytes, cuts: list[int]) -> None:
    body = Chunked()
    try:
        taken = feed(body, data, cuts)
    except BadBody:
        return
    assert taken <= len(data)
    assert body.done or taken == len(data)


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n",
        b"-1\r\n",
        b"0x5\r\nhello\r\n",
        b"5 5\r\nhello\r\n",
        b"5\nhello\r\n",
        b"5\rx\r\n",
        b"5\r\nhelloXX0\r\n\r\n",
        b"5\r\nhello\rX",
        b"+5\r\nhello\r\n",
        b"fffffffffffffffff\r\n",
        b"5" + b";" + b"x" * 2000 + b"\r\n",
        b"0\r\n" + b"A: b\r\n" * 5000,
        b"0\r\nA: b\n\r\n",
        b"5 ;a\r\nhello\r\n",
        b"5\r\nhello\n\r\r\n",
        b"0x5\r\nhello\r\n",
        b"5_\r\nhello\r\n",
        b"0\r\nno field\r\n\r\n",
        b"0\r\n folded: b\r\n\r\n",
    ],
)
def test_what_two_readers_could_understand_differently_is_refused(data: bytes) -> None:
    with pytest.raises(BadBody):
        feed(Chunked(), data, [])


@given(st.lists(st.binary(min_size=1, max_size=50), min_size=1, max_size=5))
def test_chunks_that_come_one_by_one_are_followed(parts: list[bytes]) -> None:
    body = Chunked()
    for part in parts:
        chunk = b"%X\r\n%b\r\n" % (len(part), part)
        assert body.take(chunk) == len(chunk)
        assert not body.done
    assert body.take(b"0\r\n\r\n" + BEHIND) == 5
    assert body.done


def test_no_body_takes_nothing_and_one_until_close_everything() -> None:
    assert Nothing().done
    assert Nothing().take(b"abc") == 0
    body = UntilClose()
    assert body.take(b"abc") == 3
    assert not body.done
