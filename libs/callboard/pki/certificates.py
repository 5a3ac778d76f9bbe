"""Keys, certificates, requests and revocation lists in memory: ECDSA P-256, RFC 5280 profiles.

The profiles are those which Python (VERIFY_X509_STRICT), OpenSSL 3 (-x509_strict), Go, GnuTLS, NSS
and Chromium all accept: the CA with critical basicConstraints and keyUsage, SKI and AKI; the leaf
with digitalSignature, both extended usages, SAN, SKI and AKI. Time is an argument.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from callboard.pki.roles import Names

Key = ec.EllipticCurvePrivateKey
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

SKEW = timedelta(minutes=5)
"""A certificate is good from this long before it is made: clocks differ."""
CA_LIFE = timedelta(days=3650)
LEAF_LIFE = timedelta(days=30)
CRL_LIFE = timedelta(days=7)
RENEW_AT = 2 / 3
"""Of a leaf's life."""
HASH = hashes.SHA256()

SERVER_AUTH = ExtendedKeyUsageOID.SERVER_AUTH
CLIENT_AUTH = ExtendedKeyUsageOID.CLIENT_AUTH


@dataclass(frozen=True, slots=True)
class Constraints:
    """What a CA may sign for (RFC 5280 section 4.2.1.10): these and what is below them.

    A kind that is empty is left unconstrained, so give both. URIs are not constrained: Chromium
    and the verifier of `cryptography` refuse every leaf with a URI from a CA that does so, and
    whoever reads a role looks at the trust domain.
    """

    dns: tuple[str, ...]
    networks: tuple[Network, ...]


@dataclass(frozen=True, slots=True)
class Revoked:
    """One line of a revocation list."""

    serial: int
    since: datetime


def new_key() -> Key:
    """A private key on P-256."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: Key, *, traditional: bool = False) -> bytes:
    """PKCS #8, or `traditional` SEC 1, which is all that Consul reads as the key of a CA.

    Not encrypted: the file's mode is its protection.
    """
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL
        if traditional
        else serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def pem(
    thing: x509.Certificate | x509.CertificateSigningRequest | x509.CertificateRevocationList,
) -> bytes:
    """A certificate, request or revocation list as PEM."""
    return thing.public_bytes(serialization.Encoding.PEM)


def authority(
    key: Key,
    common_name: str,
    now: datetime,
    *,
    life: timedelta = CA_LIFE,
    constraints: Constraints | None = None,
) -> x509.Certificate:
    """A self-signed CA that signs leaves only (pathlen 0)."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = (
        _builder(name, name, key.public_key(), now, life)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(own, critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own), critical=False
        )
    )
    if constraints is not None:
        builder = builder.add_extension(name_constraints(constraints), critical=True)
    return builder.sign(key, HASH)


def leaf(
    public_key: ec.EllipticCurvePublicKey,
    names: Names,
    issuer: x509.Certificate,
    issuer_key: Key,
    now: datetime,
    *,
    common_name: str,
    life: timedelta = LEAF_LIFE,
    purposes: Iterable[x509.ObjectIdentifier] = (SERVER_AUTH, CLIENT_AUTH),
) -> x509.Certificate:
    """A leaf for `names`. Its life ends with its issuer's, if that is sooner."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])
    life = min(life, issuer.not_valid_after_utc - now)
    issuer_ski = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return (
        _builder(subject, issuer.subject, public_key, now, life)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(_alternative(names), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_ski),
            critical=False,
        )
        .sign(issuer_key, HASH)
    )


def to_be_renewed(leaf: x509.Certificate, now: datetime) -> bool:
    """Whether RENEW_AT of a leaf's life has passed."""
    begins, ends = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    return now >= begins + (ends - begins) * RENEW_AT


def request(key: Key, common_name: str, names: Names) -> x509.CertificateSigningRequest:
    """A signing request (PKCS #10): the names that its maker would like to have."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if names != Names():
        builder = builder.add_extension(_alternative(names), critical=False)
    return builder.sign(key, HASH)


def revocation_list(
    issuer: x509.Certificate,
    issuer_key: Key,
    revoked: Iterable[Revoked],
    now: datetime,
    *,
    number: int,
    life: timedelta = CRL_LIFE,
) -> x509.CertificateRevocationList:
    """A CRL (RFC 5280 section 5); `number` must grow from one to the next."""
    ski = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.subject)
        .last_update(now - SKEW)
        .next_update(now + life)
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ski), critical=False
        )
    )
    for one in revoked:
        builder = builder.add_revoked_certificate(
            x509.RevokedCertificateBuilder()
            .serial_number(one.serial)
            .revocation_date(one.since)
            .build()
        )
    return builder.sign(issuer_key, HASH)


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of the DER as browsers show it: AB:CD:…"""
    return certificate.fingerprint(HASH).hex(":").upper()


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    now: datetime,
    life: timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(now + life)
    )


def _usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative(names: Names) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName(
        [
            *(x509.DNSName(name) for name in names.dns),
            *(x509.IPAddress(address) for address in names.addresses),
            *(x509.UniformResourceIdentifier(uri) for uri in names.uris),
        ]
    )


def name_constraints(constraints: Constraints) -> x509.NameConstraints:
    """The extension (to be marked critical)."""
    return x509.NameConstraints(
        permitted_subtrees=[
            *(x509.DNSName(name) for name in constraints.dns),
            *(x509.IPAddress(network) for network in constraints.networks),
        ],
        excluded_subtrees=None,
    )
