"""Keys, certificates, requests and revocation lists from files; one clear line for what is wrong.

A PEM file comes from outside: whatever bytes lie there, the answer is an object that has been read
whole (its extensions too) or `Unreadable`, whose text begins with the file's name.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.utils import CryptographyDeprecationWarning

from callboard.pki.certificates import Key

FILE_BYTES_MAX = 4 << 20
"""Of one file: a revocation list of 50,000 lines has 2 MB."""

BEGIN_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
BEGIN_LIST = b"-----BEGIN X509 CRL-----"
END_LIST = b"-----END X509 CRL-----"


class Unreadable(ValueError):
    """A file is not there or not what it should be; one line that names it."""


def read_bytes(path: Path) -> bytes:
    """A file's bytes, at most FILE_BYTES_MAX. Raises Unreadable."""
    try:
        with path.open("rb") as file:
            body = file.read(FILE_BYTES_MAX + 1)
    except (OSError, ValueError) as problem:  # ValueError: a name with a NUL
        reason = getattr(problem, "strerror", None) or problem
        raise Unreadable(f"{path}: {reason}") from problem
    if len(body) > FILE_BYTES_MAX:
        raise Unreadable(f"{path}: longer than {FILE_BYTES_MAX} bytes")
    return body


def read_certificates(path: Path) -> tuple[x509.Certificate, ...]:
    """All certificates of a PEM file, in order; at least one. Raises Unreadable."""
    return certificates_of(read_bytes(path), str(path))


def read_certificate(path: Path) -> x509.Certificate:
    """The first certificate of a PEM file. Raises Unreadable."""
    return read_certificates(path)[0]


def read_key(path: Path) -> Key:
    """A private key on P-256, PEM, not encrypted. Raises Unreadable."""
    return key_of(read_bytes(path), str(path))


def read_lists(path: Path) -> tuple[x509.CertificateRevocationList, ...]:
    """All revocation lists of a PEM file; at least one. Raises Unreadable."""
    return lists_of(read_bytes(path), str(path))


def certificates_of(body: bytes, where: str) -> tuple[x509.Certificate, ...]:
    """The certificates in PEM bytes; `where` is the name in the error. Raises Unreadable."""
    if BEGIN_CERTIFICATE not in body:
        raise Unreadable(f"{where}: no certificate in it (PEM is wanted)")
    with _reading(where, "certificate"):
        found = tuple(x509.load_pem_x509_certificates(body))
        for one in found:
            _touch(one.subject, one.issuer, one.not_valid_after_utc, one.not_valid_before_utc)
            _touch(one.extensions, one.public_key(), one.serial_number)
            if one.public_bytes(serialization.Encoding.DER)[-len(one.signature) - 1]:
                # (it may be good all the same, and these bits nobody has signed)
                raise ValueError("its signature is not of whole bytes")
    return found


def key_of(body: bytes, where: str) -> Key:
    """The private key in PEM bytes. Raises Unreadable."""
    if b"PRIVATE KEY-----" not in body:
        raise Unreadable(f"{where}: no private key in it (PEM is wanted)")
    if b"ENCRYPTED" in body:
        raise Unreadable(f"{where}: the private key has a passphrase; one without is wanted")
    with _reading(where, "private key"):
        key = serialization.load_pem_private_key(body, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise Unreadable(f"{where}: a private key on P-256 (ECDSA) is wanted")
    return key


def request_of(body: bytes, where: str) -> x509.CertificateSigningRequest:
    """The signing request in PEM bytes; its signature is not checked here. Raises Unreadable."""
    if b"CERTIFICATE REQUEST-----" not in body:
        raise Unreadable(f"{where}: no signing request in it (PEM is wanted)")
    with _reading(where, "signing request"):
        found = x509.load_pem_x509_csr(body)
        _touch(found.subject, found.extensions, found.public_key())
    return found


def lists_of(
    body: bytes, where: str, *, lines: bool = True
) -> tuple[x509.CertificateRevocationList, ...]:
    """The revocation lists in PEM bytes. Raises Unreadable.

    Their `lines` may be many: whoever wants the dates alone need not have them looked at.
    """
    blocks = list(_blocks(body))
    if not blocks:
        raise Unreadable(f"{where}: no revocation list in it (PEM is wanted)")
    with _reading(where, "revocation list"):
        found = tuple(x509.load_pem_x509_crl(block) for block in blocks)
        for one in found:
            _touch(one.issuer, one.last_update_utc, one.next_update_utc, one.extensions)
            if lines:
                _touch(*((line.serial_number, line.revocation_date_utc) for line in one))
    return found


def _blocks(body: bytes) -> Iterator[bytes]:
    """The revocation lists of a file one by one: the library reads the first only."""
    for part in body.split(BEGIN_LIST)[1:]:
        inside, end, _ = part.partition(END_LIST)
        yield BEGIN_LIST + inside + end + b"\n"


_WARNINGS = threading.Lock()
"""What is done about warnings is the process's, and files are read beside the loop too: two at a
time would leave it changed for good. A list of 50,000 lines holds it for 70 ms."""


@contextmanager
def _reading(where: str, what: str) -> Iterator[None]:
    try:
        with _WARNINGS, warnings.catch_warnings():
            # what the library warns of it will refuse some day: so do we, from today
            warnings.simplefilter("error", CryptographyDeprecationWarning)
            yield
    except Exception as problem:  # the parser's errors are of many kinds
        reason = " ".join(str(problem).split())[:160] or type(problem).__name__
        raise Unreadable(f"{where}: no readable {what}: {reason}") from problem


def _touch(*_values: object) -> None:
    """Fields are parsed when they are asked for: asked here, they fail here."""
