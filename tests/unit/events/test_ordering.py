"""Repeats after a resume are known by their ids; nothing new is taken for one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from callboard.events.ordering import REMEMBERED, Seen


def news(seen: Seen, *ids: str) -> list[bool]:
    return [seen.is_news(id) for id in ids]


def test_an_offset_at_or_below_the_one_seen_is_a_repeat() -> None:
    assert news(Seen(), "#a.5", "#a.5", "#a.4", "#a.6", "#a.10", "#a.9") == [
        *(True, False, False, True, True, False)
    ]


def test_another_epoch_is_news_whatever_its_offset() -> None:
    assert news(Seen(), "#a.5", "#b.1", "#b.1") == [True, True, False]


def test_where_an_earlier_subscription_stood_was_seen() -> None:
    assert news(Seen("#a.5"), "#a.5", "#a.6") == [False, True]


def test_a_part_of_an_index_comes_before_the_whole_of_it() -> None:
    assert news(Seen(), "#~c.7.1", "#~c.7.2", "#~c.7", "#~c.7.2", "#~c.8.1") == [
        *(True, True, True, False, True)
    ]


def test_of_two_places_one_that_grew_makes_news() -> None:
    seen = Seen("#a.5~c.7")
    assert news(seen, "#a.5~c.7", "#a.6~c.7", "#a.6~c.8", "#a.6~c.7", "#a.7~c.1") == [
        *(False, True, True, False, True)
    ]


def test_after_a_gap_values_of_the_catalog_are_news_and_old_offsets_are_not() -> None:
    seen = Seen("#a.5~c.7")
    seen.gap()
    assert news(seen, "#~c.7", "#a.5") == [True, False]


def test_an_id_without_order_repeats_at_the_beginning_of_a_connection_only() -> None:
    seen = Seen()
    assert news(seen, "x", "y", "x") == [True, True, True]
    seen.connection()
    assert news(seen, "y", "x", "z", "x") == [False, False, True, True]


def test_an_id_that_only_looks_like_an_offset_has_no_order() -> None:
    assert news(Seen(), "a.5", "a.4", "#a.5x", "#a.4x", "#", "#") == [True] * 6


def test_an_event_without_an_id_is_news() -> None:
    seen = Seen()
    seen.connection()
    assert news(seen, "", "") == [True, True]


def test_ids_without_order_are_remembered_up_to_a_bound() -> None:
    seen = Seen()
    for number in range(REMEMBERED + 1):
        seen.is_news(f"id-{number}")
    assert len(seen._others) == REMEMBERED
    seen.connection()
    assert news(seen, "id-1") == [False]
    assert news(seen, "id-0") == [True]


@given(st.integers(1, 50), st.lists(st.tuples(st.integers(0, 50), st.integers(0, 60)), max_size=8))
def test_whatever_is_repeated_each_offset_is_news_once(
    total: int, connections: list[tuple[int, int]]
) -> None:
    """Each connection begins up to some way before what was seen, and ends anywhere."""
    seen, taken = Seen(), list[int]()
    for back, length in [*connections, (0, total)]:
        seen.connection()
        begin = max(0, len(taken) - back)
        for offset in range(begin + 1, min(total, begin + length) + 1):
            if seen.is_news(f"#e.{offset}"):
                taken.append(offset)
    assert taken == list(range(1, total + 1))


@given(st.text(max_size=40))
def test_any_id_is_taken(id: str) -> None:
    seen = Seen(id)
    seen.connection()
    seen.is_news(id)
    assert seen.is_news("#zz.1") or id.startswith("#zz.")
