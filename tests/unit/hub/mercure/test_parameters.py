"""What a subscriber asks for."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.hub.cursor import Cursor, Place
from callboard.hub.event import Format
from callboard.hub.matching.refusal import Refused
from callboard.hub.mercure import forms, parameters
from callboard.hub.mercure.parameters import Asked, Generation

NOW_MS = 1_790_000_000_000
Pairs = list[tuple[str, str]]


def read(*pairs: tuple[str, str], headers: dict[str, str] | None = None) -> Asked:
    return parameters.read(forms.decode(urlencode(pairs).encode()), headers or {}, NOW_MS)


def refused(*pairs: tuple[str, str]) -> str:
    with pytest.raises(Refused) as caught:
        read(*pairs)
    assert caught.value.status == 400
    return caught.value.text


def test_topic_is_of_drafts_up_to_07_and_match_of_08() -> None:
    assert read(("topic", "/a")).generation is Generation.LEGACY
    assert read(("match", "/a")).generation is Generation.CURRENT
    assert read(("match_urlpattern", "/a/:b")).generation is Generation.CURRENT


def test_matchers_are_kept_in_their_order_each_once() -> None:
    asked = read(("topic", "/b"), ("topic", "/a"), ("topic", "/b"))
    assert [matcher.text for matcher in asked.matchers] == ["/b", "/a"]


def test_a_request_of_both_generations_is_refused() -> None:
    assert "draft" in refused(("topic", "/a"), ("match", "/a"))


def test_a_request_without_topics_is_refused() -> None:
    refused(("Topic", "/a"))


LAST_EVENT_ID_NAMES = ("last_event_id", "lastEventID", "Last-Event-ID")


@pytest.mark.parametrize("name", LAST_EVENT_ID_NAMES)
@pytest.mark.parametrize("text", ["#e1.5", "e1.5"])
def test_a_cursor_comes_by_every_name_with_and_without_its_hash(name: str, text: str) -> None:
    asked = read(("topic", "/a"), (name, text))
    assert asked.cursor is not None
    assert asked.cursor.place == Place("e1", 5)
    assert asked.last_event_id == text


def test_the_header_wins_over_the_parameter() -> None:
    headers = {"last-event-id": "#e1.7"}
    asked = read(("topic", "/a"), ("lastEventID", "#e1.5"), headers=headers)
    assert asked.cursor == Cursor(Place("e1", 7))


def test_earliest_is_a_cursor() -> None:
    assert read(("match", "/a"), ("last_event_id", "earliest")).cursor == Cursor(earliest=True)


def test_an_empty_cursor_was_sent_all_the_same() -> None:
    asked = read(("match", "/a"), ("last_event_id", ""))
    assert (asked.cursor, asked.last_event_id) == (None, "")
    assert read(("match", "/a")).last_event_id is None


def test_a_header_in_utf_8_is_read_as_such() -> None:
    headers = {"last-event-id": "grün".encode().decode("latin-1")}
    assert read(("match", "/a"), headers=headers).last_event_id == "grün"
    assert read(("match", "/a"), headers={"last-event-id": "\xff"}).last_event_id == "\xff"


def test_a_stream_begins_at_a_time_or_a_number_of_updates_ago() -> None:
    assert read(("match", "/a"), ("since", "10m")).since_ms == NOW_MS - 600_000
    assert read(("match", "/a"), ("last", "20")).last == 20


@pytest.mark.parametrize(
    "pair",
    [
        ("since", "soon"),
        ("last", "-1"),
        ("last", "many"),
        ("last", "\u0663"),
        ("last", "100001"),
        ("last", "9" * 5000),
        ("beat", "0"),
        ("beat", "nan"),
        ("beat", "301"),
        ("beat", "often"),
        ("poll", "-1"),
        ("poll", "101"),
        ("format", "xml"),
    ],
)
def test_a_parameter_out_of_its_bounds_is_refused_by_name(pair: tuple[str, str]) -> None:
    assert pair[0] in refused(("match", "/a"), pair)


def test_a_parameter_that_is_given_twice_is_refused() -> None:
    assert "more than once" in refused(("match", "/a"), ("beat", "10"), ("beat", "20"))


def test_beats_and_long_polls_are_seconds() -> None:
    asked = read(("match", "/a"), ("beat", "10"), ("poll", "25s"))
    assert (asked.beat_s, asked.poll_s) == (10.0, 25.0)
    assert read(("match", "/a")).poll_s is None


@pytest.mark.parametrize(
    ("accept", "query", "format"),
    [
        ("", (), Format.SSE),
        ("*/*", (), Format.SSE),
        ("application/x-ndjson", (), Format.NDJSON),
        ("application/x-ndjson, text/event-stream", (), Format.SSE),
        ("text/event-stream", (("format", "ndjson"),), Format.NDJSON),
        ("application/x-ndjson", (("format", "sse"),), Format.SSE),
    ],
)
def test_lines_of_json_are_asked_for_by_accept_or_by_name(
    accept: str, query: tuple[tuple[str, str], ...], format: Format
) -> None:
    assert read(("match", "/a"), *query, headers={"accept": accept}).format is format


def test_a_topic_in_a_path_needs_no_matcher() -> None:
    asked = parameters.read_topic("/builds", {"last": ["3"]}, {}, NOW_MS)
    assert [matcher.text for matcher in asked.matchers] == ["/builds"]
    assert asked.last == 3


MATCHERS = ("topic", "match", "match_exact", "match_urlpattern", "matching")
OTHERS = ("since", "last", "beat", "poll", "format", "other")
NAMES = st.sampled_from((*MATCHERS, *LAST_EVENT_ID_NAMES, *OTHERS))


@given(st.lists(st.tuples(NAMES, st.text(max_size=30)), max_size=8))
def test_any_query_is_a_stream_or_is_refused_clearly(pairs: Pairs) -> None:
    try:
        asked = read(*pairs)
    except Refused as problem:
        assert problem.status == 400
        assert "\n" not in problem.text
    else:
        assert asked.matchers
