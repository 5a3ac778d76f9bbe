"""The transmit-limited queue (memberlist, queue_test.go)."""

from __future__ import annotations

import pytest

from callboard.swim.broadcasts import TransmitLimitedQueue, retransmit_limit


@pytest.mark.parametrize(
    ("members", "limit"), [(0, 0), (1, 4), (9, 4), (10, 8), (99, 8), (100, 12)]
)
def test_retransmit_limit_grows_with_the_logarithm(members: int, limit: int) -> None:
    assert retransmit_limit(4, members) == limit


def test_newer_broadcast_of_a_name_replaces_and_finishes_the_older() -> None:
    queue = TransmitLimitedQueue(4)
    old = queue.add("a", b"old")
    queue.add("a", b"new")
    assert old.finished
    assert queue.take(100, 2, 9) == [b"new"]


def test_broadcasts_without_a_name_stay_beside_each_other() -> None:
    queue = TransmitLimitedQueue(4)
    queue.add("", b"1")
    queue.add("", b"2")
    assert len(queue) == 2


def test_broadcast_is_sent_up_to_the_limit_and_then_finished() -> None:
    queue = TransmitLimitedQueue(4)
    broadcast = queue.add("a", b"x")
    sent = [queue.take(100, 2, 9) for _ in range(5)]
    assert sent == [[b"x"]] * 4 + [[]]
    assert broadcast.finished


def test_only_what_fits_is_taken_overhead_included() -> None:
    queue = TransmitLimitedQueue(4)
    queue.add("a", b"x" * 10)
    queue.add("b", b"y" * 10)
    assert len(queue.take(23, 2, 9)) == 1
    assert len(queue.take(24, 2, 9)) == 2


def test_least_sent_goes_first_then_the_longest_then_the_newest() -> None:
    queue = TransmitLimitedQueue(4)
    queue.add("sent", b"sent")
    queue.take(100, 0, 9)
    queue.add("a", b"aa")
    queue.add("b", b"bb")
    queue.add("long", b"llll")
    assert queue.take(100, 0, 9) == [b"llll", b"bb", b"aa", b"sent"]


def test_full_queue_drops_what_most_have_already() -> None:
    queue = TransmitLimitedQueue(4, items_max=2)
    first = queue.add("", b"1")
    queue.take(100, 0, 9)
    second = queue.add("", b"2")
    queue.add("", b"3")
    assert (first.finished, second.finished, len(queue)) == (True, False, 2)
