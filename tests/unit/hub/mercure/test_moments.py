"""`since=`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.hub.mercure.moments import BadMoment, parse_since

NOW_MS = 1_790_000_000_000


@pytest.mark.parametrize(
    ("text", "moment_ms"),
    [
        ("10m", NOW_MS - 600_000),
        ("1h30m", NOW_MS - 5_400_000),
        ("2d", NOW_MS - 172_800_000),
        ("1d12h", NOW_MS - 129_600_000),
        ("500ms", NOW_MS - 500),
        ("1789999999999", 1_789_999_999_999),
        ("2026-09-21T14:13:20Z", 1_790_000_000_000),
        ("2026-09-21T16:13:20+02:00", 1_790_000_000_000),
        ("2026-09-21T16:13:20 02:00", 1_790_000_000_000),  # the + of a careless URL
        ("2026-09-21T14:13:20.250Z", 1_790_000_000_250),
        ("2026-09-21T14:13:20", 1_790_000_000_000),
        ("0", 0),
        ("99999h", NOW_MS - 99_999 * 3_600_000),
        ("999999d", 0),
    ],
)
def test_a_moment_is_a_duration_ago_a_date_or_milliseconds(text: str, moment_ms: int) -> None:
    assert parse_since(text, NOW_MS) == moment_ms


@pytest.mark.parametrize(
    "text", ["", "yesterday", "-10m", "10 m", "1d-5m", "9" * 40, "2026-13-01T00:00:00Z", "inf"]
)
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(BadMoment):
        parse_since(text, NOW_MS)


@given(st.text(max_size=40))
def test_any_text_is_a_moment_or_refused(text: str) -> None:
    try:
        assert parse_since(text, NOW_MS) >= 0
    except BadMoment:
        pass
