"""Monitors report what they see, and stop when told."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from functools import partial

from tests.harness.eventually import eventually

from callboard.agent.checks.clock import MovableClock
from callboard.agent.checks.monitors import IntervalMonitor, TtlMonitor
from callboard.agent.checks.probes import Result
from callboard.agent.checks.thresholds import Thresholds

Reports = list[tuple[str, str]]


def movable() -> MovableClock:
    return MovableClock(asyncio.get_running_loop())


def ttl(clock: MovableClock, reports: Reports) -> TtlMonitor:
    return TtlMonitor(10, clock, lambda status, output: reports.append((status, output)))


async def test_ttl_turns_critical_when_nothing_is_heard() -> None:
    clock = movable()
    reports: Reports = []
    ttl(clock, reports).start()
    clock.advance(9)
    assert reports == []
    clock.advance(2)
    assert reports == [("critical", "TTL expired")]


async def test_ttl_begins_anew_when_heard() -> None:
    clock = movable()
    reports: Reports = []
    monitor = ttl(clock, reports)
    monitor.start()
    clock.advance(9)
    monitor.heard("fine")
    clock.advance(9)
    assert reports == []
    clock.advance(2)
    text = "TTL expired (last output before timeout follows): fine"
    assert reports == [("critical", text)]


async def test_ttl_goes_on_with_what_a_restart_left() -> None:
    clock = movable()
    reports: Reports = []
    ttl(clock, reports).start(remaining_s=3)
    clock.advance(4)
    assert len(reports) == 1


async def test_ttl_stopped_reports_nothing() -> None:
    clock = movable()
    reports: Reports = []
    monitor = ttl(clock, reports)
    monitor.start()
    monitor.stop()
    clock.advance(100)
    assert reports == []


def counted(reports: Reports, expected: int) -> bool:
    return len(reports) == expected


def interval(
    clock: MovableClock,
    probe: Callable[[], Awaitable[Result]],
    reports: Reports,
    slots: int = 4,
) -> IntervalMonitor:
    return IntervalMonitor(
        probe,
        10,
        thresholds=Thresholds(),
        status=lambda: reports[-1][0] if reports else "critical",
        clock=clock,
        rng=random.Random(1),
        slots=asyncio.Semaphore(slots),
        report=lambda status, output: reports.append((status, output)),
    )


async def test_interval_monitor_probes_each_interval() -> None:
    clock = movable()
    reports: Reports = []

    async def probe() -> Result:
        return Result("passing", "ok")

    monitor = interval(clock, probe, reports)
    monitor.start()
    for expected in (1, 2, 3):
        clock.advance(10)
        await eventually(partial(counted, reports, expected))
    monitor.stop()
    assert reports[0] == ("passing", "ok")


async def test_interval_monitor_does_not_pile_up_slow_probes() -> None:
    clock = movable()
    reports: Reports = []
    running: list[int] = []

    async def probe() -> Result:
        running.append(1)
        await asyncio.get_running_loop().create_future()
        raise AssertionError("never")

    monitor = interval(clock, probe, reports)
    monitor.start()
    clock.advance(10)
    await eventually(lambda: running)
    clock.advance(100)
    await asyncio.sleep(0)
    monitor.stop()
    assert running == [1]


async def test_probe_that_fails_is_critical_and_probed_again() -> None:
    clock = movable()
    reports: Reports = []

    async def probe() -> Result:
        if not reports:
            raise KeyError("nobody thought of this")
        return Result("passing", "ok")

    monitor = interval(clock, probe, reports)
    monitor.start()
    for expected in (1, 2):
        clock.advance(10)
        await eventually(partial(counted, reports, expected))
    monitor.stop()
    assert reports == [
        ("critical", "KeyError: 'nobody thought of this'"),
        ("passing", "ok"),
    ]
