"""Lines of candidates, held to aiortc's reading of them."""

from __future__ import annotations

from aiortc.sdp import candidate_from_sdp

from callboard.gateway.ice.candidates import Place, candidate_lines, priority
from callboard.gateway.ports import Address

HERE = Place(Address("192.0.2.1", 8189))
THERE = Place(Address("2001:db8::1", 8189))
OUTSIDE = Place(Address("198.51.100.7", 40_000), mapped_from=Address("192.0.2.1", 8189))


def test_host_candidate_has_the_priority_of_the_rfc() -> None:
    assert candidate_lines([HERE])[0].split()[1:] == [
        "1", "udp", "2130706431", "192.0.2.1", "8189", "typ", "host",
    ]  # fmt: skip
    assert priority(126, 65535) == 2130706431


def test_udp_comes_before_tcp_and_the_first_place_before_the_second() -> None:
    lines = candidate_lines([HERE, THERE])
    read = [candidate_from_sdp(line.removeprefix("candidate:")) for line in lines]
    assert [one.protocol for one in read] == ["udp", "udp", "tcp", "tcp"]
    assert [one.ip for one in read] == ["192.0.2.1", "2001:db8::1"] * 2
    assert [one.tcpType for one in read] == [None, None, "passive", "passive"]
    ranks = [one.priority for one in read]
    assert ranks == sorted(ranks, reverse=True)
    assert len(set(ranks)) == 4
    assert all(0 < rank < 1 << 31 for rank in ranks)


def test_place_behind_a_nat_is_reflexive_and_of_udp_alone() -> None:
    (line,) = candidate_lines([OUTSIDE])
    read = candidate_from_sdp(line.removeprefix("candidate:"))
    assert (read.type, read.protocol, read.ip, read.port) == (
        "srflx", "udp", "198.51.100.7", 40_000,
    )  # fmt: skip
    assert (read.relatedAddress, read.relatedPort) == ("192.0.2.1", 8189)


def test_foundations_differ_where_type_base_or_transport_do() -> None:
    lines = candidate_lines([HERE, THERE, OUTSIDE])
    foundations = [line.split()[0] for line in lines]
    assert len(set(foundations)) == len(lines) == 5
    assert all(1 <= len(one.removeprefix("candidate:")) <= 32 for one in foundations)


def test_place_that_is_named_twice_is_listed_once() -> None:
    assert len(candidate_lines([HERE, HERE])) == 2


def test_places_of_one_host_with_two_ports_are_two_candidates_of_each_transport() -> None:
    lines = candidate_lines([HERE, Place(Address("192.0.2.1", 18189))])
    read = [candidate_from_sdp(line.removeprefix("candidate:")) for line in lines]
    assert [(one.protocol, one.port) for one in read] == [
        ("udp", 8189), ("udp", 18189), ("tcp", 8189), ("tcp", 18189),
    ]  # fmt: skip
    assert len({one.priority for one in read}) == 4
    assert read[0].foundation == read[1].foundation


def test_no_place_has_no_candidate() -> None:
    assert candidate_lines([]) == ()
