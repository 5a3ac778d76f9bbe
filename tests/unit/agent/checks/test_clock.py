"""The clock that tests move."""

import asyncio

import pytest
from tests.harness.eventually import eventually

from callboard.agent.checks.clock import MovableClock


async def test_timers_within_a_jump_fire_in_order_at_their_own_times() -> None:
    clock = MovableClock(asyncio.get_running_loop())
    start = clock.now()
    fired: list[float] = []
    for delay in (30, 10, 20):
        clock.call_at(start + delay, lambda: fired.append(round(clock.now() - start)))
    clock.advance(25)
    assert fired == [10, 20]


async def test_timer_set_by_a_timer_fires_within_the_same_jump() -> None:
    clock = MovableClock(asyncio.get_running_loop())
    fired: list[float] = []

    def again() -> None:
        fired.append(clock.now())
        if len(fired) < 3:
            clock.call_at(clock.now() + 10, again)

    clock.call_at(clock.now() + 10, again)
    clock.advance(100)
    assert len(fired) == 3


async def test_cancelled_timer_does_not_fire() -> None:
    clock = MovableClock(asyncio.get_running_loop())
    fired: list[float] = []
    clock.call_at(clock.now() + 1, lambda: fired.append(1)).cancel()
    clock.advance(2)
    assert fired == []


async def test_timer_fires_by_itself_when_time_passes() -> None:
    clock = MovableClock(asyncio.get_running_loop())
    clock.advance(1000)
    fired: list[float] = []
    clock.call_at(clock.now() + 0.01, lambda: fired.append(1))
    await eventually(lambda: fired)


async def test_clock_does_not_go_back() -> None:
    with pytest.raises(ValueError, match="does not go back"):
        MovableClock(asyncio.get_running_loop()).advance(-1)
