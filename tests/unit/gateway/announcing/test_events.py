"""Which media events are told, and when."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from callboard.gateway.announcing.events import (
    BITRATE_INTERVAL_S,
    KEYFRAME_INTERVAL_S,
    VIEWERS_INTERVAL_S,
    MediaEvents,
    Reading,
)

WALL = 1_795_000_000.25
STREAM = Reading("cam", "A camera", online=False, viewers=0, keyframes=0, octets=0, reason="silent")
LIVE = replace(STREAM, online=True, reason="")


def told(events: MediaEvents, reading: Reading | None, now: float) -> list[dict[str, Any]]:
    """What is told of a reading, without what all events have."""
    made = events.take([reading] if reading is not None else [], now, WALL)
    found = [json.loads(event.data) for event in made]
    for each in found:
        assert each.pop("stream") == "cam"
        each.pop("at")
    return found


def test_a_stream_is_told_up_and_down_once() -> None:
    events = MediaEvents()
    assert told(events, STREAM, 0.0) == []
    assert told(events, LIVE, 1.0) == [{"event": "up", "title": "A camera"}]
    assert told(events, LIVE, 2.0) == []
    assert told(events, STREAM, 3.0) == [{"event": "down", "reason": "silent"}]
    assert told(events, STREAM, 4.0) == []


def test_a_stream_that_is_off_the_list_is_down() -> None:
    events = MediaEvents()
    told(events, LIVE, 0.0)
    assert told(events, None, 1.0) == [{"event": "down", "reason": "the stream has gone"}]
    assert told(events, None, 2.0) == []
    assert told(events, LIVE, 3.0)[0]["event"] == "up"


def test_viewers_are_told_at_once_and_then_once_in_a_while() -> None:
    events = MediaEvents()
    assert told(events, replace(STREAM, viewers=1), 0.0) == [{"event": "viewers", "viewers": 1}]
    for tick in range(1, 10):
        reading = replace(STREAM, viewers=1 + tick)
        assert told(events, reading, tick * VIEWERS_INTERVAL_S / 10) == []
    reading = replace(STREAM, viewers=10)
    assert told(events, reading, VIEWERS_INTERVAL_S) == [{"event": "viewers", "viewers": 10}]


def test_viewers_who_came_and_left_meanwhile_are_not_told() -> None:
    events = MediaEvents()
    told(events, replace(STREAM, viewers=1), 0.0)
    told(events, replace(STREAM, viewers=5), 0.5)
    assert told(events, replace(STREAM, viewers=1), 2.0) == []


def test_keyframes_are_told_seldom_and_counted_since_the_stream_is_up() -> None:
    events = MediaEvents()
    told(events, replace(LIVE, keyframes=7), 0.0)
    assert told(events, replace(LIVE, keyframes=8), 0.1) == [{"event": "keyframe", "keyframes": 1}]
    assert told(events, replace(LIVE, keyframes=20), KEYFRAME_INTERVAL_S) == []
    later = told(events, replace(LIVE, keyframes=21), KEYFRAME_INTERVAL_S + 0.1)
    assert later == [{"event": "keyframe", "keyframes": 14}]


def test_another_source_that_counts_from_nothing_goes_on() -> None:
    events = MediaEvents()
    told(events, replace(LIVE, keyframes=100, octets=10_000), 0.0)
    assert told(events, replace(LIVE, keyframes=1), 6.0) == [{"event": "keyframe", "keyframes": 1}]
    (rate,) = told(events, replace(LIVE, keyframes=1, octets=500), BITRATE_INTERVAL_S)
    assert rate["bits_per_second"] >= 0


def test_the_rate_is_told_every_ten_seconds_while_a_stream_is_up() -> None:
    events = MediaEvents()
    told(events, replace(LIVE, octets=1000), 100.0)
    assert told(events, replace(LIVE, octets=2000), 109.0) == []
    later = told(events, replace(LIVE, octets=1_251_000), 110.0)
    assert later == [{"event": "bitrate", "bits_per_second": 1_000_000}]
    assert told(events, replace(STREAM, octets=1_251_000), 130.0)[0]["event"] == "down"
    assert told(events, replace(STREAM, octets=1_251_000), 140.0) == []


def test_an_event_has_a_topic_of_its_stream_and_the_time() -> None:
    (event,) = MediaEvents().take([replace(LIVE, name="a~b")], 0.0, WALL)
    assert event.topic == "/media/streams/a~b"
    data = json.loads(event.data)
    assert (data["stream"], data["at"]) == ("a~b", "2026-11-18T11:06:40.250Z")


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(0, 3), st.booleans()), max_size=200))
def test_the_last_number_of_viewers_is_always_told_in_the_end(
    steps: list[tuple[float, int, bool]],
) -> None:
    events, now, last_told, at = MediaEvents(), 0.0, 0, float("-inf")
    reading = STREAM
    for gap_s, viewers, online in steps:
        now += gap_s
        reading = replace(STREAM, viewers=viewers, online=online)
        for event in told(events, reading, now):
            if event["event"] == "viewers":
                assert now >= at + VIEWERS_INTERVAL_S
                last_told, at = event["viewers"], now
    for event in told(events, reading, now + VIEWERS_INTERVAL_S):
        last_told = event.get("viewers", last_told)
    assert last_told == reading.viewers
