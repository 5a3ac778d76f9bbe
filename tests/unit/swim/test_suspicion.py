"""Lifeguard's suspicion: memberlist's own table, and the timer round it."""

from __future__ import annotations

import pytest

from callboard.swim.suspicion import Suspicion, remaining_suspicion_time_s, suspicion_timeout_s


@pytest.mark.parametrize(
    ("confirmations", "elapsed_s", "remaining_s"),
    [  # memberlist, suspicion_test.go, TestSuspicion_remainingSuspicionTime
        (0, 0.0, 30.0),
        (1, 2.0, 14.0),
        (2, 3.0, 4.810),
        (3, 4.0, -2.0),
        (4, 5.0, -3.0),
        (5, 10.0, -8.0),
    ],
)
def test_remaining_time_is_memberlists(
    confirmations: int, elapsed_s: float, remaining_s: float
) -> None:
    result = remaining_suspicion_time_s(confirmations, 3, elapsed_s, 2.0, 30.0)
    assert result == pytest.approx(remaining_s, abs=0.001)


@pytest.mark.parametrize(
    ("members", "timeout_s"),
    [(0, 4.0), (1, 4.0), (10, 4.0), (50, 6.795), (100, 8.0), (500, 10.795)],
)
def test_least_time_grows_with_the_logarithm_of_the_members(members: int, timeout_s: float) -> None:
    assert suspicion_timeout_s(4, members, 1.0) == pytest.approx(timeout_s, abs=0.01)


def suspicion(expected: int = 2) -> Suspicion:
    return Suspicion(100.0, expected, 4.0, 24.0, {"a"})


def test_first_accusation_gives_the_longest_time() -> None:
    assert suspicion().deadline == 124.0


def test_each_new_accuser_brings_the_time_down_to_the_least() -> None:
    one = suspicion()
    assert one.confirm("b") and 104.0 < one.deadline < 124.0
    assert one.confirm("c") and one.deadline == 104.0


def test_the_same_accuser_is_nothing_new() -> None:
    one = suspicion()
    assert not one.confirm("a")
    assert one.deadline == 124.0


def test_accusers_beyond_the_expected_are_nothing_new() -> None:
    one = suspicion()
    one.confirm("b")
    one.confirm("c")
    assert not one.confirm("d")


def test_without_anyone_to_confirm_the_least_time_counts() -> None:
    assert suspicion(expected=0).deadline == 104.0


def test_pause_of_ours_is_added_to_the_time() -> None:
    one = suspicion(expected=0)
    one.shift(10.0)
    assert one.deadline == 114.0
