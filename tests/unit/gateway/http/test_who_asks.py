"""Tokens, addresses, prefixes, ICE servers: what is read of a request before it does anything."""

from __future__ import annotations

import base64
import hmac

import pytest

from callboard.gateway.http.bearer import Bearer
from callboard.gateway.http.ice_servers import GOOD_FOR_S, IceServers
from callboard.gateway.http.places import (
    asks_loopback,
    is_own_page,
)


def challenge(headers: dict[str, str], token: str = "secret") -> str | None:
    refused = Bearer(token).refusal(headers)
    if refused is None:
        return None
    assert refused.status == 401
    return dict(refused.headers)["WWW-Authenticate"]


def test_the_right_token_passes() -> None:
    assert challenge({"authorization": "Bearer secret"}) is None
    assert challenge({"authorization": "bearer secret"}) is None


def test_no_token_is_asked_for_without_an_error() -> None:
    """RFC 6750, 3.1."""
    for headers in ({}, {"authorization": "Basic c2VjcmV0"}, {"authorization": "Bearersecret"}):
        assert challenge(headers) == 'Bearer realm="callboard"'


@pytest.mark.parametrize("token", ["", "Secret", "secret2", "secre", "sécret", "\udcff"])
def test_a_wrong_token_is_called_invalid(token: str) -> None:
    assert challenge({"authorization": f"Bearer {token}"}) == (
        'Bearer realm="callboard", error="invalid_token"'
    )


@pytest.mark.parametrize("token", ["", "two words", "line\n", "ä"])
def test_a_token_that_no_header_can_carry_is_refused(token: str) -> None:
    with pytest.raises(ValueError, match="printable"):
        Bearer(token)


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [
        ("localhost", True),
        ("LOCALHOST:1443", True),
        ("app.localhost:8889", True),
        ("127.0.0.1:8889", True),
        ("127.9.8.7", True),
        ("[::1]:8889", True),
        ("localhost.", True),
        ("", False),
        ("192.168.0.2:8889", False),
        ("localhost.example.com", False),
        ("notlocalhost", False),
        ("[::1", False),
        ("gateway:8889", False),
    ],
)
def test_who_called_us_by_a_loopback_name(host: str, is_loopback: bool) -> None:
    assert asks_loopback({"host": host}) == is_loopback


@pytest.mark.parametrize(
    ("headers", "own"),
    [
        ({"host": "localhost:8889"}, True),
        ({"host": "localhost:8889", "origin": "http://localhost:8889"}, True),
        ({"host": "a.example", "origin": "https://a.example"}, True),
        ({"host": "a.example:443", "origin": "https://a.example"}, True),
        ({"host": "localhost:8889", "origin": "http://localhost:8080"}, False),
        ({"host": "localhost:8889", "origin": "null"}, False),
        ({"host": "localhost:8889", "origin": "https://evil.example"}, False),
        ({"host": "localhost:8889", "sec-fetch-site": "cross-site"}, False),
        ({"host": "localhost:8889", "sec-fetch-site": "same-origin"}, True),
    ],
)
def test_pages_of_other_sites_show(headers: dict[str, str], own: bool) -> None:
    assert is_own_page(headers) == own


def test_ice_servers_are_links_with_credentials_that_end() -> None:
    servers = IceServers(["stun:a.example:3478", "turn:b.example?transport=udp"], "s3cret", "x")
    (_, stun), (_, turn) = servers.links(1000.4)
    assert stun == '<stun:a.example:3478>; rel="ice-server"'
    name = f"{1000 + GOOD_FOR_S}:x"
    code = base64.b64encode(hmac.digest(b"s3cret", name.encode(), "sha1")).decode()
    assert turn == (
        '<turn:b.example?transport=udp>; rel="ice-server"; '
        f'username="{name}"; credential="{code}"; credential-type="password"'
    )
    assert servers.listed(1000.4) == [
        {"urls": "stun:a.example:3478"},
        {"urls": "turn:b.example?transport=udp", "username": name, "credential": code},
    ]


def test_credentials_end_when_they_are_told_to() -> None:
    (server,) = IceServers(["turn:b.example"], "s3cret", good_for_s=60).listed(1000)
    assert server["username"] == "1060:viewer"


@pytest.mark.parametrize(
    "url", ["http://a", "turn:", "stun:a b", 'turn:a>; rel="x"', "stun:a\r\nX: y"]
)
def test_what_is_no_ice_server_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="is no stun:"):
        IceServers([url], "secret")


def test_turn_without_a_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="needs the secret"):
        IceServers(["turn:a.example"])
