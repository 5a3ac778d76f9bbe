"""How fast one token may publish."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from callboard.hub.auth.rates import Rates


def test_a_burst_is_taken_at_once_and_then_the_rate_holds() -> None:
    rates = Rates(per_s=10, burst=3)
    assert [rates.take(b"a", 0.0) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert rates.take(b"a", 0.0) == 0.1
    assert rates.take(b"a", 0.1) == 0.0
    assert rates.take(b"a", 0.1) > 0


def test_each_token_has_its_own() -> None:
    rates = Rates(per_s=1, burst=1)
    assert rates.take(b"a", 0.0) == 0.0
    assert rates.take(b"b", 0.0) == 0.0
    assert rates.take(b"a", 0.0) > 0


def test_no_rate_is_no_limit_and_keeps_nothing() -> None:
    rates = Rates(per_s=0, burst=1)
    assert not any(rates.take(b"a", 0.0) for _ in range(1000))
    assert len(rates) == 0


def test_the_table_is_bounded_and_forgets_who_was_not_seen_for_the_longest() -> None:
    rates = Rates(per_s=1, burst=1, size_max=2)
    for key in (b"a", b"b", b"a", b"c"):
        rates.take(key, 0.0)
    assert len(rates) == 2
    assert rates.take(b"a", 0.0) > 0


def test_a_clock_that_stands_or_goes_back_gives_nothing_for_free() -> None:
    rates = Rates(per_s=1, burst=1)
    assert rates.take(b"a", 10.0) == 0.0
    assert rates.take(b"a", 5.0) > 0


@given(st.lists(st.floats(0, 0.5), max_size=80), st.integers(1, 20), st.integers(1, 5))
def test_never_more_than_the_burst_and_the_rate_are_taken(
    pauses: list[float], per_s: int, burst: int
) -> None:
    rates, now, taken = Rates(per_s, burst), 0.0, 0
    for pause in pauses:
        now += pause
        taken += rates.take(b"a", now) == 0.0
    assert taken <= burst + now * per_s + 1e-6


@given(st.integers(1, 1000))
def test_who_waits_as_long_as_told_is_served(per_s: int) -> None:
    rates = Rates(per_s, 1)
    assert rates.take(b"a", 0.0) == 0.0
    wait = rates.take(b"a", 0.0)
    assert rates.take(b"a", wait * 1.000001) == 0.0
