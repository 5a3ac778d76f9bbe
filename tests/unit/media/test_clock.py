"""The clock that a test picture carries."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.media import clock

HEIGHT = 32
TIMES = st.integers(min_value=0, max_value=1 << 48)


def _painted(milliseconds: int, row_bytes: int = clock.WIDTH) -> bytearray:
    luma = bytearray([128]) * (row_bytes * HEIGHT)
    clock.paint(luma, milliseconds, row_bytes)
    return luma


@given(TIMES)
def test_what_is_encoded_is_decoded(milliseconds: int) -> None:
    assert clock.decode(clock.encode(milliseconds)) == milliseconds % clock.MODULUS


@given(TIMES, st.integers(min_value=0, max_value=39))
def test_one_wrong_bit_is_noticed(milliseconds: int, at: int) -> None:
    bits = clock.encode(milliseconds)
    flipped = bits[:at] + "10"[int(bits[at])] + bits[at + 1 :]
    assert clock.decode(flipped) is None


@given(st.text(max_size=80))
def test_any_text_is_decoded_or_is_no_clock(bits: str) -> None:
    value = clock.decode(bits)
    assert value is None or clock.encode(value) == bits


def test_the_layout_is_as_documented() -> None:
    remainder = (0xFF << 24 ^ 1) << 8  # by long division: modulo x⁸+x²+x+1, begun with 0xFF
    for shift in range(31, -1, -1):
        if remainder >> shift + 8 & 1:
            remainder ^= 0x107 << shift
    assert clock.encode(1) == f"{1:032b}{remainder:08b}"


def test_plain_rows_are_no_clock() -> None:
    for value in (0, 16, 235, 255):
        assert clock.read(bytes([value]) * (clock.WIDTH * HEIGHT), clock.WIDTH) is None


@given(TIMES)
def test_what_is_painted_is_read(milliseconds: int) -> None:
    assert clock.read(_painted(milliseconds), clock.WIDTH) == milliseconds % clock.MODULUS


@given(TIMES)
def test_rows_may_be_longer_than_the_picture(milliseconds: int) -> None:
    luma = _painted(milliseconds, 704)
    assert clock.read(luma, clock.WIDTH, 704) == milliseconds % clock.MODULUS
    assert set(luma[640:704]) == {128}


@pytest.mark.parametrize("width", [160, 320, 480, 854, 1280])
def test_a_scaled_picture_is_read(width: int) -> None:
    source, milliseconds = _painted(0xDEADBEEF), 0xDEADBEEF
    rows = round(HEIGHT * width / clock.WIDTH)
    scaled = bytes(
        source[y * HEIGHT // rows * clock.WIDTH + x * clock.WIDTH // width]
        for y in range(rows)
        for x in range(width)
    )
    assert clock.read(scaled, width) == milliseconds


@given(TIMES)
def test_noise_does_not_hide_it(milliseconds: int) -> None:
    luma = _painted(milliseconds)
    for at in range(0, clock.WIDTH * clock.BLOCK_PIXELS, 7):
        luma[at] = 128
    assert clock.read(luma, clock.WIDTH) == milliseconds % clock.MODULUS


@pytest.mark.parametrize(("length", "width"), [(0, 640), (640 * 15, 640), (10_000, 159)])
def test_a_plane_that_is_too_small_is_refused(length: int, width: int) -> None:
    with pytest.raises(ValueError, match="holds no clock"):
        clock.read(bytes(length), width)


def test_age_counts_over_the_wrap_and_backwards() -> None:
    assert clock.age_ms(clock.MODULUS - 10, clock.MODULUS * 400 + 20) == 30
    assert clock.age_ms(50, 20) == -30
