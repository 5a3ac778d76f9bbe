"""What agent/self says of the settings."""

from __future__ import annotations

from dataclasses import replace

from callboard.agent.debug_config import debug_config
from callboard.agent.settings import OFF, development


def test_addresses_and_ports_have_consuls_names_and_forms() -> None:
    shown = debug_config(development("n1"), "id-1")
    assert shown["NodeName"] == "n1" and shown["NodeID"] == "id-1"
    assert shown["HTTPAddrs"] == ["tcp://127.0.0.1:8500"]
    assert shown["DNSAddrs"] == ["tcp://127.0.0.1:8600", "udp://127.0.0.1:8600"]
    assert (shown["DNSDomain"], shown["MaxQueryTime"]) == ("consul.", "10m0s")
    assert (shown["Bootstrap"], shown["BootstrapExpect"], shown["ServerMode"]) == (True, 0, True)


def test_what_is_off_listens_nowhere() -> None:
    settings = development("n1")
    shown = debug_config(replace(settings, ports=replace(settings.ports, dns=OFF)), "id-1")
    assert shown["DNSAddrs"] == [] and shown["DNSPort"] == -1


def test_the_gossip_key_is_hidden() -> None:
    shown = debug_config(replace(development("n1"), encrypt_key=b"k" * 16), "id-1")
    assert shown["EncryptKey"] == "hidden"
    assert "kkkk" not in str(shown)
