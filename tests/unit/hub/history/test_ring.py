"""The newest updates in memory."""

from __future__ import annotations

import random
import sys

from hypothesis import given
from hypothesis import strategies as st

from callboard.hub.event import Publication, Update
from callboard.hub.history.ring import Ring


def update(offset: int, topic: str = "t", size: int = 10) -> Update:
    return Update(offset, "e", offset * 1000, Publication((topic,), b"x" * size))


def offsets(updates: object) -> list[int]:
    return [u.offset for u in updates]  # type: ignore[attr-defined]


def test_what_follows_a_reader_is_one_slice() -> None:
    ring = Ring()
    ring.begin([], 1)
    ring.add([update(n) for n in range(1, 11)])
    assert offsets(ring.after(7, 1 << 20)) == [8, 9, 10]
    assert offsets(ring.after(10, 1 << 20)) == []
    assert offsets(ring.after(12, 1 << 20)) == []


def test_a_slice_has_no_more_bytes_than_asked_for_but_one_update() -> None:
    ring = Ring()
    ring.begin([], 1)
    ring.add([update(n) for n in range(1, 11)])
    size = update(1).size
    assert offsets(ring.after(2, 3 * size)) == [3, 4, 5]
    assert offsets(ring.after(2, 1)) == [3]


def test_a_reader_further_back_than_memory_is_sent_to_the_store() -> None:
    ring = Ring(count_max=3)
    ring.begin([], 1)
    ring.add([update(n) for n in range(1, 11)])
    assert ring.first == 8
    assert ring.after(6, 1 << 20) is None
    assert offsets(ring.after(7, 1 << 20)) == [8, 9, 10]


def test_memory_is_bounded_by_bytes_and_keeps_the_newest() -> None:
    ring = Ring(bytes_max=3 * update(1).size)
    ring.begin([], 1)
    ring.add([update(n) for n in range(1, 11)])
    assert (len(ring), ring.first, ring.bytes) == (3, 8, 3 * update(1).size)
    ring.add([update(11, size=100_000)])
    assert (len(ring), ring.first) == (1, 11)


def test_what_is_not_written_yet_stays_in_memory() -> None:
    ring = Ring(count_max=2)
    ring.begin([], 1)
    ring.add([update(n) for n in range(1, 11)], written=3)
    assert ring.first == 4
    ring.add([update(11)], written=11)
    assert ring.first == 10


def test_a_hole_is_stepped_over() -> None:
    ring = Ring()
    ring.begin([], 1)
    ring.add([update(n, topic="gone" if n in (3, 4) else "t") for n in range(1, 7)])
    ring.forget("gone", 3)
    assert offsets(ring.after(2, 1 << 20)) == [4, 5, 6]
    ring.forget("gone", 6)
    assert offsets(ring.after(2, 1 << 20)) == [5, 6]
    assert offsets(ring.after(3, 1 << 20)) == [5, 6]
    assert ring.first == 1


def test_what_a_store_has_trimmed_is_taken_out_by_prefix() -> None:
    ring = Ring()
    ring.begin([], 1)
    ring.add([update(n, topic="ab"[n % 2], size=n) for n in range(1, 11)])
    ring.forget_trimmed({"": 5, "b": 0})
    assert offsets(ring.after(0, 1 << 20)) == [1, 3, 5, 6, 7, 8, 9, 10]
    ring.forget_trimmed({"": 5, "b": 8})
    assert offsets(ring.after(0, 1 << 20)) == [6, 8, 9, 10]
    assert ring.bytes == sum(update(n, size=n).size for n in (6, 8, 9, 10))
    assert offsets(ring.after(6, update(8, size=8).size)) == [8]
    ring.forget_trimmed({"": 11, "b": 11})
    assert (len(ring), ring.bytes, ring.first) == (0, 0, 1)
    ring.add([update(11, topic="b")])
    assert offsets(ring.after(0, 1 << 20)) == [11]


def test_what_was_trimmed_before_memory_had_it_is_taken_out_too() -> None:
    ring = Ring()
    ring.begin([], 1)
    ring.add([update(1)])
    ring.forget_trimmed({"": 4})
    ring.add([update(n) for n in range(2, 6)])
    ring.forget_trimmed({"": 4})
    assert offsets(ring.after(0, 1 << 20)) == [4, 5]


@given(st.lists(st.integers(0, 3), max_size=40), st.integers(2, 30), st.randoms())
def test_memory_is_what_is_kept_whatever_is_trimmed(
    steps: list[int], count_max: int, rng: random.Random
) -> None:
    ring = Ring(count_max=count_max)
    ring.begin([], 1)
    everything: list[Update] = []
    kept = {"": 1, "a": 1, "ab": 1}
    for step in steps:
        if step:
            names = [rng.choice(["a", "ab", "c"]) for _ in range(step)]
            new = [
                update(len(everything) + n, topic=name, size=rng.randint(0, 99))
                for n, name in enumerate(names, start=1)
            ]
            everything += new
            ring.add(new)
        else:
            prefix = rng.choice(list(kept))
            kept[prefix] = rng.randint(kept[prefix], len(everything) + 1)
            ring.forget_trimmed(kept)
        if not step:
            prefixes = {"a": "a", "ab": "ab", "c": ""}
            there = [
                u for u in everything if u.offset >= max(kept[prefixes[u.topics[0]]], ring.first)
            ]
            assert list(ring.after(ring.first - 1, 1 << 30) or ()) == there
            assert ring.bytes == sum(u.size for u in there)


def test_what_memory_lets_go_of_is_held_no_longer() -> None:
    ring = Ring(count_max=3)
    ring.begin([], 1)
    updates = [update(n) for n in range(1, 11)]
    before = [sys.getrefcount(u) for u in updates]
    ring.add(updates)
    after = [sys.getrefcount(u) for u in updates]
    assert [more - less for more, less in zip(after, before, strict=True)] == [0] * 7 + [1] * 3


def test_backwards_begins_below_an_offset() -> None:
    ring = Ring(count_max=4)
    ring.begin([], 1)
    ring.add([update(n) for n in range(1, 11)])
    assert offsets(ring.before(9)) == [8, 7]


def test_a_time_before_memory_is_not_answered() -> None:
    ring = Ring(count_max=4)
    ring.begin([], 1)
    ring.add([update(n) for n in range(1, 11)])
    assert ring.at_time(7_000) is None
    assert ring.at_time(7_001) == 8
    assert ring.at_time(8_500) == 9
    assert ring.at_time(99_000) is None


@given(
    st.lists(st.tuples(st.integers(1, 5), st.integers(0, 3000)), max_size=60),
    st.integers(1, 20),
    st.integers(500, 20_000),
    st.randoms(use_true_random=False),
)
def test_memory_is_what_a_plain_list_would_be(
    steps: list[tuple[int, int]], count_max: int, bytes_max: int, rng: random.Random
) -> None:
    ring = Ring(count_max=count_max, bytes_max=bytes_max)
    ring.begin([], 1)
    everything: list[Update] = []
    for count, size in steps:
        new = [update(len(everything) + n, size=size) for n in range(1, count + 1)]
        everything += new
        ring.add(new)
        kept = everything[-len(ring) :]
        assert len(ring) <= count_max
        assert ring.bytes == sum(u.size for u in kept)
        assert ring.bytes <= bytes_max or len(ring) == 1
        after = rng.randint(0, len(everything))
        found = ring.after(after, 5_000)
        if after + 1 < kept[0].offset:
            assert found is None
        else:
            assert found is not None
            assert list(found) == everything[after : after + len(found)]
            assert found or after == len(everything)
            assert len(found) == 1 or sum(u.size for u in found) <= 5_000
