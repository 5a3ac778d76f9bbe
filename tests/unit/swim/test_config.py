"""The presets are memberlist's, and impossible settings are refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from callboard.swim.config import lan, local


def test_lan_has_memberlists_constants() -> None:
    config = lan("a", "10.0.0.1", 7946)
    assert (config.probe_interval_s, config.probe_timeout_s, config.indirect_checks) == (1, 0.5, 3)
    assert (config.gossip_interval_s, config.gossip_nodes, config.retransmit_mult) == (0.2, 3, 4)
    assert (config.suspicion_mult, config.suspicion_max_timeout_mult) == (4, 6)
    assert (config.awareness_max, config.push_pull_interval_s) == (8, 30)
    assert (config.gossip_to_the_dead_s, config.udp_bytes_max) == (30, 1400)


def test_local_is_quicker() -> None:
    config = local("a", "127.0.0.1", 7946)
    assert (config.probe_timeout_s, config.suspicion_mult, config.gossip_interval_s) == (
        0.2,
        3,
        0.1,
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 129}, "name"),
        ({"address": "0.0.0.0"}, "address"),
        ({"address": "agent-1"}, "does not appear to be an IPv4 or IPv6 address"),
        ({"port": 0}, "port"),
        ({"meta": b"x" * 513}, "513 bytes"),
        ({"probe_timeout_s": 1.0}, "probe_timeout_s"),
    ],
)
def test_impossible_setting_is_refused_by_name(change: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        replace(lan("a", "10.0.0.1", 7946), **change)  # type: ignore[arg-type]
