"""`callboard tls renew`, `revoke`, `crl`, `show` and `verify`."""

from __future__ import annotations

import base64
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.harness.certified import CA, today
from tests.unit.tls.conftest import Tool

from callboard.pki import certificates, reading, verification

CLIENT = Path("dc1-client-consul-0.pem")
CLIENT_KEY = Path("dc1-client-consul-0-key.pem")
CRL = Path("consul-agent-ca-crl.pem")


@pytest.fixture
def with_client(with_ca: Tool) -> Tool:
    """Run it where a CA and a client's certificate have been made."""
    with_ca.good("cert create -client")
    return with_ca


def number() -> int:
    found = reading.read_lists(CRL)[0]
    return found.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


def test_renewal_keeps_key_and_names_and_life(with_client: Tool) -> None:
    key, before = CLIENT_KEY.read_bytes(), reading.read_certificate(CLIENT)
    assert with_client.good(f"renew {CLIENT}").endswith(f"==> Renewed {CLIENT}\n")
    after = reading.read_certificate(CLIENT)
    assert CLIENT_KEY.read_bytes() == key
    assert after.public_key() == before.public_key()
    assert after.serial_number != before.serial_number
    assert verification.names_of(after) == verification.names_of(before)
    assert verification.usages_of(after) == verification.usages_of(before)
    span = before.not_valid_after_utc - before.not_valid_before_utc
    assert after.not_valid_after_utc - after.not_valid_before_utc == span
    with_client.good(f"verify {CLIENT}")


def test_renewal_is_one_rename(with_client: Tool) -> None:
    """Who has the old file open reads the old certificate, whole."""
    before = CLIENT.read_bytes()
    with CLIENT.open("rb") as file:
        with_client.good(f"renew {CLIENT}")
        assert file.read() == before
    assert CLIENT.read_bytes() != before
    assert not [path for path in with_client.directory.iterdir() if "tmp" in path.name]


def test_renewal_adds_names(with_client: Tool) -> None:
    with_client.good(f"renew -additional-dnsname x.consul -days 3 {CLIENT}")
    with_client.good(f"verify -name x.consul {CLIENT}")
    found = reading.read_certificate(CLIENT)
    assert found.not_valid_after_utc < today() + timedelta(days=4)


def test_a_name_outside_the_constraints_leaves_the_old_certificate(with_client: Tool) -> None:
    before = CLIENT.read_bytes()
    line = with_client.refused(f"renew -public-host cam.example.org {CLIENT}")
    assert line.endswith("callboard tls ca create -directory=new-ca -public-host=cam.example.org")
    assert CLIENT.read_bytes() == before


def test_a_foreign_key_beside_it_leaves_the_old_certificate(with_client: Tool) -> None:
    before = CLIENT.read_bytes()
    CLIENT_KEY.write_bytes(certificates.key_pem(certificates.new_key()))
    line = with_client.refused(f"renew {CLIENT}")
    assert line == "the private key is not that of the certificate client.dc1.consul"
    assert CLIENT.read_bytes() == before


def test_a_certificate_of_another_ca_is_not_renewed(with_ca: Tool) -> None:
    CA().leaf().write(with_ca.directory)
    assert with_ca.refused("renew leaf.pem") == "leaf.pem: not from the CA consul-agent-ca.pem"
    assert with_ca.refused("revoke leaf.pem") == "leaf.pem: not from the CA consul-agent-ca.pem"


def test_what_is_revoked_is_on_the_list_and_refused(with_client: Tool) -> None:
    out = with_client.good(f"revoke {CLIENT}")
    assert out == f"==> Revoked {CLIENT}\n==> Saved {CRL}\n"
    line = with_client.refused(f"verify -crl {CRL} {CLIENT}")
    assert line.startswith(f"{CLIENT}: client.dc1.consul was revoked on ")
    assert "a new key is wanted" in with_client.refused(f"renew {CLIENT}")


def test_verify_reads_the_list_beside_the_ca_without_being_told(with_client: Tool) -> None:
    with_client.good(f"revoke {CLIENT}")
    line = with_client.refused(f"verify {CLIENT}")
    assert line.startswith(f"{CLIENT}: client.dc1.consul was revoked on ")


def test_a_serial_number_is_revoked_as_show_prints_it(with_client: Tool) -> None:
    serial = f"{reading.read_certificate(CLIENT).serial_number:x}"
    assert f"  serial       {serial}\n" in with_client.good(f"show {CLIENT}")
    with_client.good(f"revoke {serial}")
    assert f"  revoked      {serial} on " in with_client.good(f"show {CRL}")


def test_neither_a_file_nor_a_serial_number_is_told(with_ca: Tool) -> None:
    assert with_ca.refused("revoke nobody.pem") == (
        "nobody.pem: no such file, and no serial number"
    )
    assert not CRL.exists()


def test_each_list_has_a_higher_number(with_client: Tool) -> None:
    with_client.good("crl")
    first = number()
    with_client.good("crl -days 30")
    assert number() == first + 1
    until = reading.read_lists(CRL)[0].next_update_utc
    assert until is not None and until > today() + timedelta(days=29)


def test_good_certificates_pass_with_a_list(with_client: Tool) -> None:
    with_client.good("crl")
    with_client.good(f"verify -crl {CRL} {CLIENT}")


def test_an_expired_list_is_told(with_client: Tool) -> None:
    ca = CA()
    ca.leaf().write(with_client.directory)
    ca.write(with_client.directory)
    old = ca.list(now=today() - timedelta(days=30))
    CRL.write_bytes(certificates.pem(old))
    line = with_client.refused(f"verify -ca ca.pem -crl {CRL} leaf.pem")
    assert line.startswith("leaf.pem: the revocation list of test CA expired on ")


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ("-name www.example.com", "client.dc1.consul is not for www.example.com, but for "),
        ("-role server", "it does not give the role server in dc1.consul; it has agent"),
        ("-role agent -dc dc2", "it does not give the role agent in dc2.consul; it has no role"),
        ("-ca other.pem", "client.dc1.consul comes from Callboard CA "),
        ("-key foreign.pem", "the private key is not that of the certificate client.dc1.consul"),
    ],
)
def test_verify_says_why_not(with_client: Tool, flags: str, text: str) -> None:
    CA().write(with_client.directory, "other")
    Path("foreign.pem").write_bytes(certificates.key_pem(certificates.new_key()))
    assert with_client.refused(f"verify {flags} {CLIENT}").startswith(f"{CLIENT}: {text}")


def test_verify_says_what_is_expired(tls: Tool) -> None:
    ca = CA(now=today() - timedelta(days=9))
    ca.write(tls.directory)
    ca.leaf(now=today() - timedelta(days=9), life=timedelta(days=8)).write(tls.directory)
    line = tls.refused("verify -ca ca.pem leaf.pem")
    assert line.startswith("leaf.pem: agent-1 expired on ")


def test_show_tells_a_pair_from_a_mismatched_one(with_client: Tool) -> None:
    assert f"  pair         that of {CLIENT}\n" in with_client.good(f"show {CLIENT_KEY}")
    CLIENT_KEY.write_bytes(certificates.key_pem(certificates.new_key()))
    assert f"  pair         NOT that of {CLIENT}\n" in with_client.good(f"show {CLIENT_KEY}")


def test_show_never_prints_a_key(with_client: Tool) -> None:
    body = CLIENT_KEY.read_text().splitlines()[1]
    assert body not in with_client.good(f"show {CLIENT_KEY}")


def test_show_reads_requests(with_ca: Tool) -> None:
    ca = CA()
    leaf = ca.leaf()
    asked = certificates.request(leaf.key, "me", verification.names_of(leaf.certificate))
    Path("request.pem").write_bytes(certificates.pem(asked))
    out = with_ca.good("show request.pem")
    assert "  request of   me\n" in out and "  signed       with its own key\n" in out


KINDS = [b"CERTIFICATE", b"X509 CRL", b"PRIVATE KEY", b"CERTIFICATE REQUEST"]
RUBBISH = st.one_of(
    st.binary(max_size=400),
    st.builds(
        lambda kind, inside: b"-----BEGIN %b-----\n%b\n-----END %b-----\n" % (kind, inside, kind),
        st.sampled_from(KINDS),
        st.one_of(st.binary(max_size=200), st.binary(max_size=200).map(base64.b64encode)),
    ),
)
READERS = [
    "show any.pem",
    "verify any.pem",
    f"verify -ca any.pem {CLIENT}",
    f"verify -key any.pem {CLIENT}",
    f"verify -crl any.pem {CLIENT}",
    "renew any.pem",
    "revoke any.pem",
    "trust -print -ca any.pem",
    "cert create -client -ca any.pem -key consul-agent-ca-key.pem",
    "cert create -client -ca consul-agent-ca.pem -key any.pem",
]


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(body=RUBBISH, line=st.sampled_from(READERS))
def test_any_bytes_in_a_file_are_refused_in_one_line_that_names_it(
    with_client: Tool, body: bytes, line: str
) -> None:
    place = Path("any.pem")
    place.write_bytes(body)
    place.chmod(0o600)
    assert with_client.refused(line).startswith("any.pem: ")
