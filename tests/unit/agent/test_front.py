"""HTTP and DNS of an agent, as its settings have them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from callboard.agent.front import UNHEARD_S, dns_settings
from callboard.agent.settings import DnsSettings, development


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
