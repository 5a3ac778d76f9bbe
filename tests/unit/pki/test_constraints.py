"""Name constraints: asked here as OpenSSL asks them later."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.harness.certified import CA

from callboard.pki import constraints, verification
from callboard.pki.certificates import Constraints
from callboard.pki.roles import Address, Names
from callboard.pki.verification import NotAccepted

PERMITTED = Constraints(
    dns=("consul", "localhost", "agent-1"),
    networks=(ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("fc00::/7")),
)
LABELS = st.sampled_from(["consul", "localhost", "agent-1", "a", "xconsul", "dc1", "org"])
DNS = st.lists(LABELS, min_size=1, max_size=3).map(".".join)
ADDRESSES = st.sampled_from(
    [ipaddress.ip_address(text) for text in ("127.0.0.1", "128.0.0.1", "::1", "fd00::5")]
)


def test_a_ca_has_the_constraints_it_was_made_with() -> None:
    assert constraints.constraints_of(CA(constraints=PERMITTED).certificate) == PERMITTED
    assert constraints.constraints_of(CA(constraints=None).certificate) is None


def test_without_constraints_nothing_is_outside() -> None:
    assert constraints.outside(Names(dns=("www.example.com",)), None) == ()


@given(
    dns=st.lists(DNS, min_size=1, max_size=2),
    addresses=st.lists(ADDRESSES, max_size=2),
)
def test_what_is_refused_here_openssl_refuses_too_and_nothing_else(
    dns: list[str], addresses: list[Address]
) -> None:
    ca = AUTHORITY
    leaf = ca.leaf(Names(("agent-1", *dns), tuple(addresses)))
    ours = constraints.outside(verification.names_of(leaf.certificate), PERMITTED) == ()
    try:
        verification.rehearse([leaf.certificate], leaf.key, [ca.certificate], name="agent-1")
        theirs = True
    except NotAccepted:
        theirs = False
    assert ours == theirs


AUTHORITY = CA(constraints=PERMITTED)


def test_those_for_a_domain_hold_it_localhost_and_private_networks() -> None:
    made = constraints.constraints_for(
        "Farm.", additional=["Cam.Example.org.", "203.0.113.9", "2001:db8::/32", "[::1]"]
    )
    assert made.dns == ("farm", "localhost", "cam.example.org")
    texts = [str(network) for network in made.networks]
    assert texts[:2] == ["127.0.0.0/8", "::1/128"]
    assert texts[-2:] == ["203.0.113.9/32", "2001:db8::/32"]
    assert not any(network.is_global for network in constraints.PRIVATE)


@pytest.mark.parametrize("text", ["", ".", "a..b", "-a", "a-", "a b", "x" * 64, "a/b", "a\0"])
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no DNS name"):
        constraints.checked_name(text)


@pytest.mark.parametrize(
    ("text", "name"),
    [("Bücher.example", "xn--bcher-kva.example"), ("*.a.b.", "*.a.b"), ("a_b", "a_b")],
)
def test_names_are_written_as_in_certificates(text: str, name: str) -> None:
    assert constraints.checked_name(text) == name


@given(st.text(max_size=300))
def test_any_text_is_a_name_or_a_clear_error(text: str) -> None:
    try:
        assert constraints.checked_name(text).isascii()
    except ValueError as problem:
        assert "is no DNS name" in str(problem)
