"""Where the client sees the hub."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.hub.mercure.addresses import address_of

BEHIND = {
    "host": "hub:8801",
    "x-forwarded-for": "192.0.2.7",
    "x-forwarded-host": "farm.example:1443",
    "x-forwarded-proto": "https",
    "x-forwarded-prefix": "/hub",
}


def test_without_a_proxy_the_hub_is_where_the_request_went() -> None:
    assert address_of({"host": "localhost:8800"}, "http").hub == (
        "http://localhost:8800/.well-known/mercure"
    )


def test_behind_a_proxy_it_is_where_the_proxy_was_asked() -> None:
    address = address_of(BEHIND, "http")
    assert address.hub == "https://farm.example:1443/hub/.well-known/mercure"
    assert address.url("/t/a") == "https://farm.example:1443/hub/t/a"


def test_the_metadata_of_a_hub_below_a_prefix_lies_before_the_prefix() -> None:
    """RFC 9728, 3.1."""
    assert address_of(BEHIND, "http").metadata == (
        "https://farm.example:1443/.well-known/oauth-protected-resource/hub/.well-known/mercure"
    )


def test_the_port_that_a_scheme_has_anyway_is_left_out() -> None:
    assert address_of({"host": "Hub.example:443"}, "https").origin == "https://hub.example"


def test_of_a_chain_of_proxies_the_first_is_where_the_client_went() -> None:
    headers = BEHIND | {"x-forwarded-host": "outer.example, inner.example"}
    assert address_of(headers, "http").origin == "https://outer.example"


@pytest.mark.parametrize("host", ["", "a b", 'evil"', "a/b", "[::1", "x" * 300, "a:b"])
def test_a_host_that_is_none_makes_urls_relative(host: str) -> None:
    assert address_of({"host": host}, "http").hub == "/.well-known/mercure"


@pytest.mark.parametrize("prefix", ["hub", "/a/../b", "//evil.example", "/a b", "/" + "x" * 200])
def test_a_prefix_that_is_none_is_not_used(prefix: str) -> None:
    assert address_of(BEHIND | {"x-forwarded-prefix": prefix}, "http").prefix == ""


@given(st.text(), st.text(), st.text())
def test_nothing_that_a_client_writes_breaks_out_of_a_link(a: str, b: str, c: str) -> None:
    headers = {"host": a, "x-forwarded-prefix": b, "x-forwarded-proto": c}
    assert not set('<>"\r\n ;,') & set(address_of(headers, "http").hub)
