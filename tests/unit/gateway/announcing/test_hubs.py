"""Which hub is told."""

from __future__ import annotations

import random

from callboard.gateway.announcing.hubs import AVOIDED_S, Hubs
from callboard.gateway.sources.instances import Instance

A, B = Instance("hub-1", "10.0.0.1", 8800), Instance("hub-2", "10.0.0.2", 8800)


class Farm:
    """A catalog's hubs, and a time."""

    def __init__(self, *there: Instance, fixed: str = "") -> None:
        self.there = there
        self.now = 100.0
        self.hubs = Hubs(
            lambda: self.there, clock=lambda: self.now, rng=random.Random(1), fixed=fixed
        )


def test_a_configured_hub_is_the_hub() -> None:
    farm = Farm(A, fixed="http://hub.example:8800")
    farm.hubs.avoid("http://hub.example:8800")
    assert farm.hubs.find() == "http://hub.example:8800"


def test_without_a_hub_there_is_none() -> None:
    assert Farm().hubs.find() is None


def test_a_hub_is_kept_while_it_is_there() -> None:
    farm = Farm(A, B)
    first = farm.hubs.find()
    assert [farm.hubs.find() for _ in range(20)] == [first] * 20
    farm.there = (B,) if first == A.url else (A,)
    assert farm.hubs.find() == farm.there[0].url


def test_a_hub_that_took_nothing_is_left_for_another_one() -> None:
    farm = Farm(A, B)
    first = farm.hubs.find()
    assert first is not None
    farm.hubs.avoid(first)
    second = farm.hubs.find()
    assert second not in (None, first)
    farm.now += AVOIDED_S
    assert farm.hubs.find() == second


def test_the_only_hub_is_tried_again_although_it_took_nothing() -> None:
    farm = Farm(A)
    farm.hubs.avoid(A.url)
    assert farm.hubs.find() == A.url
