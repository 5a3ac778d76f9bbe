"""LZW as Go writes it; the vectors are what a serf agent sent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.swim.lzw import compress, decompress
from callboard.swim.packing import DecodeError


def test_empty_input_is_a_clear_and_an_end() -> None:
    # Codes 256 and 257 in nine bits each, least significant bit first.
    assert compress(b"") == b"\x00\x03\x02"
    assert decompress(compress(b""), 10) == b""


@pytest.mark.parametrize(
    "data",
    [b"a", b"aaaa", b"ab" * 700, bytes(range(256)) * 40, b"x" * 100_000],
    ids=["one", "repeated", "pairs", "all bytes", "long"],
)
def test_data_survives(data: bytes) -> None:
    assert decompress(compress(data), 200_000) == data


@given(st.binary(max_size=3000))
def test_any_data_survives(data: bytes) -> None:
    assert decompress(compress(data), 4000) == data


def test_full_table_is_cleared_and_refilled() -> None:
    data = bytes((i * i * 7 + i // 3) % 251 for i in range(60_000))
    assert decompress(compress(data), 100_000) == data


def test_bomb_is_stopped_at_the_limit() -> None:
    bomb = compress(b"\x00" * 1_000_000)
    assert len(bomb) < 4000
    with pytest.raises(DecodeError, match="unfolds above 65536"):
        decompress(bomb, 65536)


def test_missing_end_is_refused() -> None:
    with pytest.raises(DecodeError, match="no end"):
        decompress(compress(b"abcdef")[:-2], 100)


def test_code_beyond_the_table_is_refused() -> None:
    with pytest.raises(DecodeError, match="impossible"):
        decompress(b"\xff\xff\xff", 100)


@given(st.binary(max_size=400))
def test_any_bytes_unfold_or_are_refused(data: bytes) -> None:
    try:
        assert len(decompress(data, 10_000)) <= 10_000
    except DecodeError:
        pass
