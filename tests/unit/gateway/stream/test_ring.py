"""The last packets by number."""

from __future__ import annotations

import random
from itertools import count

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.gateway.stream.source import numbers

from callboard.gateway.stream.packet import Packet
from callboard.gateway.stream.ring import PACKETS_MAX, Ring


def _packet(number: int) -> Packet:
    return Packet(number, 0, False, b"%d" % number)


def _filled(*sequence: int, packets_max: int = PACKETS_MAX) -> Ring:
    ring = Ring(packets_max)
    for number in sequence:
        ring.put(_packet(number))
    return ring


def test_packet_is_found_by_its_number() -> None:
    ring = _filled(*range(10))
    assert ring.get(3) == _packet(3)
    assert ring.get(10) is None
    assert ring.get(-1) is None


def test_empty_ring_has_nothing() -> None:
    ring = Ring()
    assert (ring.newest, ring.get(0), list(ring.since(0))) == (-1, None, [])


def test_newest_packets_are_kept() -> None:
    ring = _filled(*range(3000))
    assert ring.get(3000 - PACKETS_MAX - 1) is None
    kept = range(3000 - PACKETS_MAX, 3000)
    assert numbers(ring.since(0)) == list(kept)
    assert numbers(ring.find(range(2500, 3100))) == list(range(2500, 3000))


def test_late_packet_takes_its_place() -> None:
    ring = _filled(0, 1, 4, 2)
    assert numbers(ring.since(1)) == [1, 2, 4]


def test_packet_that_is_out_of_reach_takes_nobodys_place() -> None:
    ring = _filled(0, 9, 1, packets_max=8)
    assert ring.get(1) is None
    assert ring.get(9) == _packet(9)


def test_asking_without_end_ends() -> None:
    ring = _filled(*range(10))
    assert numbers(ring.find(count())) == list(range(10))


@given(seed=st.integers(0, 1 << 32))
def test_ring_has_what_a_dictionary_of_the_newest_has(seed: int) -> None:
    rng, ring, known = random.Random(seed), Ring(16), dict[int, Packet]()
    newest = 0
    for _ in range(100):
        number = max(0, newest + rng.randrange(-20, 6))
        newest = max(newest, number)
        ring.put(_packet(number))
        known[number] = _packet(number)
        known = {each: packet for each, packet in known.items() if each > newest - 16}
        assert ring.newest == newest
        assert {each: ring.get(each) for each in range(newest + 5) if ring.get(each)} == known
