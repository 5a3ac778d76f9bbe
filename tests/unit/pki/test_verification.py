"""Whether a certificate will be accepted, and the words when not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from tests.harness.certified import CA, Leaf, today

from callboard.pki import certificates, verification
from callboard.pki.certificates import CLIENT_AUTH, SERVER_AUTH
from callboard.pki.roles import Names, names_for
from callboard.pki.verification import NotAccepted

NOW = today()
HUB = names_for("hub", "hub-1")
Judge = Callable[..., None]


@pytest.fixture
def ca() -> CA:
    """A CA with constraints."""
    return CA()


def by_library(
    leaf: Leaf,
    authorities: Sequence[x509.Certificate],
    *,
    name: str = "",
    lists: Sequence[x509.CertificateRevocationList] = (),
) -> None:
    verification.verify([leaf.certificate], authorities, today(), name=name, lists=lists)


def by_openssl(
    leaf: Leaf,
    authorities: Sequence[x509.Certificate],
    *,
    name: str = "",
    lists: Sequence[x509.CertificateRevocationList] = (),
) -> None:
    verification.rehearse([leaf.certificate], leaf.key, authorities, name=name, lists=lists)


both_judges = pytest.mark.parametrize("judge", [by_library, by_openssl])


@both_judges
@pytest.mark.parametrize("role", ["server", "agent", "hub", "operator"])
@pytest.mark.parametrize("constrained", [True, False])
def test_what_is_made_here_is_accepted(judge: Judge, role: str, constrained: bool) -> None:
    ca = CA() if constrained else CA(constraints=None)
    leaf = ca.leaf(names_for(role, "agent-1"))
    judge(leaf, [ca.certificate], lists=[ca.list()])


@both_judges
@pytest.mark.parametrize(
    "name", ["agent-1", "AGENT-1.server.dc1.consul", "127.0.0.1", "::1", "localhost"]
)
def test_each_name_of_it_is_accepted(judge: Judge, ca: CA, name: str) -> None:
    judge(ca.leaf(), [ca.certificate], name=name)


@both_judges
def test_a_wildcard_stands_for_one_label(judge: Judge) -> None:
    ca = CA(constraints=None)
    leaf = ca.leaf(Names(dns=("*.cam.example.org",)))
    judge(leaf, [ca.certificate], name="a.cam.example.org")
    for name in ("a.b.cam.example.org", "cam.example.org"):
        with pytest.raises(NotAccepted):
            judge(leaf, [ca.certificate], name=name)


@both_judges
def test_one_of_several_cas_is_enough(judge: Judge, ca: CA) -> None:
    same_name = CA()
    judge(ca.leaf(), [CA("other").certificate, same_name.certificate, ca.certificate])


@pytest.mark.parametrize(
    ("spoilt", "text"),
    [
        (lambda ca: ca.leaf(now=NOW - timedelta(days=40)), "agent-1 expired on "),
        (lambda ca: ca.leaf(now=NOW + timedelta(days=1)), "agent-1 is not valid before "),
        (lambda ca: CA("other").leaf(), "agent-1 comes from other, which is not among the CAs"),
        (lambda ca: CA().leaf(), "agent-1 is not signed by this test CA: "),
        (
            lambda ca: ca.leaf(Names(dns=("agent-1", "www.example.com"))),
            "www.example.com: outside the name constraints of test CA",
        ),
        (
            lambda ca: ca.leaf(purposes=(ExtendedKeyUsageOID.CODE_SIGNING,)),
            "agent-1 is not made for serverAuth",
        ),
        (lambda ca: ca.leaf(purposes=(SERVER_AUTH,)), "agent-1 is not made for clientAuth"),
        (lambda ca: Leaf(ca.certificate, ca.key), "test CA is a CA's certificate, not a leaf"),
    ],
)
def test_it_says_why_not(ca: CA, spoilt: Callable[[CA], Leaf], text: str) -> None:
    with pytest.raises(NotAccepted) as caught:
        by_library(spoilt(ca), [ca.certificate])
    assert str(caught.value).startswith(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "spoilt",
    [
        lambda ca: ca.leaf(now=NOW - timedelta(days=40)),
        lambda ca: ca.leaf(now=NOW + timedelta(days=1)),
        lambda ca: CA("other").leaf(),
        lambda ca: CA().leaf(),
        lambda ca: ca.leaf(Names(dns=("agent-1", "www.example.com"))),
        lambda ca: Leaf(ca.leaf().certificate, certificates.new_key()),
    ],
)
def test_openssl_refuses_the_same(ca: CA, spoilt: Callable[[CA], Leaf]) -> None:
    with pytest.raises(NotAccepted):
        by_openssl(spoilt(ca), [ca.certificate])


def test_a_leaf_for_one_purpose_is_judged_for_that(ca: CA) -> None:
    for purpose in (SERVER_AUTH, CLIENT_AUTH):
        leaf = ca.leaf(purposes=(purpose,))
        verification.verify([leaf.certificate], [ca.certificate], today(), purposes=(purpose,))
        by_openssl(leaf, [ca.certificate])


def test_an_expired_ca_is_told() -> None:
    old = CA(now=NOW - timedelta(days=100), life=timedelta(days=10))
    with pytest.raises(NotAccepted, match=r"^the CA test CA expired on "):
        verification.verify([_outliving(old)], [old.certificate], today(), purposes=(SERVER_AUTH,))


@both_judges
def test_a_revoked_leaf_is_told(judge: Judge, ca: CA) -> None:
    leaf = ca.leaf(HUB)
    with pytest.raises(NotAccepted, match="revoked"):
        judge(leaf, [ca.certificate], lists=[ca.list(leaf)])


@both_judges
@pytest.mark.parametrize(
    "spoilt",
    [
        lambda ca: ca.list(now=NOW - timedelta(days=30)),
        lambda ca: ca.list(now=NOW + timedelta(days=1)),
        lambda ca: CA("other").list(),
        lambda ca: CA().list(),
    ],
)
def test_a_list_must_be_the_cas_and_in_date(
    judge: Judge, ca: CA, spoilt: Callable[[CA], x509.CertificateRevocationList]
) -> None:
    with pytest.raises(NotAccepted):
        judge(ca.leaf(HUB), [ca.certificate], lists=[spoilt(ca)])


@pytest.mark.parametrize(
    ("unknown", "text"),
    [
        (x509.NameConstraints(None, [x509.DNSName("example.com")]), "exclude names"),
        (
            x509.NameConstraints([x509.UniformResourceIdentifier("dc1.consul")], None),
            "UniformResourceIdentifier: Chromium refuses such",
        ),
    ],
)
def test_constraints_of_unknown_kinds_are_not_passed_over(
    unknown: x509.NameConstraints, text: str
) -> None:
    key = certificates.new_key()
    plain = certificates.authority(key, "test CA", NOW)
    builder = (
        x509.CertificateBuilder()
        .subject_name(plain.subject)
        .issuer_name(plain.subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(plain.not_valid_before_utc)
        .not_valid_after(plain.not_valid_after_utc)
        .add_extension(unknown, critical=True)
    )
    for extension in plain.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    ca = CA()
    ca.certificate, ca.key = builder.sign(key, certificates.HASH), key
    with pytest.raises(NotAccepted, match=text):
        by_library(ca.leaf(), [ca.certificate])


def _outliving(ca: CA) -> x509.Certificate:
    """A leaf that ends after its CA, which `certificates.leaf` never makes."""
    made = ca.leaf(now=NOW - timedelta(days=95), life=timedelta(days=1)).certificate
    builder = (
        x509.CertificateBuilder()
        .subject_name(made.subject)
        .issuer_name(made.issuer)
        .public_key(certificates.new_key().public_key())
        .serial_number(2)
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=1))
    )
    for extension in made.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    return builder.sign(ca.key, certificates.HASH)
