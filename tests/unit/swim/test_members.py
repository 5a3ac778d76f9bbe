"""The member table and its probe order (SWIM, section 4.3)."""

from __future__ import annotations

import random

from callboard.swim.members import Member, Members
from callboard.swim.messages import Status, Versions


def member(name: str, status: Status = Status.ALIVE) -> Member:
    return Member(name, "10.0.0.1", 7946, b"", 1, status, Versions(), 0.0)


def table(*names: str, seed: int = 1) -> Members:
    members = Members(random.Random(seed))
    for name in names:
        members.add(member(name))
    return members


def test_every_member_is_probed_once_a_round() -> None:
    members = table(*"abcde")
    for _ in range(3):
        names = [members.next_to_probe(lambda _m: True) for _ in range(5)]
        assert sorted(one.name for one in names if one) == list("abcde")


def test_order_differs_between_rounds() -> None:
    members = table(*"abcdefgh")
    rounds = {
        tuple(one.name for _ in range(8) if (one := members.next_to_probe(lambda _m: True)))
        for _ in range(5)
    }
    assert len(rounds) > 1


def test_nobody_eligible_gives_nobody() -> None:
    assert table(*"abc").next_to_probe(lambda _m: False) is None
    assert table().next_to_probe(lambda _m: True) is None


def test_sample_has_no_one_twice_and_only_the_eligible() -> None:
    members = table(*"abcdef")
    names = [one.name for one in members.sample(3, lambda m: m.name != "a")]
    assert len(set(names)) == 3 and "a" not in names


def test_sample_of_few_is_all_of_them() -> None:
    assert len(table(*"ab").sample(3, lambda _m: True)) == 2


def test_forgotten_member_is_neither_found_nor_probed() -> None:
    members = table(*"abc")
    members.forget(lambda m: m.name == "b")
    probed = {one.name for _ in range(4) if (one := members.next_to_probe(lambda _m: True))}
    assert members.get("b") is None and probed == {"a", "c"}


def test_member_is_found_by_its_endpoint() -> None:
    found = table("a").at(("10.0.0.1", 7946))
    assert found is not None and found.name == "a"
    assert table("a").at(("10.0.0.1", 1)) is None
