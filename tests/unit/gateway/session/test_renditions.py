"""Which rendition a viewer gets."""

from __future__ import annotations

import random
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from callboard.gateway.session.renditions import (
    FAILED_WITHIN_S,
    SETTLE_S,
    TRY_AFTER_S,
    RenditionChoice,
    Slow,
    Way,
)

RATES = (2_000_000.0, 500_000.0)
CLEAN, LOSSY = Way(0, 0.0), Way(0, 0.3)


def after(choice: RenditionChoice, way: Way, *, since: float, seconds: float) -> float:
    """A report a second; the time of the last one."""
    now = since
    for _ in range(round(seconds)):
        now += 1.0
        choice.report(way, RATES, now)
    return now


def test_a_good_way_has_the_best_rendition() -> None:
    choice = RenditionChoice(0.0)
    after(choice, Way(10_000_000, 0.0), since=0.0, seconds=60)
    assert (choice.current, choice.slow) == (0, None)


def test_loss_in_two_reports_leads_down() -> None:
    choice = RenditionChoice(0.0)
    assert choice.report(LOSSY, RATES, 1.0) == 0
    assert choice.report(LOSSY, RATES, 2.0) == 1


def test_an_estimate_below_the_rate_leads_down() -> None:
    choice = RenditionChoice(0.0)
    after(choice, Way(1_000_000, 0.0), since=0.0, seconds=2)
    assert choice.current == 1


def test_one_bad_report_alone_changes_nothing() -> None:
    choice = RenditionChoice(0.0)
    for second in range(30):
        choice.report(LOSSY if second % 2 else CLEAN, RATES, float(second))
    assert choice.current == 0


def test_with_no_other_rendition_the_link_is_too_slow_until_it_is_clean_again() -> None:
    choice = RenditionChoice(0.0)
    now = after(choice, Way(200_000, 0.2), since=0.0, seconds=12)
    assert choice.current == 1
    assert choice.slow == Slow(needs=500_000, gets=200_000)
    after(choice, CLEAN, since=now, seconds=SETTLE_S + 2)
    assert choice.slow is None


def test_a_clean_way_is_tried_after_a_while() -> None:
    choice = RenditionChoice(0.0)
    now = after(choice, LOSSY, since=0.0, seconds=2)
    now = after(choice, CLEAN, since=now, seconds=TRY_AFTER_S - 1)
    assert choice.current == 1
    after(choice, CLEAN, since=now, seconds=3)
    assert choice.current == 0


def test_each_try_that_fails_puts_the_next_one_off_for_longer() -> None:
    choice, now, tries = RenditionChoice(0.0), 0.0, []
    for _ in range(600):
        now += 1.0
        before = choice.current
        choice.report(LOSSY if before == 0 else CLEAN, RATES, now)
        if choice.current < before:
            tries.append(now)
    gaps = [round(b - a) for a, b in pairwise(tries)]
    assert gaps == sorted(gaps) and gaps[-1] > 4 * gaps[0]
    assert len(tries) < 8


def test_a_rendition_of_which_nothing_comes_is_not_gone_to() -> None:
    choice = RenditionChoice(0.0)
    for second in range(1, 10):
        choice.report(LOSSY, (2_000_000.0, 0.0, 300_000.0), float(second))
    assert choice.current == 2
    alone = RenditionChoice(0.0)
    for second in range(1, 10):
        alone.report(LOSSY, (2_000_000.0, 0.0), float(second))
    assert alone.current == 0 and alone.slow is not None


def test_a_rendition_that_has_died_is_left_at_once_down_or_up() -> None:
    for rates, to in (((0.0, 400_000.0), 1), ((0.0, 0.0, 300_000.0), 2)):
        choice = RenditionChoice(0.0)
        assert choice.report(CLEAN, rates, 1.0) == to
        assert choice.slow is None
    choice = RenditionChoice(0.0)
    now = after(choice, LOSSY, since=0.0, seconds=2)
    assert choice.current == 1
    assert choice.report(CLEAN, (2_000_000.0, 0.0), now + SETTLE_S) == 0


def test_who_comes_begins_with_the_best_of_which_something_comes() -> None:
    beginnings = [
        RenditionChoice(0.0).begin(rates)
        for rates in (RATES, (0.0, 500_000.0), (0.0, 0.0, 1.0), (0.0, 0.0), (0.0,), ())
    ]
    assert beginnings == [0, 1, 2, 0, 0, 0]
    choice = RenditionChoice(0.0)
    choice.begin((0.0, 500_000.0))
    assert choice.report(CLEAN, (0.0, 500_000.0), 1.0) == 1


def test_a_rendition_that_came_back_is_tried_as_after_any_trouble() -> None:
    choice = RenditionChoice(0.0)
    choice.report(CLEAN, (0.0, 500_000.0), 1.0)
    now = after(choice, CLEAN, since=1.0, seconds=TRY_AFTER_S - 1)
    assert choice.current == 1
    after(choice, CLEAN, since=now, seconds=3)
    assert choice.current == 0


def test_nothing_changes_while_nothing_comes_of_any_rendition() -> None:
    choice = RenditionChoice(0.0)
    for second in range(60):
        assert choice.report(CLEAN, (0.0, 0.0), float(second)) == 0
    assert choice.slow is None


def test_renditions_that_die_in_turn_are_not_changed_too_often() -> None:
    choice, changes, now = RenditionChoice(0.0), [], 0.0
    for step in range(100):
        now += 0.25
        before = choice.current
        if choice.report(CLEAN, ((0.0, 1.0), (1.0, 0.0))[step % 2], now) != before:
            changes.append(now)
    assert changes and all(b - a >= SETTLE_S for a, b in pairwise(changes))


@given(
    st.lists(st.tuples(st.integers(0, 10**8), st.floats(0, 1)), max_size=80),
    st.integers(1, 4),
    st.integers(0, 100),
)
def test_any_reports_choose_one_that_is_there_and_not_too_often(
    reports: list[tuple[int, float]], count: int, seed: int
) -> None:
    rng, choice, now, changed_at = random.Random(seed), RenditionChoice(0.0), 0.0, -SETTLE_S
    for estimate, lost in reports:
        now += rng.uniform(0.1, 3.0)
        before = choice.current
        rates = [rng.uniform(0, 10**7) for _ in range(count)]
        assert 0 <= choice.report(Way(estimate, lost), rates, now) < count
        if choice.current != before:
            assert now - changed_at >= SETTLE_S
            changed_at = now
    assert FAILED_WITHIN_S > SETTLE_S
