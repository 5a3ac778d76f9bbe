"""Streams of JSON lines are read at any chunking, and what is no event is said to be none."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.events.lines import BadLine, LineParser
from callboard.events.parser import Event, EventTooLong
from callboard.hub.event import ndjson

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def parsed(stream: bytes, cuts: list[int]) -> list[Event]:
    parser, events, begin = LineParser(), list[Event](), 0
    for end in (*sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)):
        events += parser.feed(stream[begin:end])
        begin = end
    return events


@given(
    st.lists(st.tuples(TEXT, st.none() | TEXT, TEXT, st.lists(TEXT, max_size=2)), max_size=6),
    st.lists(st.integers(0, 500), max_size=10),
)
def test_what_a_hub_writes_is_read_at_any_chunking(
    sent: list[tuple[str, str | None, str, list[str]]], cuts: list[int]
) -> None:
    stream, expected, last = b"", list[Event](), ""
    for number, (data, id, type, topics) in enumerate(sent):
        stream += ndjson(id, type, data.encode(), topics=tuple(topics), time_ms=number) + b"\n"
        last = last if id is None else id
        expected.append(
            Event(data, type or "message", last, None, id is not None, tuple(topics), number)
        )
    assert parsed(stream, cuts) == expected


def test_a_line_without_an_end_is_no_event() -> None:
    parser = LineParser("before")
    assert parser.feed(b'{"data":"x","id":"1"}') == []
    assert parser.last_event_id == "before"
    assert [event.data for event in parser.feed(b"\n")] == ["x"]
    assert parser.last_event_id == "1"


@pytest.mark.parametrize(
    "line", [b"x", b"[]", b"1", b"{}", b'{"data":1}', b"[" * 10_000, b"\xff", b'{"data":"x"']
)
def test_a_line_that_is_no_event_is_said_so(line: bytes) -> None:
    parser = LineParser()
    (event,) = parser.feed(b'{"data":"before"}\n' + line + b"\n")
    assert event.data == "before"
    for _ in range(2):
        with pytest.raises(BadLine):
            parser.feed(b'{"data":"after"}\n')


def test_fields_of_other_types_are_as_if_they_were_not_there() -> None:
    fields = {"data": "x", "id": 1, "type": None, "topics": ["/a", 2], "time": "now", "retry": -1}
    (event,) = LineParser().feed(json.dumps(fields).encode() + b"\n")
    assert event == Event("x", topics=("/a",))


def test_half_a_surrogate_pair_is_no_text() -> None:
    """It could be sent nowhere again: no cursor, no line of output."""
    fields = {"data": "x", "id": "\ud800", "type": "\udc00", "topics": ["\ud800", "/a"]}
    (event,) = LineParser("before").feed(json.dumps(fields).encode() + b"\n")
    assert event == Event("x", id="before", topics=("/a",))
    with pytest.raises(BadLine):
        LineParser().feed(b'{"data":"\\ud800"}\n')
    (event,) = LineParser().feed(b'{"data":"\\ud83d\\udc0e"}\n')
    assert event.data == "🐎"


@pytest.mark.parametrize("size", [1, 64, 100_000])
def test_a_line_over_the_limit_is_refused(size: int) -> None:
    parser = LineParser(event_bytes_max=1000)
    stream = b'{"data":"' + b"x" * 2000 + b'"}\n'
    with pytest.raises(EventTooLong):
        for begin in range(0, len(stream), size):
            parser.feed(stream[begin : begin + size])


@given(st.lists(st.binary(max_size=60), max_size=6))
def test_no_bytes_break_the_parser(chunks: list[bytes]) -> None:
    parser = LineParser()
    try:
        for chunk in chunks:
            parser.feed(chunk)
    except (BadLine, EventTooLong):
        pass
