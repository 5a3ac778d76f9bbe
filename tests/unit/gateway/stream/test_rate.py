"""A bit rate over a sliding window."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.gateway.stream.rate import SLOTS, WINDOW_S, BitRate


def test_rate_is_zero_before_anything_came() -> None:
    assert BitRate().bits_per_s(5.0) == 0.0


@pytest.mark.parametrize("begin", [0.0, 1_000_000.25])
def test_steady_stream_has_its_rate(begin: float) -> None:
    rate = BitRate()
    for number in range(1000):
        rate.add(1000, begin + number * 0.01)
        if number >= 50:
            assert rate.bits_per_s(begin + number * 0.01) == pytest.approx(800_000, rel=0.07)


def test_rate_falls_to_zero_after_the_window() -> None:
    rate = BitRate()
    rate.add(1000, 10.0)
    assert rate.bits_per_s(10.0 + WINDOW_S / 2) > 0
    assert rate.bits_per_s(10.0 + WINDOW_S + 0.11) == 0
    assert rate.bits_per_s(1e9) == 0


def test_first_moments_are_not_blown_up() -> None:
    rate = BitRate()
    rate.add(1000, 10.0)
    assert rate.bits_per_s(10.0) == 8000 / (WINDOW_S / SLOTS)


def test_long_silence_costs_no_more_than_the_window() -> None:
    rate = BitRate()
    rate.add(1000, 0.0)
    rate.add(500, 1e12)
    assert rate.bits_per_s(1e12) * WINDOW_S == pytest.approx(4000, rel=0.06)


@given(seed=st.integers(0, 1 << 32))
def test_rate_is_the_sum_of_the_window_to_one_slot(seed: int) -> None:
    rng, rate, now = random.Random(seed), BitRate(), 100.0
    came: list[tuple[float, int]] = []
    for _ in range(300):
        now += rng.choice([0.0, 0.001, 0.03, 0.3, 3.0]) * rng.random()
        octets = rng.randrange(2000)
        rate.add(octets, now)
        came.append((now, octets))
    slot_s = WINDOW_S / SLOTS
    longest = sum(octets for at, octets in came if at > now - WINDOW_S - 1e-6)
    shortest = sum(octets for at, octets in came if at > now - WINDOW_S + slot_s + 1e-6)
    got = rate.bits_per_s(now)
    assert 8 * shortest / (WINDOW_S + 1e-6) <= got
    assert got <= 8 * longest / min(WINDOW_S - slot_s - 1e-6, max(now - came[0][0], slot_s))
