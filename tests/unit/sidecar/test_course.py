"""When a stream's pipeline runs."""

from __future__ import annotations

from callboard.sidecar.course import (
    BACK_OFF_MAX_S,
    FRAMELESS_S,
    LINGER_S,
    STALLED_S,
    STEADY_S,
    Action,
    Course,
)


def test_a_stream_that_is_always_on_starts_without_a_lease() -> None:
    assert Course(on_demand=False).action(0, 100.0) is Action.START


def test_a_stream_on_demand_starts_with_the_first_lease() -> None:
    course = Course(on_demand=True)
    assert course.action(0, 100.0) is Action.WAIT
    assert course.action(1, 101.0) is Action.START
    course.started(101.0)
    course.frame(101.5)
    assert course.action(1, 102.0) is Action.WAIT


def test_a_stream_on_demand_stops_a_while_after_the_last_lease() -> None:
    course = Course(on_demand=True)
    course.action(1, 100.0)
    course.started(100.0)
    course.frame(100.1 + LINGER_S / 2)
    assert course.action(0, 99.9 + LINGER_S) is Action.WAIT
    assert course.action(0, 100.0 + LINGER_S) is Action.STOP
    course.stopped()
    assert course.action(0, 101.0 + LINGER_S) is Action.WAIT
    assert course.action(1, 102.0 + LINGER_S) is Action.START


def test_a_lease_in_time_keeps_it_running() -> None:
    course = Course(on_demand=True)
    course.action(1, 100.0)
    course.started(100.0)
    course.action(1, 110.0)
    course.frame(110.0 + LINGER_S - 1)
    assert course.action(0, 110.0 + LINGER_S - 1) is Action.WAIT


def test_a_broken_pipeline_is_started_again_with_a_back_off() -> None:
    course, now, waited = Course(on_demand=False), 100.0, []
    for _ in range(7):
        course.failed("broken", now)
        begin = now
        while course.action(0, now) is Action.WAIT:
            now += 0.25
        waited.append(now - begin)
        course.started(now)
    assert waited == [0.5, 1.0, 2.0, 4.0, 8.0, BACK_OFF_MAX_S, BACK_OFF_MAX_S]
    assert course.failures == 7


def test_a_pipeline_that_ran_well_begins_with_the_shortest_wait() -> None:
    course = Course(on_demand=False)
    for _ in range(5):
        course.failed("broken", 0.0)
    course.started(20.0)
    course.frame(20.1)
    course.failed("broken", 20.0 + STEADY_S)
    assert course.action(0, 20.4 + STEADY_S) is Action.WAIT
    assert course.action(0, 20.5 + STEADY_S) is Action.START


def test_a_pipeline_without_frames_is_started_anew() -> None:
    course = Course(on_demand=False)
    course.action(0, 0.0)
    course.started(0.0)
    course.frame(5.0)
    assert course.action(0, 4.9 + STALLED_S) is Action.WAIT
    assert course.action(0, 5.0 + STALLED_S) is Action.RESTART


def test_it_is_ready_until_frames_are_missing() -> None:
    course = Course(on_demand=False)
    course.action(0, 100.0)
    course.started(100.0)
    assert course.problem(99.9 + FRAMELESS_S) is None
    assert course.problem(100.0 + FRAMELESS_S) == "no frame for 3 s"
    course.frame(104.0)
    assert course.problem(105.0) is None
    assert course.problem(108.0) == "no frame for 4 s"


def test_why_it_failed_is_told_until_a_frame_comes() -> None:
    course = Course(on_demand=False)
    course.action(0, 0.0)
    course.failed("no such device", 1.0)
    assert course.problem(4.0) == "no frame for 4 s: no such device"
    course.started(5.0)
    course.frame(5.5)
    assert course.problem(5.6) is None
    assert course.reason == ""


def test_a_stream_that_nobody_wants_is_ready() -> None:
    course = Course(on_demand=True)
    course.action(1, 0.0)
    course.started(0.0)
    course.action(0, LINGER_S)
    course.stopped()
    assert course.problem(1000.0) is None


def test_one_track_that_comes_is_enough_to_go_on() -> None:
    course = Course(on_demand=False)
    course.action(0, 0.0)
    course.started(0.0)
    course.frame(5.0 + STALLED_S, {"video": 5.0 + STALLED_S, "audio": 0.0})
    assert course.action(0, 5.1 + STALLED_S) is Action.WAIT


def test_a_track_that_is_missed_beside_another_is_told() -> None:
    course = Course(on_demand=False)
    course.action(0, 100.0)
    course.started(100.0)
    course.frame(102.9, {"video": 102.9, "audio": 0.0})
    assert course.problem(102.9) is None
    course.frame(103.9, {"video": 103.9, "audio": 0.0})
    assert course.problem(104.0) == "no frame of track audio yet"
    course.frame(105.0, {"video": 105.0, "audio": 104.5})
    assert course.problem(105.1) is None
    course.frame(108.9, {"video": 108.9, "audio": 104.5})
    assert course.problem(109.0) == "no frame of track audio for 4 s"
    assert course.missing(109.0) == ("audio",)


def test_nothing_is_missed_of_a_stream_that_rests() -> None:
    course = Course(on_demand=True)
    course.action(1, 0.0)
    course.started(0.0)
    course.frame(5.0, {"video": 5.0, "audio": 0.0})
    course.action(0, LINGER_S)
    course.stopped()
    assert course.problem(LINGER_S) is None
    assert course.missing(LINGER_S) == ()
