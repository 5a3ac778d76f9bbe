"""Work off the loop: in order, one at a time, told on the loop."""

from __future__ import annotations

import threading

from tests.harness.eventually import eventually

from callboard.agent.consensus.disk_thread import LoopThread


async def test_work_is_done_in_order_and_told_on_the_loop() -> None:
    thread = LoopThread("disk")
    told: list[tuple[int, str]] = []
    for number in range(5):
        thread.submit(
            lambda number=number: number,  # type: ignore[misc]
            lambda result: told.append((result, threading.current_thread().name)),
            lambda problem: None,
        )
    await eventually(lambda: len(told) == 5)
    await thread.end()

    assert told == [(number, threading.current_thread().name) for number in range(5)]


async def test_failed_work_is_told_and_the_thread_lives_on() -> None:
    thread = LoopThread("disk")
    failures: list[Exception] = []
    done: list[str] = []
    thread.submit(lambda: 1 // 0, lambda _: None, failures.append)
    thread.submit(lambda: "next", done.append, failures.append)
    await eventually(lambda: done == ["next"])
    await thread.end()

    assert isinstance(failures[0], ZeroDivisionError)


async def test_end_comes_after_all_that_was_submitted() -> None:
    thread = LoopThread("disk")
    done: list[str] = []
    thread.submit(lambda: "last", done.append, lambda problem: None)
    await thread.end()

    assert done == ["last"]


async def test_thread_without_work_is_never_begun() -> None:
    await LoopThread("idle").end()

    assert "idle" not in [each.name for each in threading.enumerate()]
