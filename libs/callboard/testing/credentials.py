"""The CA of a test server, and certificates in every state that a client must refuse.

All of it is made for one server and lives as long: an EC key and its certificate take less than a
millisecond. Files stand in a temporary folder that only the user of the test may enter.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.x509.oid import NameOID

from callboard.pki import certificates
from callboard.pki.certificates import CLIENT_AUTH, SERVER_AUTH, Key, Revoked
from callboard.pki.roles import LOOPBACK, Names

Condition = Literal[
    "good",
    "expired",
    "not yet valid",
    "wrong host",
    "self-signed",
    "untrusted root",
    "revoked",
    "incomplete chain",
]
"""What is the matter with a certificate."""

ROOT_NAME = "Callboard test CA"
OTHER_ROOT_NAME = "Callboard test CA that nobody trusts"
WRONG_HOST = "wrong.host.invalid"
YEAR = timedelta(days=365)
REVOKED_SERIALS = 64
"""Serial numbers that are in the revocation list from the start, so that a client may load it
before the certificate is made."""


@dataclass(frozen=True, slots=True)
class Credential:
    """A certificate with its key."""

    certificate: x509.Certificate
    path: str
    """PEM file of key and certificate (and what is sent along), as `requests`' `cert=`, curl's
    `--cert` and `SSLContext.load_cert_chain` take it. Mode 0600."""


@dataclass(frozen=True, slots=True)
class _Signer:
    certificate: x509.Certificate
    key: Key


class CA:
    """The authority that a test server's certificate comes from: a client that trusts `path`
    trusts the server."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(
            prefix="callboard-testing-", ignore_cleanup_errors=True
        )
        self._lock = threading.Lock()
        self._made = 0
        self._root = _root(ROOT_NAME)
        self._other_root: _Signer | None = None
        self._intermediate: _Signer | None = None
        self._revoked = [x509.random_serial_number() for _ in range(REVOKED_SERIALS)]
        self._revoked_used = 0
        self._crl_path = ""
        self._other_path = ""
        self.path = self._write("ca.pem", certificates.pem(self._root.certificate))
        """PEM file of the certificate."""

    @property
    def certificate(self) -> x509.Certificate:
        """The root's certificate."""
        return self._root.certificate

    @property
    def intermediate(self) -> x509.Certificate:
        """The certificate that "incomplete chain" leaves out."""
        with self._lock:
            return self._intermediate_signer().certificate

    @property
    def crl_path(self) -> str:
        """PEM file of the CA's revocation list; the certificates of "revoked" are in it."""
        with self._lock:
            if not self._crl_path:
                now = datetime.now(UTC)
                revoked = [Revoked(serial, now) for serial in self._revoked]
                made = certificates.revocation_list(
                    self._root.certificate, self._root.key, revoked, now, number=1
                )
                self._crl_path = self._write("crl.pem", certificates.pem(made))
            return self._crl_path

    @property
    def other_path(self) -> str:
        """PEM file of a CA that signed none of this server's clients."""
        with self._lock:
            if not self._other_path:
                content = certificates.pem(self._other().certificate)
                self._other_path = self._write("other.pem", content)
            return self._other_path

    def server(self, condition: Condition, dns: Sequence[str]) -> Credential:
        """A server's certificate for host names, and for loopback addresses with the first."""
        names = Names(dns=tuple(dns), addresses=LOOPBACK if "localhost" in dns else ())
        return self._issue(condition, names, dns[0], SERVER_AUTH)

    def client(self, condition: Condition, name: str) -> Credential:
        """A client's certificate: `name` is its common name, DNS name and SPIFFE service.

        Raises ValueError for a name that is none of DNS.
        """
        names = Names(dns=(name,), uris=(f"spiffe://test/svc/{name}",))
        return self._issue(condition, names, name, CLIENT_AUTH)

    def close(self) -> None:
        """Remove the files."""
        self._folder.cleanup()

    def _issue(
        self, condition: Condition, names: Names, name: str, purpose: x509.ObjectIdentifier
    ) -> Credential:
        with self._lock:
            key = certificates.new_key()
            signer, sent = self._signer(condition, name, key)
            if condition == "wrong host":
                names = Names(dns=(WRONG_HOST,))
            leaf = certificates.leaf(
                key.public_key(),
                names,
                signer.certificate,
                signer.key,
                _begins(condition),
                common_name=name,
                purposes=(purpose,),
            )
            if condition == "revoked":
                leaf = _numbered(leaf, signer.key, self._revoked_serial())
            self._made += 1
            chain = [certificates.pem(one) for one in (leaf, *sent)]
            content = b"".join([certificates.key_pem(key), *chain])
            return Credential(leaf, self._write(f"{self._made}.pem", content))

    def _signer(
        self, condition: Condition, name: str, key: Key
    ) -> tuple[_Signer, list[x509.Certificate]]:
        """Who signs, and which certificates are sent after the leaf."""
        if condition == "self-signed":
            return _Signer(certificates.authority(key, name, datetime.now(UTC)), key), []
        if condition == "untrusted root":
            return self._other(), [self._other().certificate]
        if condition == "incomplete chain":
            return self._intermediate_signer(), []
        return self._root, []

    def _other(self) -> _Signer:
        self._other_root = self._other_root or _root(OTHER_ROOT_NAME)
        return self._other_root

    def _intermediate_signer(self) -> _Signer:
        if self._intermediate is None:
            key = certificates.new_key()
            made = _authority(f"{ROOT_NAME}, intermediate", key, self._root, path_length=0)
            self._intermediate = _Signer(made, key)
        return self._intermediate

    def _revoked_serial(self) -> int:
        if self._revoked_used == len(self._revoked):
            raise RuntimeError(f"more than {REVOKED_SERIALS} revoked certificates of one CA")
        self._revoked_used += 1
        return self._revoked[self._revoked_used - 1]

    def _write(self, name: str, content: bytes) -> str:
        """Write a new file; nobody looks before it is whole, nobody needs it after a crash: that it
        be on the disk would be most of the time that a server takes to start."""
        path = Path(self._folder.name) / name
        with open(path, "xb", opener=_open_for_owner) as file:
            file.write(content)
        return str(path)


def _open_for_owner(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _begins(condition: Condition) -> datetime:
    """When a certificate of 30 days was or will be made."""
    now = datetime.now(UTC)
    if condition == "expired":
        return now - 2 * certificates.LEAF_LIFE
    if condition == "not yet valid":
        return now + timedelta(days=1)
    return now


def _root(common_name: str) -> _Signer:
    key = certificates.new_key()
    return _Signer(_authority(common_name, key, None, path_length=1), key)


def _authority(
    common_name: str, key: Key, signer: _Signer | None, *, path_length: int
) -> x509.Certificate:
    """A CA below `signer`, or its own. A year old: so are the certificates that expired."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    signing_key = signer.key if signer else key
    usage = dict.fromkeys(
        (
            "digital_signature",
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(signer.certificate.subject if signer else name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - YEAR)
        .not_valid_after(datetime.now(UTC) + YEAR)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(x509.KeyUsage(key_cert_sign=True, crl_sign=True, **usage), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key.public_key()),
            critical=False,
        )
        .sign(signing_key, certificates.HASH)
    )


def _numbered(leaf: x509.Certificate, key: Key, serial: int) -> x509.Certificate:
    """The same certificate with a serial number that was chosen before."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(leaf.subject)
        .issuer_name(leaf.issuer)
        .public_key(leaf.public_key())
        .serial_number(serial)
        .not_valid_before(leaf.not_valid_before_utc)
        .not_valid_after(leaf.not_valid_after_utc)
    )
    for extension in leaf.extensions:
        builder = builder.add_extension(extension.value, critical=extension.critical)
    return builder.sign(key, certificates.HASH)
