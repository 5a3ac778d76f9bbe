"""HTTP and DNS of an agent, as its settings have them."""

from __future__ import annotations

import random
import urllib.error
import urllib.request
from dataclasses import replace

import pytest

from callboard.agent.front import UNHEARD_S, dns_settings, forwarder
from callboard.agent.settings import DnsSettings, Ports, development
from callboard.testing import Catalog


@pytest.mark.parametrize(
    ("dns", "max_stale_s"),
    [
        (DnsSettings(max_stale_s=60.0), 60.0),
        (DnsSettings(max_stale_s=60.0, allow_stale=False), UNHEARD_S),
        (DnsSettings(max_stale_s=2.0, allow_stale=False), 2.0),
    ],
)
def test_names_are_answered_without_a_leader_for_as_long_as_told(
    dns: DnsSettings, max_stale_s: float
) -> None:
    assert dns_settings(replace(development(), dns=dns)).max_stale_s == max_stale_s


def test_names_of_services_in_the_settings_may_be_of_any_case() -> None:
    dns = DnsSettings(service_ttl_s={"Web": 7.0})
    assert dns_settings(replace(development(), dns=dns)).service_ttl("web") == 7


@pytest.mark.parametrize(
    ("recursor", "listens", "asked"),
    [
        ("127.0.0.1:8600", "127.0.0.1", False),
        ("10.0.0.5:8600", "0.0.0.0", False),
        ("10.0.0.5:8600", "127.0.0.1", True),
        ("127.0.0.1:53", "127.0.0.1", True),
    ],
)
async def test_agent_is_no_recursor_of_its_own(recursor: str, listens: str, asked: bool) -> None:
    settings = replace(
        development(),
        dns_addresses=(listens,),
        advertise_address="10.0.0.5",
        ports=Ports(dns=8600),
        dns=DnsSettings(recursors=(recursor,)),
    )
    assert (forwarder(settings, random.Random(1)) is not None) is asked


def test_feed_of_another_format_is_refused(catalog: Catalog) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{catalog.url}/v1/internal/feed?format=2", timeout=10)
    with refused.value as answer:
        assert answer.code == 400
        assert answer.read() == b"unknown feed format '2': this agent writes 1"


def test_what_consensus_takes_is_measured(catalog: Catalog) -> None:
    catalog.register("web")
    url = f"{catalog.url}/v1/agent/metrics?format=prometheus"
    with urllib.request.urlopen(url, timeout=10) as answer:
        text = answer.read().decode()
    figures = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[:1] != "#")
    assert float(figures["callboard_raft_commit_seconds_count"]) >= 1
    assert float(figures["callboard_raft_log_write_seconds_count"]) >= 1
    assert float(figures["callboard_gossip_garbage_total"]) == 0
    assert float(figures["callboard_raft_state_hashes_compared_total"]) == 0


def test_answers_are_counted_by_method_and_status(catalog: Catalog) -> None:
    with urllib.request.urlopen(catalog.url + "/v1/status/leader", timeout=5):
        pass
    request = urllib.request.Request(catalog.url + "/v1/nowhere", method="MADEUP")
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(request, timeout=5)
    metrics = catalog._running.front.metrics.text()  # type: ignore[attr-defined]
    assert b'callboard_http_answers_total{method="GET",status="200"} 1.0' in metrics
    assert b'method="MADEUP"' not in metrics
