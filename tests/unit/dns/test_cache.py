"""What is kept, and that exactly what a change touches is dropped."""

from __future__ import annotations

import random
from collections.abc import Sequence

import dns.message
import msgspec
import pytest
from tests.harness.dnscase import lines, query
from tests.harness.farm import Farm, article_farm

from callboard.catalog.authorizer import ALLOW_ALL, DENY_ALL, Uniform
from callboard.catalog.changes import Change
from callboard.dns import cache as cache_module
from callboard.dns import packed as packed_module
from callboard.dns.answers import Zone
from callboard.dns.cache import sources
from callboard.dns.responder import Responder
from callboard.dns.settings import DnsSettings


def front(farm: Farm) -> Responder:
    return Responder(farm, DnsSettings(), draw=random.Random(1).random, clock=lambda: 1.7e9)


def addresses(responder: Responder, name: str, type: str = "A") -> list[str]:
    reply = responder.respond(query(name, type, use_edns=0).to_wire())
    assert isinstance(reply, bytes)
    return [line.split(" ", 4)[-1] for line in lines(dns.message.from_wire(reply).answer)]


def test_instance_added_and_removed_is_seen_at_once() -> None:
    farm = article_farm()
    responder = front(farm)
    assert addresses(responder, "web.service.consul") == ["10.0.0.1", "10.0.0.4"]
    farm.service_on("agent-2", "web")
    assert addresses(responder, "web.service.consul") == ["10.0.0.1", "10.0.0.2", "10.0.0.4"]
    farm.remove_service("agent-1", "web")
    assert addresses(responder, "web.service.consul") == ["10.0.0.2", "10.0.0.4"]


def test_check_of_the_node_is_seen_at_once() -> None:
    farm = article_farm()
    responder = front(farm)
    addresses(responder, "web.service.consul")
    farm.check_on("agent-4", "critical", id="serfHealth")
    assert addresses(responder, "web.service.consul") == ["10.0.0.1"]
    farm.check_on("agent-4", "passing", id="serfHealth")
    assert addresses(responder, "web.service.consul") == ["10.0.0.1", "10.0.0.4"]


def test_check_of_the_instance_is_seen_at_once() -> None:
    farm = article_farm()
    responder = front(farm)
    addresses(responder, "rails.web.service.consul")
    farm.check_on("agent-4", "critical", service="web")
    assert addresses(responder, "rails.web.service.consul") == ["10.0.0.1"]


def test_address_of_a_node_is_seen_at_once_in_its_own_name_and_its_services() -> None:
    farm = article_farm()
    responder = front(farm)
    addresses(responder, "agent-4.node.consul")
    addresses(responder, "web.service.consul")
    farm.node_at("agent-4", "10.7.7.7")
    assert addresses(responder, "agent-4.node.consul") == ["10.7.7.7"]
    assert addresses(responder, "web.service.consul") == ["10.0.0.1", "10.7.7.7"]


def test_instance_that_changes_its_service_leaves_the_old_one() -> None:
    farm = article_farm()
    responder = front(farm)
    addresses(responder, "web.service.consul")
    farm.service_on("agent-4", "shop", id="web")
    assert addresses(responder, "web.service.consul") == ["10.0.0.1"]
    assert addresses(responder, "shop.service.consul") == ["10.0.0.4"]


def test_tags_are_seen_at_once() -> None:
    farm = article_farm()
    responder = front(farm)
    assert addresses(responder, "rails.web.service.consul") == ["10.0.0.1", "10.0.0.4"]
    farm.service_on("agent-4", "web", tags=["django"])
    assert addresses(responder, "rails.web.service.consul") == ["10.0.0.1"]
    assert addresses(responder, "django.web.service.consul") == ["10.0.0.4"]


def test_change_elsewhere_keeps_an_answer() -> None:
    farm = article_farm()
    responder = front(farm)
    addresses(responder, "web.service.consul")
    addresses(responder, "agent-2.node.consul")
    farm.service_on("agent-2", "other")
    farm.check_on("agent-2", "warning", service="other")
    assert len(responder.cache) == 2
    assert len(responder.cache.udp) == 2


def test_names_that_do_not_exist_are_not_kept() -> None:
    responder = front(article_farm())
    for number in range(100):
        for name in (f"x{number}.service.consul", f"x{number}.node.consul", f"x{number}.consul"):
            addresses(responder, name)
        addresses(responder, f"x{number}.web.service.consul")
    assert len(responder.cache) == 0
    assert not responder.cache.udp


def test_spellings_of_a_name_share_one_answer() -> None:
    responder = front(article_farm())
    for name in ("web.service.consul", "WEB.service.consul", "weB.Service.consul"):
        addresses(responder, name)
    assert len(responder.cache) == 1
    assert len(responder.cache.udp) == 1


def test_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "ANSWERS_MAX", 10)
    monkeypatch.setattr(cache_module, "QUERIES_MAX", 10)
    farm = Farm()
    responder = front(farm)
    for number in range(50):
        farm.node_at(f"n{number}", "10.0.0.1")
        addresses(responder, f"n{number}.node.consul")
        assert len(responder.cache) <= 10
        assert len(responder.cache.udp) <= 10


def test_replaced_catalog_is_seen_at_once() -> None:
    farm = article_farm()
    responder = front(farm)
    addresses(responder, "web.service.consul")
    farm.replace(Farm().tables, farm.applied_index + 1, epoch="test", datacenter="dc1")
    assert addresses(responder, "web.service.consul") == []


def additional(responder: Responder, name: str) -> list[str]:
    reply = responder.respond(query(name, "SRV", use_edns=0).to_wire())
    assert isinstance(reply, bytes)
    return lines(dns.message.from_wire(reply).additional)


def test_srv_target_that_is_a_name_of_ours_follows_the_node_it_names() -> None:
    farm = article_farm()
    farm.service_on("agent-1", "shop", address="agent-4.node.consul")
    responder = front(farm)
    assert additional(responder, "shop.service.consul") == ["agent-4.node.consul. 0 IN A 10.0.0.4"]
    farm.node_at("agent-4", "10.7.7.7")
    assert additional(responder, "shop.service.consul") == ["agent-4.node.consul. 0 IN A 10.7.7.7"]


def test_sizes_that_a_client_makes_up_are_not_kept_each_with_an_answer() -> None:
    farm = article_farm()
    responder = front(farm)
    for size in range(512, 1232):
        responder.respond(query("web.service.consul", "A", use_edns=0, payload=size).to_wire())
    variants = {id(variant) for variant, _ in responder.cache.udp.values()}
    assert len(variants) <= packed_module.VARIANTS_MAX


def test_services_that_come_and_go_leave_nothing_behind() -> None:
    farm = article_farm()
    zone = Zone(farm, DnsSettings())

    def changed(changes: Sequence[Change]) -> None:
        for name in sources(changes, farm)[1]:
            zone.service_changed(name)

    farm.listen(changed)
    lookup = zone.domains.parse((b"job", b"service", b"consul"))
    for number in range(50):
        farm.service_on("agent-1", f"job-{number}")
        zone.answer(msgspec.structs.replace(lookup, name=f"job-{number}"), 1)
        farm.remove_service("agent-1", f"job-{number}")
    assert not zone._services_on


class Rights:
    """An authorizer that can be switched."""

    def __init__(self) -> None:
        self.now = ALLOW_ALL
        self.epoch = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self.now, name)


def test_without_rights_nothing_exists_and_nothing_cached_is_given() -> None:
    farm = article_farm()
    rights = Rights()
    responder = Responder(
        farm,
        DnsSettings(),
        draw=random.Random(1).random,
        clock=lambda: 1.7e9,
        authorizer=rights,  # type: ignore[arg-type]
    )
    names = ["web.service.consul", "agent-1.node.consul"]
    assert all(addresses(responder, name) for name in names)
    rights.now, rights.epoch = DENY_ALL, 1
    assert not any(addresses(responder, name) for name in names)
    assert not addresses(responder, "1.0.0.10.in-addr.arpa", "PTR")


class NoNode(Uniform):
    """May read everything but one node."""

    def node_read(self, node: str) -> bool:
        return node != "agent-4"


@pytest.mark.parametrize(
    ("name", "type"),
    [
        ("web.service.consul", "A"),
        ("rails.web.service.consul", "A"),
        ("web.service.consul", "SRV"),
        ("web.service.consul", "ANY"),
        ("alias.service.consul", "A"),
        ("alias.service.consul", "SRV"),
        ("alias.node.consul", "A"),
    ],
)
def test_node_that_may_not_be_read_is_in_no_answer(name: str, type: str) -> None:
    farm = article_farm()
    farm.service_on("agent-1", "alias", address="agent-4.node.consul")
    farm.node_at("alias", "agent-4.node.consul")
    for rights, visible in ((ALLOW_ALL, True), (NoNode(True), False)):
        responder = Responder(
            farm, DnsSettings(), draw=lambda: 0.0, clock=lambda: 1.7e9, authorizer=rights
        )
        reply = responder.respond(query(name, type, use_edns=0).to_wire())
        assert isinstance(reply, bytes)
        message = dns.message.from_wire(reply)
        shown = "\n".join(lines(message.answer) + lines(message.additional))
        assert ("10.0.0.4" in shown) is visible


def test_random_changes_never_leave_a_wrong_answer_in_the_cache() -> None:
    """Against a responder that has never cached anything."""
    rng = random.Random(20)
    farm = article_farm()
    cached = front(farm)
    names = ["web.service.consul", "a.web.service.consul", "db.service.consul",
             "agent-1.node.consul", "agent-2.node.consul"]  # fmt: skip
    for _ in range(400):
        _change(farm, rng)
        for name in names:
            type = rng.choice(["A", "SRV", "ANY"])
            fresh = front(farm)
            assert addresses(cached, name, type) == addresses(fresh, name, type)
            fresh.close()


def _change(farm: Farm, rng: random.Random) -> None:
    node = f"agent-{rng.randint(1, 3)}"
    id = rng.choice(["web", "db"])
    exists = any(each.id == id for each in farm.node_services(node))
    match rng.randint(0, 5):
        case 0:
            farm.node_at(node, f"10.0.0.{rng.randint(1, 9)}", {"v": str(rng.randint(0, 3))})
        case 1:
            tags = rng.choice([[], ["a"], ["A", "b.c"]])
            farm.service_on(node, rng.choice(["web", "db"]), id=id, tags=tags)
        case 2 if exists:
            farm.remove_service(node, id)
        case 3:
            farm.check_on(node, rng.choice(["passing", "critical"]), id="serfHealth")
        case 4 if exists:
            status = rng.choice(["passing", "warning", "critical"])
            farm.check_on(node, status, id=f"s:{id}", service=id)
        case _:
            pass
