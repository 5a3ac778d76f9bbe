"""The timer wheel: never early, at most a slot late, cheap to cancel, silent when empty."""

from __future__ import annotations

import asyncio
import itertools
import random

from tests.harness.eventually import eventually

from callboard.serve.fanout import FanOut
from callboard.serve.timerwheel import TimerWheel


async def test_timer_fires_once_not_early_and_soon() -> None:
    loop = asyncio.get_running_loop()
    wheel = TimerWheel(loop)
    fired: list[float] = []
    begun = loop.time()
    wheel.add(0.05, lambda: fired.append(loop.time() - begun))
    await eventually(lambda: fired)
    assert 0.05 <= fired[0] < 0.5
    assert len(wheel) == 0


async def test_timers_fire_in_the_order_of_their_deadlines() -> None:
    loop = asyncio.get_running_loop()
    wheel = TimerWheel(loop)
    fired: list[int] = []
    order = list(range(20))
    random.Random(4).shuffle(order)
    for number in order:
        wheel.add(0.02 * number, lambda number=number: fired.append(number))  # type: ignore[misc]
    await eventually(lambda: len(fired) == 20)
    assert fired == sorted(fired)


async def test_cancelled_timer_does_not_fire() -> None:
    wheel = TimerWheel(asyncio.get_running_loop())
    fired: list[str] = []
    cancelled = wheel.add(0.02, lambda: fired.append("cancelled"))
    wheel.add(0.04, lambda: fired.append("kept"))
    wheel.cancel(cancelled)
    wheel.cancel(cancelled)
    await eventually(lambda: fired)
    assert fired == ["kept"]


async def test_earlier_timer_added_from_a_callback_is_not_held_up_by_a_later_one() -> None:
    loop = asyncio.get_running_loop()
    wheel = TimerWheel(loop)
    fired: list[str] = []

    def first() -> None:
        wheel.add(5.0, lambda: fired.append("late"))
        wheel.add(0.02, lambda: fired.append("soon"))

    wheel.add(0.0, first)
    wheel.add(0.06, lambda: fired.append("other"))
    await eventually(lambda: len(fired) == 2, timeout_s=2.0)
    assert fired == ["soon", "other"]
    wheel.close()


async def test_failing_callback_does_not_stop_the_others(caplog: object) -> None:
    wheel = TimerWheel(asyncio.get_running_loop())
    fired: list[int] = []
    wheel.add(0.0, lambda: 1 // 0)  # type: ignore[arg-type]
    wheel.add(0.0, lambda: fired.append(1))
    await eventually(lambda: fired)


async def test_empty_wheel_has_no_timer_of_the_loop() -> None:
    wheel = TimerWheel(asyncio.get_running_loop())
    for _ in range(100):
        wheel.cancel(wheel.add(0.01, lambda: None))
    await eventually(lambda: wheel._handle is None)


async def test_thousands_due_at_once_let_the_loop_turn_between() -> None:
    loop = asyncio.get_running_loop()
    wheel = TimerWheel(loop)
    fired = 0
    seen: list[int] = []

    def count() -> None:
        nonlocal fired
        fired += 1

    def look() -> None:
        seen.append(fired)
        if fired < 5_000:
            loop.call_soon(look)

    for _ in range(5_000):
        wheel.add(0.01, count)
    loop.call_soon(look)
    await eventually(lambda: fired == 5_000)
    assert len([n for n in seen if 0 < n < 5_000]) >= 5


async def test_fan_out_runs_everything_in_order_in_batches() -> None:
    loop = asyncio.get_running_loop()
    fanout = FanOut(loop, batch=10, slice_s=60.0)
    ran: list[int] = []
    seen: list[int] = []

    def look() -> None:
        seen.append(len(ran))
        if len(ran) < 100:
            loop.call_soon(look)

    for number in range(100):
        fanout.post(lambda number=number: ran.append(number))  # type: ignore[misc]
    loop.call_soon(look)
    await eventually(lambda: len(ran) == 100)
    assert ran == list(range(100))
    assert all(later - earlier <= 10 for earlier, later in itertools.pairwise(seen))


async def test_fan_out_survives_a_failing_callback() -> None:
    fanout = FanOut(asyncio.get_running_loop())
    ran: list[int] = []
    fanout.post(lambda: 1 // 0)  # type: ignore[arg-type]
    fanout.post(lambda: ran.append(1))
    await eventually(lambda: ran)
    assert len(fanout) == 0
