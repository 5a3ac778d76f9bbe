"""Numbers near others, and what is remembered of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from callboard.gateway.fanout.numbering import REMEMBERED, Memory, Numbers, Offsets


@given(st.integers(-(1 << 20), 1 << 20), st.integers(0, 1 << 40), st.integers(-32_768, 32_767))
def test_sequence_of_undoes_the_offset(offset: int, newest: int, distance: int) -> None:
    offsets = Offsets(offset, 0)
    number = (newest + distance + offset) % 65_536
    assert offsets.sequence_of(number, newest) == newest + distance


@given(st.integers(-(1 << 40), 1 << 40), st.integers(0, 1 << 40))
def test_timestamp_is_shifted_modulo_32_bits(offset: int, timestamp: int) -> None:
    assert Offsets(0, offset).timestamp_of(timestamp) == (timestamp + offset) % (1 << 32)


def test_second_use_of_a_number_gets_what_the_first_had() -> None:
    memory = Memory()
    assert memory.use(7, 1000, 50) == Numbers(7, 1000, 50)
    assert memory.use(7, 2000, 60) == Numbers(7, 1000, 50)


def test_number_of_the_next_lap_is_another_one() -> None:
    memory = Memory()
    for index in range(0, 65_536 + 8, 8):
        memory.use(index % 65_536, index, 0)
    assert memory.use(0, 1, 1) == Numbers(0, 65_536, 0)


def test_memory_is_bounded_and_forgets_the_oldest() -> None:
    memory = Memory()
    for number in range(REMEMBERED + 1):
        assert memory.use(number, number, 0)
    assert memory.use(0, 0, 0) is None
    assert memory.use(1, 5, 5) == Numbers(1, 1, 0)


def test_what_was_used_is_forbidden_and_what_comes_is_not() -> None:
    memory = Memory()
    memory.use(7, 1000, 50)
    memory.forbid_what_was_used()
    assert memory.use(7, 2000, 60) is None
    assert memory.use(8, 2000, 60) == Numbers(8, 2000, 60)


def test_only_what_was_used_and_is_not_forbidden_is_known() -> None:
    memory = Memory()
    assert not memory.knows(0)
    for number in (7, 9):
        memory.use(number, 1000, 50)
    assert [memory.knows(number) for number in (6, 7, 8, 9, 10, 65_535)] == [
        False, True, False, True, False, False,
    ]  # fmt: skip
    memory.forbid_what_was_used()
    assert not memory.knows(9)


def test_what_is_too_old_is_not_known_and_a_number_of_the_next_lap_is() -> None:
    memory = Memory()
    for number in range(70_000):
        memory.use(number % (1 << 16), 0, 0)
    assert memory.next == 70_000
    known = [number for number in range(1 << 16) if memory.knows(number)]
    assert known == [number % (1 << 16) for number in range(70_000 - REMEMBERED, 70_000)]


def test_number_of_before_the_first_is_refused_and_moves_nothing() -> None:
    """Else the next one had another rollover counter, for those who take 65,535 for -1."""
    memory = Memory()
    assert memory.use(3, 0, 0)
    assert memory.use(65_535, 0, 0) is None
    assert memory.use(3 + (1 << 15), 0, 0) is None
    assert memory.next == 4
    assert memory.use(3 + (1 << 15) - 1, 0, 0)


def test_first_number_may_be_any() -> None:
    assert Memory().use(65_535, 0, 0) == Numbers(65_535, 0, 0)
