"""Which Hosts are ours, and which of them are public."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.fileserver.guards import PRIVATE, PUBLIC, REFUSED, Hosts, is_public
from callboard.fileserver.server import address_group

OURS = Hosts(["www.callboard.org", "*.stage.callboard.org", "fileserver"], ["door"])


@pytest.mark.parametrize(
    ("host", "wanted"),
    [
        (b"www.callboard.org", PUBLIC),
        (b"WWW.Callboard.ORG.:1443", PUBLIC),
        (b"a.stage.callboard.org", PUBLIC),
        (b"a.b.stage.callboard.org", REFUSED),
        (b"stage.callboard.org", REFUSED),
        (b"callboard.org", REFUSED),
        (b"www.callboard.org.evil.com", REFUSED),
        (b"evil.com", REFUSED),
        (b"localhost:1443", PRIVATE),
        (b"x.localhost", PRIVATE),
        (b"fileserver", PRIVATE),
        (b"door", PRIVATE),
        (b"127.0.0.1:1443", PRIVATE),
        (b"203.0.113.9", PRIVATE),
        (b"[::1]:1443", PRIVATE),
    ],
)
def test_hosts(host: bytes, wanted: int) -> None:
    assert OURS.standing(host) == wanted
    assert OURS.standing(host) == wanted, "the second time it is remembered"


def test_a_star_is_any_host_but_public_names_only_are_public() -> None:
    anybody = Hosts([], ["*"])
    assert anybody.standing(b"evil.com") == PUBLIC
    assert anybody.standing(b"printer") == PRIVATE


@pytest.mark.parametrize(
    "name",
    [
        "localhost",
        "printer",
        "a.localhost",
        "a.local",
        "a.internal",
        "a.test",
        "a.home.arpa",
        "127.0.0.1",
        "::1",
        "10.1",
        "a.service.consul",
        "a.lan",
        "a.1",
        "127.0.0.1.",
    ],
)
def test_names_that_are_not_public(name: str) -> None:
    assert not is_public(name)


def test_an_endless_name_is_nobodys() -> None:
    assert OURS.standing(b"a" * 300 + b".localhost") == REFUSED


@pytest.mark.parametrize(
    ("address", "wanted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::1", "::/64"),
    ],
)
def test_addresses_of_one_client_are_counted_together(address: str, wanted: str) -> None:
    assert address_group(address) == wanted


@given(st.binary(max_size=40))
def test_any_host_is_judged(host: bytes) -> None:
    assert OURS.standing(host) in (REFUSED, PRIVATE, PUBLIC)
