"""What a viewer of the benchmarks counts."""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks.live.viewer import Count


def counted(sequences: Iterable[int]) -> Count:
    numbers = list(sequences)
    count = Count(numbers[0])
    for number in numbers:
        count.take(number)
    return count


def test_what_is_missing_is_counted_over_the_wrap_of_numbers() -> None:
    count = counted([*range(65_530, 65_536), *range(2, 10)])
    assert (count.received, count.missing) == (14, 2)


def test_a_packet_that_comes_late_is_not_missing() -> None:
    assert counted((10, 12, 11, 13)).missing == 0


def test_what_was_missing_before_does_not_count_again() -> None:
    count = counted((1, 3))
    before = count.missing
    count.take(4)
    count.take(6)
    assert (before, count.missing - before) == (1, 1)
