"""The contexts are strict: what is old, missing, expired or foreign does not get in."""

from __future__ import annotations

import ssl
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from tests.harness.certified import CA, Leaf, material, today
from tests.harness.memory_tls import connect

from callboard.pki import certificates
from callboard.pki.contexts import Material, client_context, server_context
from callboard.pki.roles import Names, names_for

SERVER = "server.dc1.consul"


@pytest.fixture
def files(tmp_path: Path) -> Material:
    """A server's files, and its CA's."""
    ca = CA()
    return material(tmp_path, ca.leaf(), ca)


def test_both_sides_prove_themselves(files: Material) -> None:
    made = connect(
        server_context(files, client=ssl.CERT_REQUIRED, alpn=("h2", "http/1.1")),
        client_context(files, alpn=("http/1.1",)),
        SERVER,
    )
    assert made.client.version() == "TLSv1.3"
    assert made.client.selected_alpn_protocol() == "http/1.1"
    peer = made.server.getpeercert()
    assert peer and ("URI", "spiffe://dc1.consul/svc/server") in peer["subjectAltName"]


@pytest.mark.parametrize("asked", [ssl.CERT_REQUIRED, ssl.CERT_OPTIONAL])
def test_who_is_asked_for_a_certificate_gets_no_tickets(
    files: Material, asked: ssl.VerifyMode
) -> None:
    """By a ticket it would get in when its certificate has ended, or the list is out of date."""
    listener, caller = server_context(files, client=asked), client_context(files)
    first = connect(listener, caller, SERVER)
    assert first.client.session is None or not first.client.session.has_ticket
    again = connect(listener, caller, SERVER, first.client.session)
    assert not again.client.session_reused
    caller.maximum_version = ssl.TLSVersion.TLSv1_2
    old = connect(listener, caller, SERVER)
    assert old.client.session is not None and not old.client.session.has_ticket


def test_who_is_not_asked_gets_tickets(files: Material) -> None:
    listener, caller = server_context(files), client_context(files)
    session = connect(listener, caller, SERVER).client.session
    assert session is not None and session.has_ticket
    assert connect(listener, caller, SERVER, session).client.session_reused


def test_a_client_without_a_certificate_is_refused(files: Material) -> None:
    bare = ssl.create_default_context(cafile=str(files.authorities))
    with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        connect(server_context(files, client=ssl.CERT_REQUIRED), bare, SERVER)


def test_a_client_of_another_ca_is_refused(files: Material, tmp_path: Path) -> None:
    other = CA("other CA")
    theirs = material(tmp_path / "other", other.leaf(), other)
    caller = client_context(theirs)
    for file in (files.authorities, files.revoked):
        caller.load_verify_locations(file)
    with pytest.raises(
        ssl.SSLCertVerificationError, match="self-signed certificate in certificate chain"
    ):
        connect(server_context(files, client=ssl.CERT_REQUIRED), caller, SERVER)


def test_a_ca_of_the_same_name_is_another_one(files: Material, tmp_path: Path) -> None:
    """Names of CA, server and roles can be had by anybody; the key cannot."""
    twin = CA()
    theirs = material(tmp_path / "twin", twin.leaf(), twin)
    assert theirs.authorities is not None and files.authorities is not None
    own, other = (
        x509.load_pem_x509_certificate(one.read_bytes())
        for one in (files.authorities, theirs.authorities)
    )
    assert own.subject == other.subject
    caller = client_context(files)
    caller.load_cert_chain(theirs.certificate, theirs.key)
    with pytest.raises(ssl.SSLCertVerificationError):
        connect(server_context(files, client=ssl.CERT_REQUIRED), caller, SERVER)
    with pytest.raises(ssl.SSLCertVerificationError):
        connect(server_context(theirs), client_context(files), SERVER)


def test_a_server_of_another_name_is_refused(files: Material) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        connect(server_context(files), client_context(files), "hub.service.consul")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_old_versions_are_refused(files: Material, version: ssl.TLSVersion) -> None:
    old = client_context(files)
    old.minimum_version = old.maximum_version = version
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError):
        connect(server_context(files), old, SERVER)


def test_tls_1_2_has_forward_secrecy_and_authenticated_ciphers(files: Material) -> None:
    for made in (server_context(files), client_context(files)):
        names = [one["name"] for one in made.get_ciphers() if one["protocol"] == "TLSv1.2"]
        assert names
        assert all("ECDHE" in name and ("GCM" in name or "CHACHA20" in name) for name in names)


def test_a_cipher_without_authenticated_encryption_is_refused(files: Material) -> None:
    old = client_context(files)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    old.set_ciphers("ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError):
        connect(server_context(files), old, SERVER)


def test_a_leaf_without_its_issuers_key_identifier_is_refused(tmp_path: Path) -> None:
    """VERIFY_X509_STRICT, which Python sets by itself from 3.13 on."""
    ca = CA(constraints=None)
    lax = _without_identifiers(ca)
    files = material(tmp_path, lax, ca)
    with pytest.raises(ssl.SSLCertVerificationError, match="Missing Authority Key Identifier"):
        connect(server_context(files), client_context(files), SERVER)


def test_an_expired_list_lets_nobody_in(files: Material, tmp_path: Path) -> None:
    ca = CA()
    leaf = ca.leaf()
    files = material(tmp_path, leaf, ca)
    assert files.revoked is not None
    old = ca.list(now=today() - timedelta(days=30))
    files.revoked.write_bytes(certificates.pem(old))
    with pytest.raises(ssl.SSLCertVerificationError, match="CRL has expired"):
        connect(server_context(files), client_context(files), SERVER)


def test_a_list_that_is_not_there_is_an_error(files: Material) -> None:
    assert files.revoked is not None
    files.revoked.unlink()
    with pytest.raises(FileNotFoundError):
        server_context(files)


def test_a_servers_name_is_judged_by_the_cas_constraints(tmp_path: Path) -> None:
    """A CA that was stolen: it signs for a bank, and nobody believes it."""
    ca = CA()
    files = material(tmp_path, ca.leaf(Names(dns=("www.bank.example",))), ca)
    with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree violation"):
        connect(server_context(files), client_context(files), "www.bank.example")


def test_a_mismatched_pair_is_an_error(files: Material) -> None:
    files.key.write_bytes(certificates.key_pem(certificates.new_key()))
    with pytest.raises(ssl.SSLError, match="KEY_VALUES_MISMATCH"):
        server_context(files)


def test_whom_to_judge_by_must_be_named(files: Material) -> None:
    blind = Material(files.certificate, files.key)
    with pytest.raises(ValueError, match="no CA is named"):
        client_context(blind)
    with pytest.raises(ValueError, match="no CA is named"):
        server_context(blind, client=ssl.CERT_REQUIRED)
    server_context(blind)


def _without_identifiers(ca: CA) -> Leaf:
    key = certificates.new_key()
    names = names_for("server", "agent-1")
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(ca.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today() - timedelta(minutes=5))
        .not_valid_after(today() + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(name) for name in names.dns]), critical=True
        )
        .sign(ca.key, hashes.SHA256())
    )
    return Leaf(made, key)


def test_a_key_with_a_passphrase_is_told_and_nobody_is_asked(files: Material) -> None:
    """OpenSSL would ask the terminal, and the whole program would wait for its answer."""
    held = serialization.load_pem_private_key(files.key.read_bytes(), None)
    for form in (
        serialization.PrivateFormat.PKCS8,
        serialization.PrivateFormat.TraditionalOpenSSL,
    ):
        files.key.write_bytes(
            held.private_bytes(
                serialization.Encoding.PEM, form, serialization.BestAvailableEncryption(b"secret")
            )
        )
        for context in (server_context, client_context):
            with pytest.raises(
                ValueError, match=r"leaf-key\.pem: the private key has a passphrase"
            ):
                context(files)
