"""A network outside gets so many UDP answers a second, and then TC or silence."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter

import dns.flags
import dns.message
import pytest
from tests.harness.dnscase import query
from tests.harness.eventually import eventually
from tests.harness.farm import article_farm

from callboard.dns import ratelimit as ratelimit_module
from callboard.dns import server as server_module
from callboard.dns.ratelimit import RateLimit, Verdict, network_of
from callboard.dns.server import DnsServer
from callboard.dns.settings import DnsSettings


def verdicts(limit: RateLimit, client: str, count: int, now: float) -> Counter[Verdict]:
    return Counter(limit.judge(client, now) for _ in range(count))


def test_beyond_the_rate_half_of_the_answers_are_truncated_and_half_dropped() -> None:
    limit = RateLimit(10)
    assert verdicts(limit, "192.0.2.1", 30, 5.0) == {
        Verdict.SEND: 10,
        Verdict.TRUNCATE: 10,
        Verdict.DROP: 10,
    }


def test_answers_come_back_with_time_and_never_more_than_a_second_of_them() -> None:
    limit = RateLimit(10)
    verdicts(limit, "192.0.2.1", 30, 5.0)
    assert verdicts(limit, "192.0.2.1", 30, 5.5)[Verdict.SEND] == 5
    assert verdicts(limit, "192.0.2.1", 30, 500.0)[Verdict.SEND] == 10


def test_networks_are_counted_apart() -> None:
    limit = RateLimit(10)
    verdicts(limit, "192.0.2.1", 30, 5.0)
    assert limit.judge("192.0.2.200", 5.0) is not Verdict.SEND
    assert limit.judge("198.51.100.1", 5.0) is Verdict.SEND


@pytest.mark.parametrize(
    ("client", "network"),
    [
        ("192.0.2.77", "192.0.2.0"),
        ("2001:db8:1:2ff:3::4", "2001:db8:1:200::"),
        ("fe80::1%eth0", "fe80::"),
        ("::ffff:192.0.2.77", "192.0.2.0"),
        ("nonsense", "nonsense"),
    ],
)
def test_network_of_an_address(client: str, network: str) -> None:
    assert network_of(client) == network


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ratelimit_module, "NETWORKS_MAX", 8)
    limit = RateLimit(1)
    for number in range(100):
        limit.judge(f"192.0.{number}.1", 1.0)
    assert len(limit._buckets) <= 8


@pytest.mark.parametrize("private", [True, False])
async def test_clients_of_private_networks_are_not_limited(
    private: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "is_private", lambda client: private)
    server = DnsServer(article_farm(), DnsSettings(answers_per_second=1), "127.0.0.1", 0)
    await server.start()
    packet = query("web.service.consul", "A", use_edns=0).to_wire()
    replies: list[dns.message.Message] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect(("127.0.0.1", server.udp_port))
        for _ in range(20):
            sock.send(packet)
        await eventually(lambda: server.figures()["queries_udp"] == 20)
        for _ in range(20 - server.held_back + server.held_back // 2):
            octets = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(sock, 4096), 5)
            replies.append(dns.message.from_wire(octets))
    cut = [reply for reply in replies if reply.flags & dns.flags.TC]
    assert all(not reply.answer and reply.question for reply in cut)
    assert all(reply.answer for reply in replies if reply not in cut)
    assert bool(cut) is (server.held_back > 0) is not private
    await server.stop()
