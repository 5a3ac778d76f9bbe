"""What a subscription asks, and how long it waits: without a socket, with times that are told."""

from __future__ import annotations

import json
import random
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.events.course import (
    BACKOFF_MAX_S,
    CONNECT_S,
    HELLO_S,
    POLL_EXTRA_S,
    POLL_S,
    QUIET_S,
    STREAM_AGAIN_S,
    Course,
    Gap,
    Wishes,
)
from callboard.events.encoder import block, comment
from callboard.events.errors import NotAStream, Refused, Unreachable
from callboard.events.parser import Event
from callboard.events.targets import target

SSE = {"content-type": "text/event-stream; charset=utf-8"}


def course(renews: bool = False, **wishes: Any) -> Course:
    return Course(target("builds", None), Wishes(**wishes), random.Random(7), renews=renews)


def hub(type: str, id: str | None = None, **fields: object) -> bytes:
    return block(json.dumps(fields).encode(), id=id, type=f"hub.{type}")


def asked(under_test: Course, now: float = 0.0, token: str = "") -> dict[str, str]:
    """Begin a connection; the query and the headers of its request."""
    turn = under_test.turn(now, token)
    under_test.sent(now)
    return {**dict(parse_qsl(urlsplit(turn.url).query)), **turn.headers}


def opened(under_test: Course, *chunks: bytes, now: float = 0.0) -> list[Event]:
    asked(under_test, now)
    assert under_test.opened(200, SSE)
    return [event for chunk in chunks for event in under_test.received(chunk, now)]


def test_the_first_request_asks_for_signs_of_life_and_how_far_back() -> None:
    sent = asked(course(since="10m", last=3, beat_s=7), token="abc")
    assert (sent["since"], sent["last"], sent["beat"]) == ("10m", "3", "7")
    assert sent["Accept"] == "text/event-stream"
    assert sent["Authorization"] == "Bearer abc"
    assert "Last-Event-ID" not in sent


def test_a_cursor_stands_for_how_far_back() -> None:
    sent = asked(course(since="10m", last_event_id="#a.5"))
    assert sent["Last-Event-ID"] == "#a.5"
    assert "since" not in sent


def test_what_began_is_not_begun_again_further_back() -> None:
    under_test = course(since="10m")
    opened(under_test, b"data: x\n\n")
    under_test.lost(0.0)
    assert "since" not in asked(under_test)


@pytest.mark.parametrize("id", ["a\x01b", " a", "a\u2028b"])
def test_an_id_that_no_header_carries_travels_in_the_query(id: str) -> None:
    sent = asked(course(last_event_id=id))
    assert sent["lastEventID"] == id
    assert "Last-Event-ID" not in sent


def test_it_resumes_after_the_last_block_that_ended() -> None:
    under_test = course()
    opened(under_test, hub("hello", "#a.0"), b"id: #a.1\ndata: x\n\nid: #a.2\ndata: y\n")
    assert asked(under_test)["Last-Event-ID"] == "#a.1"


def test_a_greeting_and_beats_move_the_cursor_and_are_not_shown() -> None:
    under_test = course()
    assert opened(under_test, hub("hello", "#a.4"), hub("beat", "#a.9"), hub("state", "#a.9")) == []
    assert under_test.last_event_id == "#a.9"


def test_the_head_tells_where_a_quiet_stream_begins() -> None:
    under_test = course()
    asked(under_test)
    under_test.opened(200, {**SSE, "last-event-id": "#a.7"})
    assert asked(under_test)["Last-Event-ID"] == "#a.7"


def test_repeats_after_a_resume_are_dropped() -> None:
    under_test = course()
    first = opened(under_test, block(b"x", id="#a.1"), block(b"y", id="#a.2"))
    second = opened(under_test, block(b"y", id="#a.2"), block(b"z", id="#a.3"))
    assert [event.data for event in (*first, *second)] == ["x", "y", "z"]


def test_repeats_by_ids_of_the_publishers_own_are_dropped() -> None:
    under_test = course()
    first = opened(under_test, block(b"x", id="one"), block(b"y", id="two"))
    second = opened(under_test, block(b"y", id="two"), block(b"z", id="three"))
    assert [event.data for event in (*first, *second)] == ["x", "y", "z"]


def test_an_event_without_an_id_is_never_a_repeat() -> None:
    under_test = course()
    opened(under_test, block(b"x", id="#a.1"))
    assert [event.data for event in opened(under_test, block(b"v"), block(b"w"))] == ["v", "w"]


def test_a_gap_is_shown() -> None:
    under_test = course()
    fields = {"requested": "#a.1", "oldest": "#a.5", "newest": "#a.9", "lost": 4}
    (gap,) = opened(under_test, hub("hello", "#a.1"), hub("gap", "#a.5", **fields))
    assert isinstance(gap, Gap)
    assert (gap.requested, gap.oldest, gap.newest, gap.lost) == ("#a.1", "#a.5", "#a.9", 4)
    assert (gap.type, json.loads(gap.data), gap.id) == ("hub.gap", fields, "#a.5")
    assert under_test.last_event_id == "#a.5"


def test_after_a_gap_values_of_the_catalog_come_again() -> None:
    under_test = course(last_event_id="#~c.7")
    told = opened(under_test, hub("hello"), hub("gap"), block(b"value", id="#~c.7"))
    assert [event.data for event in told] == ["{}", "value"]


def test_a_gap_is_something_to_show_for_a_connection() -> None:
    under_test = course(beat_s=0)
    opened(under_test, hub("gap"))
    under_test.lost(0.0)
    assert under_test.failures == 0


@pytest.mark.parametrize("data", [b"no json", b"[1]", b'{"lost":"many"}', b"[" * 5000, b"{}"])
def test_a_gap_that_makes_no_sense_is_shown_too(data: bytes) -> None:
    (gap,) = opened(course(), hub("hello"), block(data, type="hub.gap"))
    assert isinstance(gap, Gap)
    assert gap.lost is None


def test_how_long_it_waits() -> None:
    under_test = course(beat_s=4)
    under_test.turn(100.0)
    assert under_test.patience_s(100.0) == CONNECT_S
    under_test.sent(101.0)
    assert under_test.patience_s(101.0) == HELLO_S
    assert under_test.patience_s(102.0) == HELLO_S - 1
    under_test.opened(200, SSE)
    assert under_test.patience_s(102.0) == HELLO_S - 1
    under_test.received(hub("hello"), 0.0)
    assert under_test.patience_s(500.0) == 10.0  # two and a half beats


def test_a_stream_without_beats_is_waited_for_longer() -> None:
    under_test = course(beat_s=0)
    assert "beat" not in asked(under_test)
    assert under_test.patience_s(0.0) == QUIET_S


def test_without_a_greeting_in_time_it_polls_with_the_same_cursor() -> None:
    under_test = course(last_event_id="#a.3")
    asked(under_test, 10.0)
    assert under_test.lost(13.0, timed_out=True) == 0.0
    sent = asked(under_test, 13.0)
    assert (sent["poll"], sent["Last-Event-ID"]) == ("25", "#a.3")
    assert "beat" not in sent
    assert under_test.patience_s(13.0) == POLL_S + POLL_EXTRA_S


def test_what_came_while_the_stream_was_held_back_is_polled_for() -> None:
    under_test = course()
    asked(under_test, 10.0)
    under_test.lost(13.25, timed_out=True)
    assert asked(under_test, 13.25)["since"] == "4250ms"  # and SINCE_EXTRA_S
    under_test.opened(200, SSE)
    under_test.received(block(None, id="#a.1"), 0.0)
    under_test.lost(20.0)
    assert "since" not in asked(under_test, 20.0)
    wished = course(last=2)
    asked(wished)
    wished.lost(3.0, timed_out=True)
    assert "since" not in asked(wished, 3.0)


def test_what_came_while_the_hub_did_not_answer_is_asked_for() -> None:
    under_test = course()
    assert "since" not in asked(under_test, 10.0)
    under_test.opened(503, {})
    under_test.lost(10.0)
    assert asked(under_test, 12.5)["since"] == "3500ms"
    under_test.opened(200, {**SSE, "last-event-id": "#a.7"})
    under_test.lost(20.0)
    assert "since" not in asked(under_test, 20.0)


@pytest.mark.parametrize("beat_s", [0, 10])
def test_what_is_no_hub_is_not_asked_how_far_back(beat_s: int) -> None:
    under_test = course(beat_s=beat_s)
    asked(under_test)
    under_test.opened(200, SSE)
    if beat_s:
        under_test.received(comment("hi"), 0.0)
        under_test.lost(3.0, timed_out=True)
    else:
        under_test.lost(3.0)
    assert "since" not in asked(under_test, 4.0)


def held_up(now: float = 0.0) -> Course:
    """A course that polls, since `now`."""
    under_test = course()
    asked(under_test, now)
    under_test.lost(now, timed_out=True)
    return under_test


def test_polls_follow_each_other_at_once() -> None:
    under_test = held_up()
    (event,) = opened(under_test, block(b"x", id="#a.1"), now=5.0)
    assert event.data == "x"
    assert under_test.lost(5.1) == 0.0
    opened(under_test, block(None, id="#a.4"), now=6.0)
    assert under_test.lost(31.0) == 0.0
    assert asked(under_test, 31.0)["Last-Event-ID"] == "#a.4"


def test_a_poll_that_brings_nothing_at_once_is_not_repeated_at_once() -> None:
    under_test = held_up()
    opened(under_test, block(None, id="#a.4"), now=6.0)
    assert under_test.lost(6.1) > 1.0
    asked(under_test, 10.0)
    assert not under_test.opened(204, {})
    assert under_test.lost(10.1) > 1.0
    assert not under_test.finished


def test_streaming_is_tried_again_later_and_ever_more_seldom() -> None:
    under_test = held_up(0.0)
    assert "poll" in asked(under_test, STREAM_AGAIN_S - 1)
    assert "beat" in asked(under_test, STREAM_AGAIN_S)
    under_test.lost(STREAM_AGAIN_S + 3, timed_out=True)
    assert "poll" in asked(under_test, 2 * STREAM_AGAIN_S + 4)
    assert "beat" in asked(under_test, 3 * STREAM_AGAIN_S + 3)


def test_after_a_stream_that_passed_it_polls_as_shortly_as_at_first() -> None:
    under_test = held_up(0.0)
    opened(under_test, hub("hello", "#a.1"), now=100.0)
    under_test.lost(100.0)
    asked(under_test, 110.0)
    under_test.lost(110.0, timed_out=True)
    assert "beat" in asked(under_test, 110.0 + STREAM_AGAIN_S)


def test_a_stream_that_passes_ends_polling() -> None:
    under_test = held_up(0.0)
    opened(under_test, hub("hello", "#a.1"), now=STREAM_AGAIN_S)
    under_test.lost(STREAM_AGAIN_S + 100)
    assert "beat" in asked(under_test, STREAM_AGAIN_S + 101)


@pytest.mark.parametrize("first", [b"data: x\n\n", comment("hi") + b"data: x\n\n"])
def test_what_does_not_greet_is_read_as_any_event_stream(first: bytes) -> None:
    under_test = course()
    opened(under_test, first)
    assert under_test.patience_s(1000.0) == QUIET_S


def test_bytes_without_a_greeting_are_no_reason_to_poll() -> None:
    under_test = course()
    opened(under_test, comment("hi"))
    assert under_test.lost(3.0, timed_out=True) == 0.0
    assert "poll" not in asked(under_test)
    assert under_test.patience_s(0.0) == QUIET_S


def test_the_servers_reconnection_time_is_kept_with_jitter() -> None:
    under_test = course()
    waits = []
    for _ in range(20):
        opened(under_test, b"retry: 2000\n\n", hub("hello"))
        waits.append(under_test.lost(0.0))
    assert all(1.5 <= wait <= 2.5 for wait in waits)
    assert len(set(waits)) == 20


@pytest.mark.parametrize("type", ["hello", "limit"])
def test_the_hubs_reconnection_time_is_kept_of_json_lines_too(type: str) -> None:
    """A stream of lines has no `retry:`; the hub's own events tell it."""
    under_test = course(lines=True)
    asked(under_test)
    under_test.opened(200, {"content-type": "application/x-ndjson"})
    told = {"type": f"hub.{type}", "data": json.dumps({"retry": 12000})}
    under_test.received(json.dumps(told).encode() + b"\n", 0.0)
    assert 9.0 <= under_test.lost(0.0) <= 15.0


@pytest.mark.parametrize("retry", [-1, "5", None, True, 1e308, 10**400])
def test_a_reconnection_time_without_sense_is_not_kept(retry: object) -> None:
    under_test = course()
    opened(under_test, hub("hello", retry=retry))
    assert 0.0 < under_test.lost(0.0) <= 750.0


def test_failures_are_waited_out_ever_longer_up_to_thirty_seconds() -> None:
    under_test = course()
    opened(under_test, b"retry: 1000\n\n", hub("hello"))
    under_test.lost(0.0)
    waits = []
    for _ in range(12):
        under_test.turn(0.0)
        waits.append(under_test.lost(0.0))
    assert waits[0] < 1.5
    assert 20.0 < waits[-1] <= BACKOFF_MAX_S
    assert under_test.failures == 12
    opened(under_test, hub("hello"))
    assert under_test.lost(0.0) < 1.5
    assert under_test.failures == 0


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_kept(status: int) -> None:
    under_test = course()
    asked(under_test)
    assert not under_test.opened(status, {"retry-after": "7"})
    assert 7.0 <= under_test.lost(0.0) <= 7.7


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 410])
def test_a_refusal_is_raised(status: int) -> None:
    under_test = course()
    asked(under_test)
    with pytest.raises(Refused, match=f"{status} .*: no such thing"):
        under_test.opened(status, {}, "no such thing")


def test_a_refusal_has_the_words_of_rfc_6750() -> None:
    under_test = course()
    asked(under_test)
    challenge = 'Bearer realm="hub", error="invalid_token", error_description="it has expired"'
    with pytest.raises(Refused) as caught:
        under_test.opened(401, {"www-authenticate": challenge}, "it has expired\n")
    assert str(caught.value) == "401 Unauthorized: invalid_token: it has expired"
    assert (caught.value.error, caught.value.description) == ("invalid_token", "it has expired")


def test_a_page_instead_of_a_stream_is_raised() -> None:
    under_test = course()
    asked(under_test)
    with pytest.raises(NotAStream, match="text/html, not text/event-stream"):
        under_test.opened(200, {"content-type": "text/html"})


def test_204_ends_a_stream_for_good() -> None:
    under_test = course()
    asked(under_test)
    assert not under_test.opened(204, {})
    assert under_test.finished


def test_a_refused_token_is_renewed_once() -> None:
    under_test = course(renews=True)
    asked(under_test, token="old")
    assert not under_test.opened(401, {})
    assert under_test.lost(0.0) == 0.0
    asked(under_test, token="new")
    with pytest.raises(Refused):
        under_test.opened(401, {})


def said_good_bye(under_test: Course, now: float, token: str, ends_in: object, at: float) -> None:
    """A connection, begun `now` and told `at` that its token ends."""
    asked(under_test, now, token)
    under_test.opened(200, SSE)
    under_test.received(hub("hello", "#a.1") + hub("bye", reason="token", ends_in=ends_in), at)


def test_a_token_that_ends_soon_is_renewed_at_once() -> None:
    under_test = course(renews=True)
    said_good_bye(under_test, 0.0, "first", 30, 0.0)
    assert under_test.hurries(0.0)
    assert under_test.lost(0.0) == 0.0
    assert asked(under_test, token="second")["Last-Event-ID"] == "#a.1"


def test_a_token_that_did_not_change_is_no_reason_to_hurry() -> None:
    under_test = course(renews=True)
    for _ in range(2):
        said_good_bye(under_test, 0.0, "the same", 30, 0.0)
        last = under_test.hurries(3600.0)
        under_test.lost(0.0)
    assert not last


@pytest.mark.parametrize(
    ("ends_in", "first", "last"), [(20, 8.0, 12.0), (1.5, 1.0, 1.0), (0.4, 0.4, 0.4), (0, 0, 0)]
)
def test_a_renewed_token_that_ends_soon_is_used_for_about_half_of_what_is_left(
    ends_in: float, first: float, last: float
) -> None:
    under_test = course(renews=True)
    said_good_bye(under_test, 50.0, "first", 20, 50.0)
    assert under_test.lost(50.0) == 0.0
    said_good_bye(under_test, 50.0, "second", ends_in, 50.0)
    assert under_test.hurries(50.0 + last)
    assert not first or not under_test.hurries(50.0 + first - 0.1)
    assert under_test.patience_s(50.0) <= last
    (event,) = under_test.received(block(b"x", id="#a.2"), 50.0)  # the stream goes on meanwhile
    now = 50.0 + last
    assert under_test.lost(now, timed_out=True) == pytest.approx(max(0.0, 51.0 - now))
    assert asked(under_test, 51.0, "third")["Last-Event-ID"] == event.id


@pytest.mark.parametrize("ends_in", [30, 0, "5", None, True, -1, float("nan"), 10**400])
def test_a_token_that_lasted_is_renewed_at_once_whatever_was_before(ends_in: object) -> None:
    under_test = course(renews=True)
    said_good_bye(under_test, 0.0, "first", 20, 0.0)
    said_good_bye(under_test, 0.0, "second", ends_in, 3600.0)
    assert under_test.hurries(3600.0)
    assert under_test.lost(3600.0) == 0.0


def test_a_stream_that_is_lost_before_its_token_is_renewed_is_waited_for_as_ever() -> None:
    under_test = course(renews=True)
    for token in ("first", "second"):
        said_good_bye(under_test, 0.0, token, 20, 0.0)
    assert under_test.lost(2.0) > 2.0


@pytest.mark.parametrize("reason", ["life", "stop", ""])
def test_a_stream_that_says_good_bye_is_read_to_its_end(reason: str) -> None:
    under_test = course(renews=True)
    opened(under_test, hub("hello"), hub("bye", reason=reason, ends_in=30))
    assert not under_test.hurries(0.0)


def test_a_limit_is_waited_out() -> None:
    under_test = course()
    waits = []
    for _ in range(4):
        opened(under_test, b"retry: 4000\n\n", hub("limit"))
        waits.append(under_test.lost(0.0))
    assert waits[0] >= 3.0
    assert waits[3] > 20.0


def test_a_limit_of_polls_is_waited_out_too() -> None:
    under_test = held_up()
    waits = []
    for _ in range(4):
        opened(under_test, hub("limit", retry=4000), now=5.0)
        waits.append(under_test.lost(5.0))
    assert waits[0] >= 3.0
    assert waits[3] > 20.0


def test_a_token_that_is_dead_already_is_waited_out() -> None:
    under_test = course(renews=True)
    opened(under_test, b"retry: 4000\n\n", hub("bye", reason="token"))
    assert not under_test.hurries(0.0)
    assert under_test.lost(0.0) >= 3.0


def test_no_error_and_no_log_shows_a_token_of_the_url(caplog: pytest.LogCaptureFixture) -> None:
    place = target("https://x/y?authorization=secret", None)
    for patient in (True, False):
        under_test = Course(place, Wishes(), random.Random(7), patient=patient)
        under_test.turn(0.0)
        if patient:
            under_test.lost(0.0, "refused")
        else:
            with pytest.raises(Unreachable, match=r"^https://x/y: refused$"):
                under_test.lost(0.0, "refused")
    (line,) = caplog.records
    assert line.__dict__["url"] == "https://x/y"


@pytest.mark.parametrize("beat_s", [-1, 0.5, float("inf"), float("nan")])
def test_beats_are_at_least_a_second_apart(beat_s: float) -> None:
    with pytest.raises(ValueError, match="beat_s"):
        course(beat_s=beat_s)


@given(st.lists(st.one_of(st.binary(max_size=80), st.builds(block, st.binary(max_size=20)))))
def test_no_bytes_break_a_course(chunks: list[bytes]) -> None:
    under_test = course()
    opened(under_test, *chunks)
    assert under_test.lost(0.0) >= 0.0
