"""The parser follows the WHATWG text, however the bytes are cut."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.harness.sse_vectors import VECTORS, Vector

from callboard.events.encoder import block, comment
from callboard.events.parser import Event, EventTooLong, Parser


def parsed(stream: bytes, cuts: list[int] | None = None) -> list[Event]:
    """The events of a stream that is cut at these places."""
    parser = Parser()
    events = []
    begin = 0
    for end in (*sorted(cut % (len(stream) + 1) for cut in cuts or ()), len(stream)):
        events += parser.feed(stream[begin:end])
        begin = end
    return events


def seen(events: list[Event]) -> list[tuple[str, str, str]]:
    return [(event.type, event.data, event.id) for event in events]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.rule)
def test_a_rule_of_the_whatwg_text_holds(vector: Vector) -> None:
    assert seen(parsed(vector.stream)) == list(vector.events)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.rule)
def test_a_rule_holds_byte_by_byte_and_at_every_single_cut(vector: Vector) -> None:
    cuts = [list(range(len(vector.stream))), *([cut] for cut in range(len(vector.stream)))]
    for places in cuts:
        assert seen(parsed(vector.stream, places)) == list(vector.events)


LINE = st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]), max_size=12)
EVENTS = st.lists(
    st.tuples(
        st.text(max_size=40),  # data
        st.none() | LINE,  # id
        LINE,  # type
        st.none() | st.integers(0, 10**12),  # retry
        st.booleans(),  # a comment before it
    ),
    max_size=8,
)


@given(EVENTS, st.lists(st.integers(0, 2000), max_size=20))
def test_what_was_encoded_is_parsed_at_any_chunking(
    sent: list[tuple[str, str | None, str, int | None, bool]], cuts: list[int]
) -> None:
    stream, expected, last = b"", [], ""
    for data, id, type, retry_ms, commented in sent:
        if commented:
            stream += comment("alive")
        stream += block(data.encode(), id=id, type=type, retry_ms=retry_ms)
        last = last if id is None else id
        lines = re.sub("\r\n|\r", "\n", data)
        expected.append(Event(lines, type or "message", last, retry_ms, id is not None))
    assert parsed(stream, cuts) == expected


FRAGMENTS = st.sampled_from(
    b"data|id|event|retry|x|12|:|: | |\0|\xef\xbb\xbf|\xe2\x80\xa8|\xff|\xc3|\xb6|\x85".split(b"|")
) | st.sampled_from([b"\n", b"\r", b"\r\n", b"\n\n", b"\x0b"])


@given(st.lists(FRAGMENTS, max_size=60).map(b"".join), st.lists(st.integers(0, 300), max_size=20))
def test_any_bytes_give_the_events_of_the_text_read_slowly(stream: bytes, cuts: list[int]) -> None:
    assert seen(parsed(stream, cuts)) == list(slowly(stream))


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=20))
def test_random_bytes_give_the_events_of_the_text_read_slowly(
    stream: bytes, cuts: list[int]
) -> None:
    assert seen(parsed(stream, cuts)) == list(slowly(stream))


def slowly(stream: bytes) -> Iterator[tuple[str, str, str]]:
    """The rules once more, word by word, over the whole text."""
    text = stream.decode("utf-8", "replace").removeprefix("\ufeff")
    *lines, _unended = re.split("\r\n|\n|\r", text)
    data, type, last = "", "", ""
    for line in lines:
        if not line:
            if data:
                yield type or "message", data.removesuffix("\n"), last
            data, type = "", ""
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            data += value + "\n"
        elif field == "event":
            type = value
        elif field == "id" and "\0" not in value:
            last = value


def test_an_id_counts_once_its_block_has_ended() -> None:
    parser = Parser("before")
    assert parser.last_event_id == "before"
    parser.feed(b"id: 7\n")
    assert parser.last_event_id == "before"
    assert parser.feed(b"\n") == []
    assert parser.last_event_id == "7"


def test_an_event_without_an_id_of_its_own_has_that_of_the_one_before() -> None:
    first, second = Parser("3").feed(b"data: a\n\nid: 4\ndata: b\n\n")
    assert (first.id, first.id_given) == ("3", False)
    assert (second.id, second.id_given) == ("4", True)


@pytest.mark.parametrize("value", [b"-1", b"1.5", b" 3", b"1e3", b"\xd9\xa3", b"0x10", b"", b"4 "])
def test_a_reconnection_time_is_digits_and_nothing_else(value: bytes) -> None:
    parser = Parser()
    parser.feed(b"retry: 250\n\nretry: " + value + b"\n\n")
    assert parser.retry_ms == 250


def test_a_reconnection_time_of_endless_digits_is_a_long_time_and_no_error() -> None:
    parser = Parser()
    parser.feed(b"retry: " + b"9" * 10_000 + b"\n\n")
    assert parser.retry_ms == (1 << 63) - 1
    parser.feed(b"retry: " + b"0" * 10_000 + b"7\n\n")
    assert parser.retry_ms == 7


@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_an_event_over_the_limit_is_refused_at_any_chunking(size: int) -> None:
    parser = Parser(event_bytes_max=1000)
    stream = b"data: x\n\n" + b"data: 123456789\n" * 100
    events = []
    with pytest.raises(EventTooLong, match="longer than 1000 bytes"):
        for begin in range(0, len(stream) + 10 * size, size):
            events += parser.feed(stream[begin : begin + size])
    assert [event.data for event in events] == ["x"]
    with pytest.raises(EventTooLong):
        parser.feed(b"data: y\n\n")


def test_a_line_that_never_ends_is_refused() -> None:
    parser = Parser(event_bytes_max=1000)
    with pytest.raises(EventTooLong):
        for _ in range(1001):
            parser.feed(b":")


def test_many_events_within_the_limit_are_no_matter() -> None:
    parser = Parser(event_bytes_max=100)
    assert sum(len(parser.feed(b"data: 0123456789\n\n")) for _ in range(1000)) == 1000


def test_a_long_line_in_small_pieces_costs_no_more_than_its_length() -> None:
    def cost(pieces: int) -> float:
        best = float("inf")
        for _ in range(3):
            parser, began = Parser(), time.process_time()
            parser.feed(b"data: ")
            for _ in range(pieces):
                parser.feed(b"0123456789" * 10)
            assert len(parser.feed(b"\n\n")) == 1
            best = min(best, time.process_time() - began)
        return best

    assert cost(40_000) < 16 * max(cost(10_000), 0.001)


def test_events_are_parsed_faster_than_a_hub_replays_them() -> None:
    rng = random.Random(5)
    stream = b"".join(block(b"x" * 150, id=f"#e.{number}") for number in range(20_000))
    parser, events, began, place = Parser(), 0, time.process_time(), 0
    while place < len(stream):
        end = place + rng.randrange(1, 60_000)
        events += len(parser.feed(stream[place:end]))
        place = end
    assert events == 20_000
    assert events / (time.process_time() - began) > 20_000
