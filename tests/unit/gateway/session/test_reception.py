"""What is told to a publisher of what came, and what it is asked for again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.gateway.session import reception
from callboard.gateway.session.publisher import (
    ESTIMATE_BITS_MAX,
    ESTIMATE_BITS_MIN,
    next_estimate,
)
from callboard.gateway.session.reception import Asking, Reception


def received(numbers: list[int]) -> Reception:
    made = Reception(7, 90_000)
    for at, number in enumerate(numbers):
        made.take(number % (1 << 16), at * 3000, at / 30)
    return made


def test_what_does_not_come_is_lost() -> None:
    made = received([10, 11, 14])
    block = made.block(1.0)
    assert (block.ssrc, block.lost, block.fraction_lost, block.highest_number) == (7, 2, 102, 14)


def test_the_fraction_is_of_the_time_since_the_last_report() -> None:
    made = received([10, 12])
    assert made.block(1.0).fraction_lost == 85
    made.take(13, 0, 1.1)
    assert made.block(2.0).fraction_lost == 0
    assert made.block(3.0).fraction_lost == 0


def test_numbers_go_on_over_the_wrap_with_their_cycle() -> None:
    made = received([65_534, 65_535, 65_536, 65_537])
    assert made.block(1.0).highest_number == (1 << 16) + 1
    assert made.lost == 0


def test_what_comes_late_is_not_lost() -> None:
    assert received([1, 2, 4, 3, 5]).lost == 0


@given(st.permutations(list(range(65_500, 65_560))))
def test_any_order_of_arrival_is_no_loss(numbers: list[int]) -> None:
    made = received([65_499, *numbers])
    assert made.lost == 0 or made.received == 61


def test_a_source_that_begins_anew_has_lost_nothing_between() -> None:
    made = received([10, 11, 40_000, 40_001])
    assert made.lost == 0
    assert made.block(1.0).highest_number % (1 << 16) == 40_001


def test_even_arrival_has_no_jitter_and_uneven_has() -> None:
    assert received(list(range(50))).block(2.0).jitter == 0
    made = Reception(7, 90_000)
    for number in range(200):
        made.take(number, number * 3000, number / 30 + (0.01 if number % 2 else 0.0))
    assert 0.008 < made.jitter_s < 0.012


def test_the_delay_since_the_last_report_is_told() -> None:
    made = received([1])
    made.take_report(0x1111_2222_3333_4444, 5.0)
    block = made.block(5.5)
    assert (block.last_report, block.delay) == (0x2222_3333, 32_768)


def test_a_missing_packet_is_asked_for_at_once_and_again_and_then_given_up() -> None:
    asking = Asking()
    assert asking.due([5, 6], 1.0) == [5, 6]
    assert asking.due([5, 6], 1.01) == []
    assert asking.due([6], 1.0 + reception.ASK_AGAIN_S) == [6]
    assert asking.due([6, 9], 1.01 + 2 * reception.ASK_AGAIN_S) == [6, 9]
    assert asking.due([6], 1.0 + reception.GIVE_UP_S + 0.1) == []
    assert asking.asked == 5


def test_no_packet_is_asked_for_more_often_than_allowed() -> None:
    asking = Asking()
    asked = sum(len(asking.due([5], at / 100)) for at in range(60))
    assert asked == reception.ASKED_MAX


def test_no_more_is_asked_for_than_is_worth_it() -> None:
    assert len(Asking().due(list(range(1000)), 1.0)) == reception.MISSING_MAX


@pytest.mark.parametrize(
    ("fraction", "rises", "falls"), [(0.0, True, False), (0.05, False, False), (0.5, False, True)]
)
def test_the_estimate_follows_the_loss(fraction: float, rises: bool, falls: bool) -> None:
    now = next_estimate(1_000_000, fraction)
    assert (now > 1_000_000, now < 1_000_000) == (rises, falls)


@given(st.lists(st.floats(0, 1), max_size=60))
def test_the_estimate_stays_within_its_bounds(fractions: list[float]) -> None:
    estimate = ESTIMATE_BITS_MAX
    for fraction in fractions:
        estimate = next_estimate(estimate, fraction)
        assert ESTIMATE_BITS_MIN <= estimate <= ESTIMATE_BITS_MAX
