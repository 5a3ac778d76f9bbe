"""What a proxy in front says of a client."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.chassis.proxied import client_of, is_proxied, prefix_of


@pytest.mark.parametrize(
    "name", ["x-forwarded-for", "x-forwarded-prefix", "forwarded", "via", "x-real-ip"]
)
def test_each_field_of_a_proxy_tells_of_one(name: str) -> None:
    assert is_proxied({"host": "a", name: "b"})
    assert not is_proxied({"host": "a"})


def test_a_proxy_is_believed_only_if_it_is_ours() -> None:
    told = {"x-forwarded-for": "203.0.113.9, 192.0.2.7"}
    assert client_of(told, "127.0.0.1", trusted=True) == "192.0.2.7"
    assert client_of(told, "127.0.0.1", trusted=False) == "127.0.0.1"
    assert client_of({"x-forwarded-for": "\x1b[31m"}, "127.0.0.1", trusted=True) == "127.0.0.1"


def test_a_prefix_ends_without_a_slash() -> None:
    assert prefix_of({"x-forwarded-prefix": "/media/"}) == "/media"
    assert prefix_of({}) == ""


@given(st.text(max_size=150))
def test_no_prefix_leaves_the_host(text: str) -> None:
    prefix = prefix_of({"x-forwarded-prefix": text})
    assert prefix == "" or (prefix.startswith("/") and "//" not in prefix and ".." not in prefix)
