"""Indexes of resources: they never fall, and ends are remembered in bounded memory."""

from __future__ import annotations

from callboard.agent.state.indexes import KINDS, RETIRED_MAX, ResourceIndexes


def indexes() -> ResourceIndexes:
    return ResourceIndexes(lambda *_: None)


def test_what_never_was_has_index_zero() -> None:
    assert all(indexes().get(kind, "x") == 0 for kind in KINDS)


def test_a_retired_name_keeps_its_last_index() -> None:
    found = indexes()
    found.move("service", "a", 5)
    found.retire(("service",), "a")
    assert found.get("service", "a") == 5
    assert found.get("service", "b") == 0


def test_a_name_that_comes_back_goes_on_from_there() -> None:
    found = indexes()
    found.move("service", "a", 5)
    found.retire(("service",), "a")
    found.move("service", "a", 9)
    assert found.get("service", "a") == 9
    again = indexes()
    again.move("service", "a", 9)
    assert found.digest == again.digest


def test_older_ends_share_a_floor_and_no_index_falls() -> None:
    found = indexes()
    for number in range(RETIRED_MAX + 3):
        found.move("service", f"s{number}", number + 1)
        found.retire(("service",), f"s{number}")
    assert found.get("service", "s0") == 3
    assert found.get("service", "s2") == 3
    assert found.get("service", "never") == 3
    assert found.get("service", f"s{RETIRED_MAX}") == RETIRED_MAX + 1
    assert found.get("node", "never") == 0


def test_moving_to_the_same_index_moves_nothing() -> None:
    moves: list[tuple[str, str, int]] = []
    found = ResourceIndexes(lambda *move: moves.append(move))
    found.move("nodes", "", 4)
    found.move("nodes", "", 4)
    assert moves == [("nodes", "", 4)]


def test_loaded_indexes_equal_the_dumped() -> None:
    found = indexes()
    for number in range(RETIRED_MAX + 3):
        found.move("service", f"s{number}", number + 1)
        found.retire(("service",), f"s{number}")
    found.move("nodes", "", 9)
    loaded = indexes()
    for part in found.dump():
        loaded.load(*part)
    assert loaded.digest == found.digest
    assert loaded.dump() == found.dump()
