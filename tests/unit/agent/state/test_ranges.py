"""Sorted keys with the newest index of any range, against a search through a dict."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from callboard.agent.state import ranges
from callboard.agent.state.ranges import KeyRanges

KEYS = st.text(alphabet="ab/é\U0010ffff", max_size=4)


def filled(items: list[tuple[str, int]]) -> KeyRanges:
    found = KeyRanges()
    for key, index in items:
        found.touch(key, index)
    return found


@given(st.lists(KEYS, max_size=60), KEYS)
def test_a_prefix_gives_its_keys_and_their_newest_index(touched: list[str], prefix: str) -> None:
    found, model = KeyRanges(), {}
    for index, key in enumerate(touched, start=1):
        found.touch(key, index)
        model[key] = index
    below = sorted(key for key in model if key.startswith(prefix))
    assert found.below(prefix) == below
    assert found.newest(prefix) == max((model[key] for key in below), default=0)


def test_many_keys_stand_in_many_blocks() -> None:
    count = 5 * ranges.BLOCK_SIZE
    found = KeyRanges()
    for number in range(count):
        found.touch(f"k/{number * 7919 % count:05}", number + 1)
    assert len(found.below("k/")) == count
    assert found.newest("") == count
    assert found.below("k/0001") == [f"k/{number:05}" for number in range(10, 20)]


def test_keys_are_in_byte_order() -> None:
    found = KeyRanges()
    for key in ("b", "a/é", "a/z", "a", "a/\U0001f600", "Z"):
        found.touch(key, 1)
    assert found.below("") == sorted(found.below(""), key=str.encode)


def test_discarding_keeps_what_is_to_be_kept() -> None:
    found = filled([(f"k{number}", number) for number in range(1000)])
    found.discard(lambda key: key.endswith("7"))
    assert len(found.below("k")) == 100
    assert found.newest("k") == 997
    found.discard(lambda _: False)
    assert found.below("") == []
    assert found.newest("") == 0


def test_touching_below_moves_only_those_named() -> None:
    found = filled([("a/1", 1), ("a/2", 2), ("b", 3)])
    found.touch_below("a/", 9, {"a/1"})
    assert found.newest("a/1") == 9
    assert found.newest("a/2") == 2
    assert found.newest("b") == 3
