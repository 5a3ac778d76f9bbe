"""A token bucket: so many a second, so many at once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from callboard.gateway.allowance import Allowance


def test_what_is_over_is_not_given() -> None:
    allowance = Allowance(10.0, 5)
    assert [allowance.take(2, 1.0) for _ in range(4)] == [2, 2, 1, 0]


def test_it_fills_with_time_up_to_what_may_be_at_once() -> None:
    allowance = Allowance(10.0, 5)
    assert allowance.take(5, 1.0) == 5
    assert allowance.take(5, 1.25) == 2
    assert allowance.take(9, 60.0) == 5


def test_a_clock_that_goes_back_gives_and_takes_nothing() -> None:
    allowance = Allowance(10.0, 5)
    assert (allowance.take(3, 9.0), allowance.take(9, 1.0)) == (3, 2)


@given(
    st.floats(0.5, 1000.0),
    st.integers(1, 50),
    st.lists(st.tuples(st.integers(0, 60), st.floats(0.0, 2.0)), max_size=60),
)
def test_no_span_of_time_sees_more_than_the_rate_and_what_may_be_at_once(
    per_s: float, at_once: int, steps: list[tuple[int, float]]
) -> None:
    allowance, now, given = Allowance(per_s, at_once), 0.0, []
    for wanted, after in steps:
        now += after
        given.append((now, allowance.take(wanted, now)))
    for first in range(len(given)):
        span = given[-1][0] - given[first][0]
        assert sum(took for _, took in given[first:]) <= at_once + per_s * span + 1e-6
