"""Go durations: texts as time.ParseDuration takes and Duration.String gives them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.catalog.durations import (
    HOUR,
    MILLISECOND,
    MINUTE,
    SECOND,
    DurationError,
    format_duration,
    parse_duration,
    seconds,
)


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0", 0),
        ("-0", 0),
        ("0s", 0),
        ("5s", 5 * SECOND),
        ("+5s", 5 * SECOND),
        ("-5s", -5 * SECOND),
        ("5.0s", 5 * SECOND),
        ("5.s", 5 * SECOND),
        (".5s", SECOND // 2),
        ("1.004s", 1004 * MILLISECOND),
        ("100.00100s", 100_001 * MILLISECOND),
        ("10ns", 10),
        ("11us", 11_000),
        ("12µs", 12_000),
        ("12μs", 12_000),
        ("13ms", 13 * MILLISECOND),
        ("15m", 15 * MINUTE),
        ("16h", 16 * HOUR),
        ("3h30m", 3 * HOUR + 30 * MINUTE),
        ("10.5s4m", 4 * MINUTE + 10 * SECOND + SECOND // 2),
        ("1h2m3s4ms5us6ns", HOUR + 2 * MINUTE + 3 * SECOND + 4 * MILLISECOND + 5006),
        ("120000ms", 2 * MINUTE),
        ("15.000000s", 15 * SECOND),
        ("1.5h", 90 * MINUTE),
        ("0.3333333333333333333h", 20 * MINUTE - 1),
        ("9223372036854775807ns", (1 << 63) - 1),
        ("-9223372036854775808ns", -(1 << 63)),
        ("0000000000000000000000000000000000000000000001s", SECOND),
    ],
)
def test_go_texts_parse_to_nanoseconds(text: str, nanoseconds: int) -> None:
    # The fraction is cut at 18 digits, where Go cuts within a nanosecond of it.
    assert abs(parse_duration(text) - nanoseconds) <= 1


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", 'time: invalid duration ""'),
        ("3", 'time: missing unit in duration "3"'),
        ("-", 'time: invalid duration "-"'),
        ("s", 'time: invalid duration "s"'),
        (".", 'time: invalid duration "."'),
        (".s", 'time: invalid duration ".s"'),
        ("1d", 'time: unknown unit "d" in duration "1d"'),
        ("10s ", 'time: unknown unit "s " in duration "10s "'),
        ("9223372036854775808ns", 'time: invalid duration "9223372036854775808ns"'),
        ("9" * 5000 + "h", None),
        ("1S", 'time: unknown unit "S" in duration "1S"'),
    ],
)
def test_other_texts_are_refused_in_go_words(text: str, error: str | None) -> None:
    with pytest.raises(DurationError) as caught:
        parse_duration(text)
    if error is not None:
        assert str(caught.value) == error


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1100, "1.1µs"),
        (2_200_000, "2.2ms"),
        (3_300_000_000, "3.3s"),
        (10 * SECOND, "10s"),
        (MINUTE, "1m0s"),
        (4 * MINUTE + 5 * SECOND + MILLISECOND, "4m5.001s"),
        (5 * HOUR + 6 * MINUTE + 7_001 * MILLISECOND, "5h6m7.001s"),
        (8 * MINUTE + 1, "8m0.000000001s"),
        (-15 * SECOND, "-15s"),
        (-(1 << 63), "-2562047h47m16.854775808s"),
    ],
)
def test_durations_print_as_go_prints_them(nanoseconds: int, text: str) -> None:
    assert format_duration(nanoseconds) == text


@given(st.integers(-(1 << 63), (1 << 63) - 1))
def test_printing_and_parsing_are_inverse(nanoseconds: int) -> None:
    assert parse_duration(format_duration(nanoseconds)) == nanoseconds


@given(st.text(alphabet="0123456789.+-hmsnuµ x", max_size=30))
def test_any_text_parses_or_is_refused(text: str) -> None:
    try:
        assert abs(parse_duration(text)) <= 1 << 63
    except DurationError as error:
        assert str(error).startswith("time: ")


def test_seconds_are_a_float() -> None:
    assert seconds(1_500_000_000) == 1.5
