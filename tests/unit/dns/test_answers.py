"""What each name and type gets: Consul's DNS interface, RFC 1034/1035, 2308, 2782, 8020, 8482."""

from __future__ import annotations

import random

import dns.name
import dns.rcode
import pytest
from tests.harness.dnscase import Ask, Case, ask, check, lines, query
from tests.harness.farm import Farm, article_farm

from callboard.catalog.objects import Weights
from callboard.dns.responder import Responder
from callboard.dns.settings import DnsSettings, Soa

WEB_A = ["web.service.consul. 0 IN A 10.0.0.1", "web.service.consul. 0 IN A 10.0.0.4"]


def responder(farm: Farm, **settings: object) -> Responder:
    return Responder(
        farm,
        DnsSettings(**settings),  # type: ignore[arg-type]
        draw=random.Random(1).random,
        clock=lambda: 1_700_000_000.0,
    )


def sender(farm: Farm, **settings: object) -> Ask:
    front = responder(farm, **settings)

    def send(packet: bytes) -> bytes | None:
        reply = front.respond(packet)
        assert reply is None or isinstance(reply, bytes)
        return reply

    return send


def named(lines: list[str], name: str) -> list[str]:
    return [name + line[line.index(" ") :] for line in lines]


FORMS = [
    Case("web.service.consul", "A", answer=WEB_A),
    Case("web.service.dc1.consul", "A", answer=named(WEB_A, "web.service.dc1.consul.")),
    Case("web.service.dc1.dc.consul", "A", answer=named(WEB_A, "web.service.dc1.dc.consul.")),
    Case("rails.web.service.consul", "A", answer=named(WEB_A, "rails.web.service.consul.")),
    Case("RAILS.web.service.consul", "A", answer=named(WEB_A, "RAILS.web.service.consul.")),
    Case("_web._tcp.service.consul", "A", answer=named(WEB_A, "_web._tcp.service.consul.")),
    Case("_web._rails.service.dc1.consul", "A", answer=named(
        WEB_A, "_web._rails.service.dc1.consul.")),
    Case("agent-1.node.consul", "A", answer=["agent-1.node.consul. 0 IN A 10.0.0.1"]),
    Case("agent-1.node.dc1.consul", "A", answer=["agent-1.node.dc1.consul. 0 IN A 10.0.0.1"]),
    Case("Agent-1.Node.Consul", "A", answer=["Agent-1.Node.Consul. 0 IN A 10.0.0.1"]),
    Case("agent-1.node.consul", "TXT", answer=['agent-1.node.consul. 0 IN TXT "rack=r1"']),
    Case("agent-1.node.consul", "ANY", answer=[
        "agent-1.node.consul. 0 IN A 10.0.0.1", 'agent-1.node.consul. 0 IN TXT "rack=r1"']),
    Case("web.service.consul", "ANY", answer=WEB_A),
    Case("0a000001.addr.consul", "A", answer=["0a000001.addr.consul. 0 IN A 10.0.0.1"]),
    Case("0a000001.addr.dc1.consul", "A", answer=["0a000001.addr.dc1.consul. 0 IN A 10.0.0.1"]),
    Case("20010db8000000000000000000000001.addr.consul", "AAAA", answer=[
        "20010db8000000000000000000000001.addr.consul. 0 IN AAAA 2001:db8::1"]),
    Case("4.0.0.10.in-addr.arpa", "PTR", answer=[
        "4.0.0.10.in-addr.arpa. 0 IN PTR agent-4.node.dc1.consul."]),
]  # fmt: skip

NEGATIVE = [
    # RFC 2308, 2.1: the name does not exist
    Case("nosuch.service.consul", "A", "NXDOMAIN"),
    Case("nosuch.node.consul", "A", "NXDOMAIN"),
    Case("nosuch.consul", "A", "NXDOMAIN"),
    Case("nosuch.web.service.consul", "A", "NXDOMAIN"),
    Case("web.service.dc9.consul", "A", "NXDOMAIN"),
    Case("dc9.consul", "A", "NXDOMAIN"),
    Case("x.y.z.consul", "A", "NXDOMAIN"),
    Case("web.connect.consul", "A", "NXDOMAIN"),
    Case("web.query.consul", "A", "NXDOMAIN"),
    Case("zz000001.addr.consul", "A", "NXDOMAIN"),
    Case("0a01.addr.consul", "A", "NXDOMAIN"),
    Case(r"agent\.1.node.consul", "A", "NXDOMAIN"),
    # RFC 2308, 2.2: the name exists, without a record of the type
    Case("web.service.consul", "AAAA"),
    Case("web.service.consul", "TXT"),
    Case("web.service.consul", "MX"),
    Case("web.service.consul", "TYPE666"),
    Case("agent-1.node.consul", "AAAA"),
    Case("agent-1.node.consul", "SRV"),
    Case("0a000001.addr.consul", "AAAA"),
    Case("web.service.consul", "SOA"),
    Case("consul", "A"),
    Case("consul", "TXT"),
    # RFC 8020: what only has names below it exists
    Case("service.consul", "A"),
    Case("node.consul", "NS"),
    Case("addr.consul", "A"),
    Case("query.consul", "A"),
    Case("dc1.consul", "A"),
    Case("service.dc1.consul", "A"),
    Case("dc.consul", "A"),
    Case("dc1.dc.consul", "A"),
    Case("_tcp.service.consul", "A"),
    Case("_tcp.consul", "A"),
    # not ours
    Case("example.com", "A", "REFUSED", authoritative=False),
    Case("9.9.9.9.in-addr.arpa", "PTR", "REFUSED", authoritative=False),
    Case("10.in-addr.arpa", "PTR", "REFUSED", authoritative=False),
    Case(".", "NS", "REFUSED", authoritative=False),
]

SERVERS = [f"agent-{n}.node.dc1.consul." for n in (1, 2, 3)]
GLUE = [f"agent-{n}.node.dc1.consul. 0 IN A 10.0.0.{n}" for n in (1, 2, 3)]
SOA = "consul. 0 IN SOA ns.consul. hostmaster.consul. 1700000000 3600 600 86400 0"

APEX = [
    Case("consul", "SOA", answer=[SOA], authority=[f"consul. 0 IN NS {s}" for s in SERVERS],
         additional=GLUE),
    Case("consul", "NS", answer=[f"consul. 0 IN NS {s}" for s in SERVERS], additional=GLUE),
    Case("CONSUL", "NS", answer=[f"CONSUL. 0 IN NS {s}" for s in SERVERS]),
    Case("ns.consul", "A", answer=[f"ns.consul. 0 IN A 10.0.0.{n}" for n in (1, 2, 3)]),
    Case("ns.consul", "TXT"),
]  # fmt: skip


@pytest.mark.parametrize("case", FORMS + NEGATIVE + APEX, ids=str)
def test_article_farm(case: Case) -> None:
    check(case, sender(article_farm()))


@pytest.mark.parametrize("case", FORMS + NEGATIVE + APEX, ids=str)
def test_article_farm_answers_the_same_from_its_cache(case: Case) -> None:
    send = sender(article_farm())
    check(case, send)
    check(case, send)


SRV = [
    Case("web.service.consul", "SRV", answer=[
        "web.service.consul. 0 IN SRV 1 1 80 agent-1.node.dc1.consul.",
        "web.service.consul. 0 IN SRV 1 1 80 agent-4.node.dc1.consul.",
    ], additional=[
        "agent-1.node.dc1.consul. 0 IN A 10.0.0.1", 'agent-1.node.dc1.consul. 0 IN TXT "rack=r1"',
        "agent-4.node.dc1.consul. 0 IN A 10.0.0.4", 'agent-4.node.dc1.consul. 0 IN TXT "rack=r4"',
    ]),
    Case("_web._tcp.service.consul", "SRV", answer=[
        "_web._tcp.service.consul. 0 IN SRV 1 1 80 agent-1.node.dc1.consul.",
        "_web._tcp.service.consul. 0 IN SRV 1 1 80 agent-4.node.dc1.consul.",
    ]),
    Case("_web._rails.consul", "SRV", answer=[
        "_web._rails.consul. 0 IN SRV 1 1 80 agent-1.node.dc1.consul.",
        "_web._rails.consul. 0 IN SRV 1 1 80 agent-4.node.dc1.consul.",
    ]),
    Case("_web._tcp.dc1.consul", "SRV", answer=[
        "_web._tcp.dc1.consul. 0 IN SRV 1 1 80 agent-1.node.dc1.consul.",
        "_web._tcp.dc1.consul. 0 IN SRV 1 1 80 agent-4.node.dc1.consul.",
    ]),
    Case("_web._udp.service.consul", "SRV", "NXDOMAIN"),
]  # fmt: skip


@pytest.mark.parametrize("case", SRV, ids=str)
def test_srv_of_services_without_an_address_points_at_the_node(case: Case) -> None:
    check(case, sender(article_farm()))


def test_srv_of_a_service_with_an_address_points_at_the_hexadecimal_name() -> None:
    farm = article_farm()
    farm.service_on("agent-1", "db", port=5432, address="192.168.7.9")
    check(
        Case(
            "db.service.consul",
            "SRV",
            answer=["db.service.consul. 0 IN SRV 1 1 5432 c0a80709.addr.dc1.consul."],
            additional=["c0a80709.addr.dc1.consul. 0 IN A 192.168.7.9"],
        ),
        sender(farm),
    )


def test_srv_of_a_service_with_an_ipv6_address() -> None:
    farm = article_farm()
    farm.service_on("agent-1", "db", port=5432, address="2001:db8::7")
    target = "20010db8000000000000000000000007.addr.dc1.consul."
    check(
        Case(
            "db.service.consul",
            "SRV",
            answer=[f"db.service.consul. 0 IN SRV 1 1 5432 {target}"],
            additional=[f"{target} 0 IN AAAA 2001:db8::7"],
        ),
        sender(farm),
    )


def test_srv_of_a_service_with_a_host_name_points_at_that_name() -> None:
    farm = article_farm()
    farm.service_on("agent-1", "ext", port=443, address="db.example.com")
    check(
        Case(
            "ext.service.consul",
            "SRV",
            answer=["ext.service.consul. 0 IN SRV 1 1 443 db.example.com."],
            additional=[],
        ),
        sender(farm),
    )


def test_srv_weight_follows_the_health_of_the_instance() -> None:
    farm = article_farm()
    farm.remove_service("agent-4", "web")
    farm.service_on("agent-1", "web", weights=Weights(10, 2))
    farm.check_on("agent-1", "warning", service="web")
    answer = "web.service.consul. 0 IN SRV 1 2 80 agent-1.node.dc1.consul."
    check(Case("web.service.consul", "SRV", answer=[answer]), sender(farm))


def test_several_ports_on_one_node_share_one_additional_record() -> None:
    farm = Farm()
    farm.node_at("n1", "10.0.0.1")
    farm.service_on("n1", "web", id="a", port=1)
    farm.service_on("n1", "web", id="b", port=2)
    check(
        Case(
            "web.service.consul",
            "SRV",
            answer=[f"web.service.consul. 0 IN SRV 1 1 {p} n1.node.dc1.consul." for p in (1, 2)],
            additional=["n1.node.dc1.consul. 0 IN A 10.0.0.1"],
        ),
        sender(farm),
    )


@pytest.mark.parametrize("service", ["", "web"])
def test_critical_instance_is_left_out(service: str) -> None:
    farm = article_farm()
    farm.check_on("agent-4", "critical", service=service)
    check(Case("web.service.consul", "A", answer=WEB_A[:1]), sender(farm))


def test_service_without_a_healthy_instance_does_not_exist() -> None:
    farm = article_farm()
    for node in ("agent-1", "agent-4"):
        farm.check_on(node, "critical", service="web")
    check(Case("web.service.consul", "A", "NXDOMAIN"), sender(farm))


def test_critical_node_is_still_found_by_its_name() -> None:
    farm = article_farm()
    farm.check_on("agent-4", "critical", id="serfHealth")
    answer = ["agent-4.node.consul. 0 IN A 10.0.0.4"]
    check(Case("agent-4.node.consul", "A", answer=answer), sender(farm))


@pytest.mark.parametrize(("only_passing", "count"), [(False, 2), (True, 1)])
def test_only_passing_leaves_warnings_out(only_passing: bool, count: int) -> None:
    farm = article_farm()
    farm.check_on("agent-4", "warning", service="web")
    reply = ask(sender(farm, only_passing=only_passing), query("web.service.consul", "A"))
    assert len(lines(reply.answer)) == count


def test_node_names_and_tags_may_have_dots() -> None:
    farm = Farm()
    farm.node_at("db.rack1.example", "10.0.0.9")
    farm.service_on("db.rack1.example", "db", tags=["v1.2"])
    send = sender(farm)
    name = "db.rack1.example.node.consul"
    check(Case(name, "A", answer=[f"{name}. 0 IN A 10.0.0.9"]), send)
    name = "v1.2.db.service.consul"
    check(Case(name, "A", answer=[f"{name}. 0 IN A 10.0.0.9"]), send)
    # RFC 8020: a resolver that asks label by label meets these first
    check(Case("example.node.consul", "A"), send)
    check(Case("rack1.example.node.consul", "A"), send)
    check(Case("2.db.service.consul", "A"), send)
    farm.remove_node("db.rack1.example")
    check(Case("example.node.consul", "A", "NXDOMAIN"), send)


def test_identical_addresses_are_given_once() -> None:
    farm = Farm()
    farm.node_at("n1", "10.0.0.1")
    farm.service_on("n1", "web", id="a", port=1)
    farm.service_on("n1", "web", id="b", port=2)
    answer = ["web.service.consul. 0 IN A 10.0.0.1"]
    check(Case("web.service.consul", "A", answer=answer), sender(farm))


def test_host_name_of_a_node_is_an_alias() -> None:
    farm = Farm()
    farm.node_at("ext", "www.example.com")
    farm.service_on("ext", "site")
    send = sender(farm)
    for kind in ("A", "AAAA", "CNAME", "ANY"):
        for name in ("ext.node.consul", "site.service.consul"):
            check(Case(name, kind, answer=[f"{name}. 0 IN CNAME www.example.com."]), send)


def test_alias_inside_the_domain_is_followed() -> None:
    farm = article_farm()
    farm.node_at("alias", "agent-1.node.consul")
    answer = [
        "alias.node.consul. 0 IN CNAME agent-1.node.consul.",
        "agent-1.node.consul. 0 IN A 10.0.0.1",
    ]
    check(Case("alias.node.consul", "A", answer=answer), sender(farm))


def test_alias_of_itself_ends() -> None:
    farm = Farm()
    farm.node_at("loop", "loop.node.consul")
    reply = ask(sender(farm), query("loop.node.consul", "A"))
    assert 1 <= len(lines(reply.answer)) <= 3


def test_alias_follows_a_change_of_its_target() -> None:
    farm = article_farm()
    farm.node_at("alias", "agent-1.node.consul")
    send = sender(farm)
    ask(send, query("alias.node.consul", "A"))
    farm.node_at("agent-1", "10.9.9.9")
    reply = ask(send, query("alias.node.consul", "A"))
    assert "agent-1.node.consul. 0 IN A 10.9.9.9" in lines(reply.answer)


@pytest.mark.parametrize("number", ["refresh_s", "retry_s", "expire_s", "min_ttl_s"])
@pytest.mark.parametrize("seconds", [-1, 1 << 31])
def test_soa_that_a_record_does_not_hold_is_refused(number: str, seconds: int) -> None:
    with pytest.raises(ValueError, match="SOA"):
        Soa(**{number: seconds})


def test_ttls_by_node_and_service() -> None:
    farm = article_farm()
    farm.service_on("agent-1", "web-api")
    ttls = {"*": 1, "web*": 2, "web": 3}
    send = sender(farm, node_ttl_s=9, service_ttl_s=ttls)
    for name, ttl in [
        ("agent-1.node.consul", 9),
        ("web.service.consul", 3),
        ("web-api.service.consul", 2),
        ("consul.service.consul", 1),
    ]:
        assert {rrset.ttl for rrset in ask(send, query(name, "A")).answer} == {ttl}


def test_alternative_domain_has_the_same_names_and_targets_in_the_primary_one() -> None:
    send = sender(article_farm(), domain="consul.", alt_domain="farm.example.")
    name = "web.service.farm.example"
    check(Case(name, "A", answer=named(WEB_A, name + ".")), send)
    check(Case("nosuch.service.farm.example", "A", "NXDOMAIN"), send)
    reply = ask(send, query(name, "SRV"))
    assert all("node.dc1.consul." in line for line in lines(reply.answer))


def test_text_of_node_meta_is_quoted_as_rfc_1464_says() -> None:
    farm = Farm()
    meta = {"a=b": "c", "rfc1035-x": "raw", "long": "y" * 300}
    farm.node_at("n1", "10.0.0.1", meta)
    found = lines(ask(sender(farm), query("n1.node.consul", "TXT", use_edns=0)).answer)
    assert 'n1.node.consul. 0 IN TXT "a`=b=c"' in found
    assert 'n1.node.consul. 0 IN TXT "raw"' in found
    assert any('" "' in line for line in found)


def test_services_own_address_has_a_reverse_name() -> None:
    farm = article_farm()
    farm.service_on("agent-1", "db", address="192.168.7.9")
    name = "9.7.168.192.in-addr.arpa"
    answer = [f"{name}. 0 IN PTR db.service.dc1.consul."]
    check(Case(name, "PTR", answer=answer), sender(farm))


def test_ipv6_address_has_a_reverse_name() -> None:
    farm = Farm()
    farm.node_at("six", "2001:db8::1")
    name = "1." + "0." * 23 + "8.b.d.0.1.0.0.2.ip6.arpa"
    answer = [f"{name}. 0 IN PTR six.node.dc1.consul."]
    check(Case(name, "PTR", answer=answer), sender(farm))


def test_own_addresses_make_ns_the_one_name_server() -> None:
    send = sender(article_farm(), nameserver_addresses=("10.0.0.53",))
    check(
        Case(
            "consul",
            "NS",
            answer=["consul. 0 IN NS ns.consul."],
            additional=["ns.consul. 0 IN A 10.0.0.53"],
        ),
        send,
    )
    check(Case("ns.consul", "A", answer=["ns.consul. 0 IN A 10.0.0.53"]), send)


def test_record_limit_holds_over_tcp_too() -> None:
    farm = Farm()
    for number in range(10):
        farm.node_at(f"n{number}", f"10.0.0.{number + 1}")
        farm.service_on(f"n{number}", "web")
    front = responder(farm, a_record_limit=2)
    reply = front.respond(query("web.service.consul", "A").to_wire(), tcp=True)
    assert isinstance(reply, bytes)
    assert reply[6:8] == b"\0\2"
    assert not reply[2] & 0x02


def test_nothing_is_called_missing_before_the_catalog_is_there() -> None:
    send = sender(Farm(ready=False))
    check(Case("web.service.consul", "A", "SERVFAIL", authoritative=False), send)
    check(Case("nosuch.node.consul", "A", "SERVFAIL", authoritative=False), send)
    check(Case("1.0.0.10.in-addr.arpa", "PTR", "SERVFAIL", authoritative=False), send)


@pytest.mark.parametrize("case", [c for c in FORMS + SRV if c.rcode == "NOERROR"], ids=str)
def test_every_name_above_one_that_exists_exists(case: Case) -> None:
    """RFC 8020; a resolver with strict QNAME minimisation (RFC 9156) asks for each of them."""
    send = sender(article_farm())
    name = dns.name.from_text(case.name)
    while name.is_subdomain(dns.name.from_text("consul.")):
        for kind in ("A", "NS"):
            assert ask(send, query(name.to_text(), kind)).rcode() == dns.rcode.NOERROR, name
        name = name.parent()
