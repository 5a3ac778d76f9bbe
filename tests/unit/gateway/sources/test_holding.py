"""When a lease is taken, renewed and given back."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from callboard.gateway.sources.holding import (
    KEPT_S,
    RENEW_S,
    RETRY_MAX_S,
    RETRY_MIN_S,
    Action,
    Backoff,
    Holding,
)

LASTS_S = 10.0


def holding(*, on_demand: bool = False) -> Holding:
    return Holding(random.Random(1), on_demand=on_demand)


def test_a_stream_that_is_always_on_is_taken_at_once_and_renewed() -> None:
    it = holding()
    assert it.action(0.0) is Action.TAKE
    it.granted(0.0, LASTS_S)
    assert it.action(RENEW_S - 0.1) is Action.WAIT
    assert it.due_at(0.0) == RENEW_S
    assert it.action(RENEW_S) is Action.RENEW


def test_a_stream_on_demand_is_taken_with_the_first_viewer() -> None:
    it = holding(on_demand=True)
    assert (it.action(100.0), it.due_at(100.0)) == (Action.WAIT, float("inf"))
    it.watched(True, 100.0)
    assert it.action(100.0) is Action.TAKE


def test_a_stream_on_demand_is_kept_for_a_while_after_the_last_viewer() -> None:
    it = holding(on_demand=True)
    it.watched(True, 0.0)
    it.granted(0.0, LASTS_S)
    it.watched(False, 2.0)
    assert it.action(RENEW_S) is Action.RENEW
    it.granted(RENEW_S + KEPT_S - 2.0, LASTS_S)
    assert it.due_at(RENEW_S + KEPT_S - 2.0) == 2.0 + KEPT_S
    assert it.action(2.0 + KEPT_S) is Action.RELEASE
    assert it.due_at(2.0 + KEPT_S) == 2.0 + KEPT_S
    it.released()
    assert it.due_at(2.0 + KEPT_S) == float("inf")


def test_a_viewer_who_comes_back_meanwhile_finds_it_running() -> None:
    it = holding(on_demand=True)
    it.watched(True, 0.0)
    it.granted(0.0, LASTS_S)
    it.watched(False, 1.0)
    it.watched(True, 2.0)
    assert it.action(2.0 + KEPT_S) is Action.RENEW


def test_a_lease_that_is_unknown_is_taken_anew_at_once() -> None:
    it = holding()
    it.granted(0.0, LASTS_S)
    it.lost(3.0)
    assert it.action(3.0) is Action.TAKE


def test_a_renewal_that_fails_is_tried_again_and_the_lease_is_over_when_its_time_is() -> None:
    it = holding()
    it.granted(0.0, LASTS_S)
    now = RENEW_S
    while now < LASTS_S:
        assert it.action(now) is Action.RENEW
        it.failed(now)
        now = it.due_at(now)
    it.failed(now)
    assert not it.held
    assert it.action(it.due_at(now)) is Action.TAKE


def test_a_new_viewer_does_not_wait_for_the_pause_after_a_failure() -> None:
    it = holding(on_demand=True)
    it.watched(True, 0.0)
    it.failed(0.0)
    assert it.action(0.1) is Action.WAIT
    it.watched(False, 0.1)
    it.watched(True, 0.2)
    assert it.action(0.2) is Action.TAKE


@given(st.integers(0, 1 << 32), st.integers(1, 100))
def test_pauses_lie_between_their_bounds_and_grow(seed: int, failures: int) -> None:
    backoff = Backoff(random.Random(seed))
    pauses = [backoff.pause_s() for _ in range(failures)]
    assert all(RETRY_MIN_S <= pause <= RETRY_MAX_S for pause in pauses)
    assert pauses[0] <= 2 * RETRY_MIN_S
    assert all(pause >= RETRY_MAX_S / 2 for pause in pauses[8:])
    backoff.succeeded()
    assert backoff.pause_s() <= 2 * RETRY_MIN_S


@given(st.lists(st.tuples(st.floats(0, 6), st.sampled_from("wlgfx"))), st.booleans())
def test_there_is_always_a_next_step_while_a_stream_is_wanted(
    steps: list[tuple[float, str]], on_demand: bool
) -> None:
    it, now = holding(on_demand=on_demand), 0.0
    for gap_s, what in steps:
        now += gap_s
        match what:
            case "w" | "l":
                it.watched(what == "w", now)
            case "g":
                it.granted(now, LASTS_S)
            case "f":
                it.failed(now)
            case _:
                it.lost(now)
        due = it.due_at(now)
        if it.wanted(now) or it.held:
            assert due < now + max(KEPT_S, RETRY_MAX_S) + 1
            assert it.action(max(now, due)) is not Action.WAIT or not it.wanted(max(now, due))
        else:
            assert due == float("inf")
            assert it.action(now) is Action.WAIT
