"""What a long poll's cursor says of leader and members."""

from __future__ import annotations

from callboard.hub.catalog.naming import LEADER, MEMBERS
from callboard.hub.catalog.values import event_data
from callboard.hub.cursor import CatalogPlace, Cursor, Place, parse
from callboard.hub.event import CatalogEvent
from callboard.hub.subscribers.beside import UNKNOWN, digests, still_known


def event(topic: str, value: bytes, index: int = 7) -> CatalogEvent:
    data = event_data(topic, index, [value])
    return CatalogEvent(topic, "e", index, 0, last=False, data=data)


def test_a_value_is_known_at_whatever_index_another_hub_heard_of_it() -> None:
    told = digests({LEADER: event(LEADER, b'{"Leader":"a"}').data})
    later = event(LEADER, b'{"Leader":"a"}', index=9)
    assert still_known(told, [later]) == {LEADER: later.data}
    assert not still_known(told, [event(LEADER, b'{"Leader":"b"}')])


def test_each_topic_is_known_by_itself() -> None:
    leader, members = event(LEADER, b'{"Leader":"a"}'), event(MEMBERS, b"[]")
    both = digests({LEADER: leader.data, MEMBERS: members.data})
    other = event(LEADER, b'{"Leader":"b"}')
    assert still_known(both, [other, members]) == {MEMBERS: members.data}
    alone = digests({MEMBERS: members.data})
    assert alone == UNKNOWN + both[len(UNKNOWN) :]
    assert still_known(alone, [leader, members]) == {MEMBERS: members.data}


def test_who_was_told_nothing_knows_nothing() -> None:
    assert digests({}) == ""
    assert not still_known("", [event(LEADER, b"{}"), event(MEMBERS, b"[]")])


def test_the_longest_cursor_of_a_long_poll_is_read_back_and_needs_no_preflight() -> None:
    most = 10**19 - 1
    cursor = Cursor(
        Place("a" * 12, most), CatalogPlace("b" * 32, most, most), beside="0123456789abcdef"
    )
    assert parse(str(cursor)) == cursor
    assert len(str(cursor)) < 128
    for text in ("#~b.1~0123456789abcdef", "#a.1~b.1.2~0123456789abcdef"):
        assert str(parse(text)) == text


def test_half_a_digest_is_no_part_of_a_cursor() -> None:
    assert parse("#~b.1~0123") == Cursor(own_id="#~b.1~0123")
