"""How answers are cut to size, and that every instance comes first equally often."""

from __future__ import annotations

import random

import dns.flags
import dns.message
import dns.rdatatype
import pytest
from tests.harness.dnscase import query
from tests.harness.farm import Farm

from callboard.dns.responder import Responder
from callboard.dns.settings import DnsSettings


def farm_of(count: int, *, ragged: bool = False) -> Farm:
    farm = Farm()
    for number in range(count):
        name = f"n{number}" if ragged else f"n{number:05}"
        farm.node_at(name, f"10.1.{number >> 8}.{number & 255}")
        farm.service_on(name, "web", port=8000)
    return farm


def front(farm: Farm, seed: int = 7, **settings: object) -> Responder:
    return Responder(
        farm,
        DnsSettings(**settings),  # type: ignore[arg-type]
        draw=random.Random(seed).random,
        clock=lambda: 1.7e9,
    )


def respond(responder: Responder, type: str, size: int = 0, *, tcp: bool = False) -> bytes:
    edns = {"use_edns": 0, "payload": size} if size else {}
    reply = responder.respond(query("web.service.consul", type, **edns).to_wire(), tcp=tcp)
    assert isinstance(reply, bytes)
    return reply


SIZES = [0, 512, 700, 1232, 4096]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("type", ["A", "SRV"])
@pytest.mark.parametrize("count", [1, 3, 42, 500])
def test_udp_answer_fits_the_client(count: int, type: str, size: int) -> None:
    responder = front(farm_of(count, ragged=True))
    for _ in range(20):
        reply = respond(responder, type, size)
        assert len(reply) <= max(512, min(size, 1232))
        parsed = dns.message.from_wire(reply, one_rr_per_rrset=True)
        given = len(parsed.answer)
        assert given == min(count, 3) if size == 0 else given >= min(count, 3)
        if type == "SRV":
            targets = {rrset[0].target for rrset in parsed.answer}
            assert {r.name for r in parsed.additional} == targets


def test_edns_answer_is_filled() -> None:
    responder = front(farm_of(500))
    assert dns.message.from_wire(respond(responder, "A", 1232)).answer[0].rdtype == 1
    reply = dns.message.from_wire(respond(responder, "A", 1232), one_rr_per_rrset=True)
    assert len(reply.answer) == (1232 - 12 - 24 - 11) // 16
    reply = dns.message.from_wire(respond(responder, "SRV", 1232), one_rr_per_rrset=True)
    assert len(reply.answer) >= 18


@pytest.mark.parametrize("type", ["A", "SRV"])
def test_tcp_answer_is_whole(type: str) -> None:
    responder = front(farm_of(500))
    reply = dns.message.from_wire(respond(responder, type, tcp=True), one_rr_per_rrset=True)
    assert len(reply.answer) == 500
    assert not reply.flags & dns.flags.TC


def test_tcp_answer_past_64_kib_leaves_whole_records_out() -> None:
    responder = front(farm_of(1500))
    reply = dns.message.from_wire(respond(responder, "SRV", tcp=True), one_rr_per_rrset=True)
    assert 800 < len(reply.answer) < 1500
    assert len(reply.additional) == len(reply.answer)


@pytest.mark.parametrize(("setting", "told"), [(False, False), (True, True)])
def test_truncation_is_told_only_if_asked_for(setting: bool, told: bool) -> None:
    responder = front(farm_of(42), enable_truncate=setting)
    for type in ("A", "SRV"):
        flags = int.from_bytes(respond(responder, type)[2:4], "big")
        assert bool(flags & dns.flags.TC) is told


def test_complete_answer_is_never_called_truncated() -> None:
    responder = front(farm_of(3), enable_truncate=True)
    assert not int.from_bytes(respond(responder, "A")[2:4], "big") & dns.flags.TC


def test_answer_of_which_nothing_fits_is_called_truncated() -> None:
    """Without TC it would be an empty answer: a name without addresses."""
    farm = Farm()
    farm.node_at("big", "10.0.0.1", {"k": "v" * 900})
    responder = front(farm)
    packet = query("big.node.consul", "TXT").to_wire()
    reply = responder.respond(packet)
    assert isinstance(reply, bytes)
    assert int.from_bytes(reply[2:4], "big") & dns.flags.TC
    whole = responder.respond(packet, tcp=True)
    assert isinstance(whole, bytes)
    assert len(dns.message.from_wire(whole).answer) == 1


def test_text_of_the_nodes_is_left_out_before_instances_are() -> None:
    farm = Farm()
    for number in range(10):
        farm.node_at(f"n{number}", f"10.0.0.{number}", {"k": "v" * 200})
        farm.service_on(f"n{number}", "web")
    responder = front(farm)
    reply = dns.message.from_wire(respond(responder, "SRV", 1232), one_rr_per_rrset=True)
    assert len(reply.answer) == 10
    assert {rrset.rdtype for rrset in reply.additional} == {dns.rdatatype.A}
    whole = dns.message.from_wire(respond(responder, "SRV", tcp=True), one_rr_per_rrset=True)
    assert len(whole.additional) == 20


CHI_SQUARE_99_9 = {3: 13.8, 42: 75.0, 500: 603.0}
"""Upper 0.1 % points for n - 1 degrees of freedom."""


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("type", ["A", "SRV"])
@pytest.mark.parametrize("count", [3, 42, 500])
def test_every_instance_comes_first_equally_often(count: int, type: str, size: int) -> None:
    responder = front(farm_of(count, ragged=count == 42), seed=count + size)
    draws = max(3000, 20 * count)
    firsts: dict[bytes, int] = {}
    edns = {"use_edns": 0, "payload": size} if size else {}
    packet = query("web.service.consul", type, **edns).to_wire()
    start = packet.index(b"consul\0") + 7 + 4
    for _ in range(draws):
        reply = responder.respond(packet)
        assert isinstance(reply, bytes)
        length = int.from_bytes(reply[start + 10 : start + 12], "big")
        first = reply[start + 12 : start + 12 + length]
        firsts[first] = firsts.get(first, 0) + 1
    expected = draws / count
    missing = count - len(firsts)
    statistic = sum((n - expected) ** 2 / expected for n in firsts.values()) + missing * expected
    assert statistic < CHI_SQUARE_99_9[count]
