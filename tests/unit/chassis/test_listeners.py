"""The table of ports, and the guard that keeps plain listeners on loopback."""

from __future__ import annotations

import pytest

from callboard.chassis import listeners
from callboard.chassis.listeners import LISTENERS, PlainRefused, Security, check_plain


def test_no_program_opens_one_port_twice() -> None:
    seen = [(row.program, row.port) for row in LISTENERS]
    assert len(seen) == len(set(seen))


def test_every_listener_defaults_to_loopback() -> None:
    assert {row.default_bind for row in LISTENERS} == {"127.0.0.1"}


def test_nothing_internal_is_published() -> None:
    internal = [row for row in LISTENERS if row.security is Security.MUTUAL_TLS]
    assert not [row for row in internal if row.published]


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.8.7", "::1", "[::1]", "::ffff:127.0.0.1"])
def test_loopback_is_allowed(address: str) -> None:
    check_plain([address], allow_plain=False, what="http")


@pytest.mark.parametrize(
    "address",
    ["0.0.0.0", "::", "192.168.1.1", "8.8.8.8", "::ffff:10.0.0.1", "128.0.0.1", "localhost", ""],
)
def test_everything_else_is_refused(address: str) -> None:
    with pytest.raises(PlainRefused) as refused:
        check_plain(["127.0.0.1", address], allow_plain=False, what="http")
    assert "-allow-plain (ALLOW_PLAIN=1, key allow_plain)" in str(refused.value)
    assert str(refused.value).startswith("http would listen in the clear on ")


def test_allow_plain_allows_it() -> None:
    check_plain(["0.0.0.0"], allow_plain=True, what="http")


def test_ports_are_found_by_name() -> None:
    assert listeners.default_port("agent", "http") == 8500
    with pytest.raises(KeyError, match="agent has no listener gopher"):
        listeners.listener("agent", "gopher")


def test_the_table_is_shown_row_by_row() -> None:
    assert len(listeners.as_markdown().splitlines()) == len(LISTENERS) + 2
